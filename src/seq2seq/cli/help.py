"""`seq2seq help`"""

from __future__ import annotations

import json
import textwrap
from typing import Annotated

import typer

from seq2seq.cli.options import HELP, Json
from seq2seq.error_catalogue import CATALOGUE
from seq2seq.errors import UsageError, closest

app = typer.Typer(help="Explain errors.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _help() -> None:
    """Explain errors."""


@app.command(short_help="Explain error codes: cause, remedy, exit code.")
def errors(
    code: Annotated[
        str, typer.Argument(help="A code such as config.unknown-key, or its first part. [default: all]")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print cause, remedy and exit code of the error codes that end each message in brackets.

    \b
      seq2seq help errors
      seq2seq help errors checkpoint.damaged
    """
    code = code.strip("[]")
    entries = {name: entry for name, entry in CATALOGUE.items() if name == code}
    entries = entries or {name: entry for name, entry in CATALOGUE.items() if name.startswith(code)}
    if not entries:
        close = closest(code, CATALOGUE)
        hint = f"did you mean {close}?" if close else "seq2seq help errors lists all"
        raise UsageError(f"no error has the code {code}", hint=hint, code="usage.code")
    if as_json:
        typer.echo(json.dumps({name: entry._asdict() for name, entry in entries.items()}))
        return
    for name, entry in entries.items():
        typer.echo(f"{name}  (exit code {entry.exit_code})")
        for line in (entry.cause, f"Remedy: {entry.remedy}"):
            typer.echo(textwrap.fill(line, width=96, initial_indent="    ", subsequent_indent="    "))
