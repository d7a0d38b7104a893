"""`seq2seq init`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from seq2seq.cli.input import check_output
from seq2seq.cli.new_config import config_for, named_corpora
from seq2seq.cli.options import (
    Budget,
    InitFrom,
    PairsFile,
    SourceFile,
    TargetFile,
    TestFiles,
    ValidFiles,
    exclude,
)
from seq2seq.cli.output import write_whole
from seq2seq.console import say
from seq2seq.errors import UsageError


def init(
    output: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config to write; - prints it.")] = Path(
        "seq2seq.yaml"
    ),
    source: SourceFile = None,
    target: TargetFile = None,
    pairs: PairsFile = None,
    valid: ValidFiles = None,
    test: TestFiles = None,
    init_from: InitFrom = None,
    model: Annotated[
        Literal["auto", "transformer", "gru"], typer.Option("--model", help="Architecture; auto decides by the size.")
    ] = "auto",
    budget: Budget = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented config for your own files, sizes chosen from the corpus.

    \b
      seq2seq init --source corpus.en --target corpus.de my.yaml
      seq2seq init --pairs corpus.tsv --test test.tsv my.yaml
      seq2seq init --pairs corpus.tsv --budget 30m my.yaml
      seq2seq init --pairs new.tsv --init-from runs/mine tuned.yaml
      seq2seq train my.yaml
    """
    exclude("--init-from", [("--model", init_from is not None and model != "auto")], "that run has a model")
    from seq2seq.config.sources import files_of

    corpora = named_corpora(source, target, pairs, valid, test)
    if corpora is None:
        raise UsageError(
            "no corpus is named", hint="--source FILE --target FILE, or --pairs FILE", code="usage.nothing-to-do"
        )
    printed = str(output) == "-"
    sources = (corpora.train, *corpora.valid, *corpora.test)
    check_output(output, [Path(name) for corpus in sources for name in files_of(corpus)], option="")
    if not printed and output.exists() and not force:
        raise UsageError(f"{output} exists", hint="--force replaces it; or give another name", code="usage.exists")
    name = "mine" if printed else output.stem
    write_whole(output, config_for(corpora, kind=model, name=name, minutes=budget, init_from=init_from))
    if not printed:
        named = f"./{output}" if str(output).startswith("-") else str(output)  # not an option
        say(f"wrote {output}\nnext: seq2seq train {shlex.quote(named)}")
