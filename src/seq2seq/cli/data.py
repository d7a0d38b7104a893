"""`seq2seq data`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.options import HELP, Json, Quiet, split_arguments
from seq2seq.console import format_table, say, set_quiet
from seq2seq.errors import UsageError

app = typer.Typer(help="Fetch and prepare corpora.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command()
def download(
    hub: Annotated[str, typer.Argument(help="Dataset id of the Hugging Face hub.", show_default=False)],
    source: Annotated[str, typer.Option("--source", "-s", help="Source column, e.g. en.", show_default=False)],
    target: Annotated[str, typer.Option("--target", "-t", help="Target column, e.g. de.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the text files.")] = Path("data"),
    config: Annotated[str | None, typer.Option("--config", help="Configuration of the dataset, e.g. de-en.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Split; may be repeated. [default: train]")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, tag or branch to pin.")] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a parallel corpus of the hub as plain text, a sentence a line, with a record of where it came from.

    \b
      seq2seq data download bentrevett/multi30k -s en -t de --split train --split validation --split test
      seq2seq data download Helsinki-NLP/opus_books --config de-en -s en -t de
    """
    set_quiet(quiet)
    for name, text in (("DATASET", hub), ("--source", source), ("--target", target)):
        if not text:
            raise UsageError(f"{name} is empty", hint="seq2seq data download ID -s en -t de", code="usage.value")
    if source == target:
        hint = "--source and --target name the columns of two languages"
        raise UsageError(f"source and target are the same column, {source}", hint=hint, code="usage.same-file")
    from seq2seq.config.sources import HubSource
    from seq2seq.data.download import download as fetch

    for name in split or ["train"]:
        wanted = HubSource(hub=hub, config=config, split=name, revision=revision, source=source, target=target)
        for path in fetch(wanted, output):
            typer.echo(str(path))


@app.command()
def prepare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[CONFIG...] [KEY=VALUE...]", help="YAML files, then settings.", show_default=False),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Clean, tokenise and store the corpora of a config, as training would; a table tells what was dropped.

    \b
      seq2seq data prepare my.yaml
    """
    set_quiet(quiet)
    from seq2seq.config import load_config
    from seq2seq.data.cache import cache_folder
    from seq2seq.data.prepare import prepare as prepare_data

    config = load_config(*split_arguments(arguments))
    prepared = prepare_data(config.data, config.tokenizer, cache=cache_folder(), seed=config.seed, tell_counts=False)
    if as_json:
        typer.echo(json.dumps(prepared.record, ensure_ascii=False))
        return
    typer.echo(format_table(["training pairs", "count"], prepared.report.rows()))
    say(
        f"validation {len(prepared.valid_pairs):,} pairs, test {len(prepared.test_pairs):,} pairs, "
        f"vocabulary {prepared.tokenizers.source.size:,} / {prepared.tokenizers.target.size:,}"
    )
