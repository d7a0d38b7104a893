"""Mistakes on the command line, in the form of all other errors: what, where, hint, code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from seq2seq.errors import UsageError

# The base of all errors of typer's parser, which has no public name.
CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def usage_error(error: Exception, arguments: list[str]) -> UsageError:
    """The `UsageError` for a `CommandLineError`."""
    # pydantic stands behind both, and would slow down --help if it were imported at the top.
    from pydantic import ValidationError

    from seq2seq.config.messages import bounds, expected, known_key

    context = getattr(error, "ctx", None)
    command = " ".join(["seq2seq", *arguments[:1]]) if context is None else context.command_path
    hint, code = f"{command} --help", "usage.command-line"
    if isinstance(error, typer.BadParameter) and isinstance(error.__cause__, ValidationError) and error.param:
        problem = error.__cause__.errors()[0]
        name = error.param.opts[0]
        if limits := bounds(problem):
            hint, code = f"{name} {limits[0]}", "usage.value"
        what = f"invalid value for '{name}': must be {expected(problem)}, not {problem['input']}"
        return UsageError(what, where=command, hint=hint, code=code)
    what, _, near = error.format_message().rstrip(".:").partition(" Did you mean ")  # type: ignore[attr-defined]
    what, _, possible = what.partition(" (Possible options: ")
    what = what.rstrip(".")
    option = what.rpartition(" ")[2].lstrip("-")
    if what.startswith("No such option") and known_key(option):
        hint = f"settings have no dashes: {option}=VALUE"
    elif near or possible:
        hint = f"did you mean {near.rstrip('?') or ' or '.join(possible.rstrip(')').split(', '))}?"
    elif what.startswith("Missing") and context is not None:
        hint = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return UsageError(what[:1].lower() + what[1:], where=command, hint=hint, code=code)


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
