"""`seq2seq config`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from seq2seq.cli.options import HELP, split_arguments

app = typer.Typer(help="Look at settings.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[CONFIG...] [KEY=VALUE...]", show_default=False)
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Only what differs from the defaults.")] = False,
) -> None:
    """Print the complete settings of a config, defaults included.

    \b
      seq2seq config show configs/demo.yaml model.kind=gru
    """
    from seq2seq.config import config_to_yaml, load_config

    config = load_config(*split_arguments(arguments))
    if diff:
        from seq2seq.config.differences import changed_settings

        for line in changed_settings(config):
            typer.echo(line)
        return
    typer.echo(config_to_yaml(config), nl=False)


@app.command()
def reference(
    part: Annotated[str, typer.Argument(help="Only the keys that begin so, e.g. training.")] = "",
) -> None:
    """Print every key with type, default and meaning.

    \b
      seq2seq config reference training.optimizer
    """
    from seq2seq.config.reference import reference_lines

    for line in reference_lines(part):
        typer.echo(line)


@app.command(short_help="Print the JSON Schema, for editors.")
def schema() -> None:
    """Print the JSON Schema, for editors that complete and check YAML."""
    from seq2seq.config.reference import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
