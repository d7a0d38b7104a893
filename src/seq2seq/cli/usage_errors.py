"""Mistakes on the command line, in the form of all other errors: what, where, hint, code."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from seq2seq.errors import UsageError

# The base of all errors of typer's parser, which has no public name.
CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class Command(TyperCommand):
    """A command that refuses an option given twice, and writes its help as Unix commands do: `RUN [FILE]`."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Arguments, under names in capitals, and options."""
        params = super().get_params(ctx)
        for param in params:
            if isinstance(param, TyperArgument) and param.metavar is None:
                param.metavar = str(param.name).upper()
        return params

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The parts of the usage line: `[OPTIONS] RUN [FILE]`."""
        arguments = [param for param in self.get_params(ctx) if isinstance(param, TyperArgument)]
        return ["[OPTIONS]", *map(_usage, arguments)]

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the tables of arguments and options, without Python's names of types."""
        for title, kind in (("Arguments", TyperArgument), ("Options", TyperOption)):
            records = [param.get_help_record(ctx) for param in self.get_params(ctx) if isinstance(param, kind)]
            if rows := [(_plain(record[0]), record[1]) for record in records if record]:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the arguments, after a check that no option but a flag or a repeatable one is given twice.

        Otherwise the last value would silently replace the others.
        """
        order = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in order:
            if not isinstance(option, TyperOption) or option.multiple or option.is_flag or option.count:
                continue
            if order.count(option) > 1:
                name = max(option.opts, key=len)
                raise UsageError(
                    f"{name} is given {order.count(option)} times",
                    where=ctx.command_path,
                    hint=f"give {name} once",
                    code="usage.command-line",
                )
        return super().parse_args(ctx, args)


def _usage(argument: TyperArgument) -> str:
    name = str(argument.metavar)
    if name.startswith("["):
        return name
    dots = "" if argument.nargs == 1 else "..."
    return f"{name}{dots}" if argument.required else f"[{name}{dots}]"


def _plain(name: str) -> str:
    """The first column of a table, without the type of an argument; a list has the type of its items."""
    if not name.startswith("-"):
        return name.partition(" <")[0]
    return re.sub(r"<(?:list\[)?(\w+)\]?(?: range)?>", lambda match: f"<{match[1].lower()}>", name)


def use_plain_commands(app: typer.Typer) -> None:
    """Make every command of an app a `Command`."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use_plain_commands(group.typer_instance)


def usage_error(error: Exception, arguments: list[str]) -> UsageError:
    """The `UsageError` for a `CommandLineError`."""
    # pydantic stands behind both, and would slow down --help if it were imported at the top.
    from pydantic import ValidationError

    from seq2seq.config.keys import known_key
    from seq2seq.config.messages import bounds, expected

    context = getattr(error, "ctx", None)
    command = " ".join(["seq2seq", *arguments[:1]]) if context is None else context.command_path
    hint, code = f"{command} --help", "usage.command-line"
    if isinstance(error, typer.BadParameter) and isinstance(error.__cause__, ValidationError) and error.param:
        problem = error.__cause__.errors()[0]
        name = error.param.opts[0]
        if isinstance(error.param, TyperOption) and (choices := error.param.type_descriptor.choices):
            return _not_a_choice(name, problem["input"], choices)
        if limits := bounds(problem):
            hint, code = f"{name} {limits[0]}", "usage.value"
        what = f"invalid value for '{name}': must be {expected(problem)}, not {problem['input']}"
        return UsageError(what, where=command, hint=hint, code=code)
    message, _, _ = error.format_message().partition(". Choose from:")  # type: ignore[attr-defined]
    what, _, near = message.rstrip(".:").partition(" Did you mean ")
    what, _, possible = what.partition(" (Possible options: ")
    what = what.rstrip(".")
    option = what.rpartition(" ")[2].lstrip("-")
    if what.startswith("No such option") and context is not None and _takes_settings(context) and known_key(option):
        hint = f"settings have no dashes: {option}=VALUE"
    elif near or possible:
        hint = f"did you mean {near.rstrip('?') or ' or '.join(possible.rstrip(')').split(', '))}?"
    elif what.startswith("Missing") and context is not None:
        hint = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return UsageError(what[:1].lower() + what[1:], where=command, hint=hint, code=code)


def _takes_settings(context: typer.Context) -> bool:
    return any("KEY=VALUE" in str(param.metavar) for param in context.command.params)


def _not_a_choice(option: str, value: str, choices: Sequence[str]) -> UsageError:
    *most, last = choices
    named = f"neither {most[0]} nor {last}" if len(choices) == 2 else f"none of {', '.join(most)} and {last}"
    return UsageError(f"{option} {value} is {named}", hint=f"{option} {choices[0]}", code="usage.choice")


def name_not_utf8(arguments: Sequence[str]) -> UsageError | None:
    """The error for the first argument that is not UTF-8, such as a file name from an old disk; None if all are."""
    odd = next((argument for argument in arguments if not _is_utf8(argument)), None)
    if odd is None:
        return None
    hint = "give another name, in UTF-8"
    for path in (*reversed(Path(odd).parents), Path(odd)):
        if not _is_utf8(path.name) and path.exists():
            # Most such names are Latin-1; a wrong guess gives an odd name, but a usable one.
            new = path.with_name(os.fsencode(path.name).decode("latin-1"))
            hint = f"rename it: mv {_bash_quoted(path)} {shlex.quote(str(new))}"
            break
    return UsageError(f"a name that is not UTF-8: {_escaped(odd)}", hint=hint, code="usage.value")


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _escaped(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _bash_quoted(path: Path) -> str:
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_escaped(quoted)}'"
