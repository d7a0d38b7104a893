"""What the parser of the command line finds wrong, in the form and words of all other errors."""

from __future__ import annotations

import re

import typer

from seq2seq.errors import UsageError, UserError

# Old versions of typer raise click's errors, new ones those of their own copy of click.
CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# What typer says of a value, pydantic's words in new versions, click's in old ones, and what is meant.
_BOUNDS = [
    (r"Input should be greater than or equal to (?P<bound>\S+)", "{} or more"),
    (r"Input should be less than or equal to (?P<bound>\S+)", "{} or less"),
    (r"(?P<given>.*) is not in the range x>=(?P<bound>[^<\s]+)", "{} or more"),
    (r"(?P<given>.*) is not in the range x<=(?P<bound>\S+)", "{} or less"),
    (r"(?P<given>.*) is not in the range (?P<bound>.*)<=x<=(?P<top>.*)", "from {} to {}"),
]
_KINDS = [
    (r"Input should be a valid integer.*", "a whole number"),
    (r"Input should be a valid number.*", "a number"),
    (r"(?P<given>.*) is not a valid int(?:eger)?(?: range)?", "a whole number"),
    (r"(?P<given>.*) is not a valid float(?: range)?", "a number"),
]


def in_our_words(error: Exception, arguments: list[str]) -> UserError:
    """The same mistake with a place, a code and a remedy; `error` is a `CommandLineError`."""
    context = getattr(error, "ctx", None)
    command = " ".join(["seq2seq", *arguments[:1]]) if context is None else context.command_path
    if (wrong := _wrong_value(error, command)) is not None:
        return wrong
    what = error.format_message().rstrip(".:")  # type: ignore[attr-defined]
    what, _, near = what.partition(" Did you mean ")
    what, _, possible = what.partition(" (Possible options: ")
    what = what.rstrip(".")
    option = what.rpartition(" ")[2].lstrip("-")
    from seq2seq.config.messages import known_key  # slow to import: not at the top

    if what.startswith("No such option") and known_key(option):
        hint = f"settings have no dashes: {option}=VALUE"
    elif near or possible:
        hint = f"did you mean {near.rstrip('?') or ' or '.join(possible.rstrip(')').split(', '))}?"
    elif what.startswith("Missing") and context is not None:
        hint = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    else:
        hint = f"{command} --help"
    return UsageError(what[:1].lower() + what[1:], where=command, hint=hint, code="usage.command-line")


def _wrong_value(error: Exception, command: str) -> UserError | None:
    """The error for a value that is no number, or one that is too small or too large; None for all other mistakes."""
    names = getattr(getattr(error, "param", None), "opts", None)
    message = str(getattr(error, "message", "")).rstrip(".")
    if not names:
        return None
    for patterns, code in ((_BOUNDS, "usage.value"), (_KINDS, "usage.command-line")):
        for pattern, wanted in patterns:
            if (found := re.fullmatch(pattern, message)) is None:
                continue
            parts = found.groupdict()
            given = parts.get("given") or _given(error)
            bounds = [parts[name] for name in ("bound", "top") if parts.get(name)]
            what = f"invalid value for '{names[0]}': must be {wanted.format(*bounds)}"
            return UsageError(
                what + (f", not {given.strip(chr(39))}" if given else ""),
                where=command,
                hint=f"{names[0]} {bounds[0]}" if bounds else f"{command} --help",
                code=code,
            )
    return None


def _given(error: Exception) -> str:
    """The value as it was typed, where pydantic has kept it."""
    try:
        return str(error.__cause__.errors()[0]["input"])  # type: ignore[union-attr]
    except (AttributeError, LookupError, TypeError):
        return ""
