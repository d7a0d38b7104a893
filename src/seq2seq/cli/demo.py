"""`seq2seq demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from seq2seq.cli.options import Quiet, Threads
from seq2seq.cli.results import print_result
from seq2seq.console import set_quiet
from seq2seq.sanitize import presentable

_SENTENCES = 5


def demo(
    model: Annotated[Literal["transformer", "gru"], typer.Option("--model", help="Architecture.")] = "transformer",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run directory. [default: runs/demo-MODEL]")
    ] = None,
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Train, evaluate and translate on a built-in English-German task, and show the attention.

    The sentences are simple; words that the model does not know, such as names, are copied.

    \b
      seq2seq demo
      seq2seq demo --model gru
    """
    set_quiet(quiet)
    folder = output or Path(f"runs/demo-{model}")
    settings = [f"preset=demo-{model}", f"name=demo-{model}", f"run_directory={folder}", f"threads={threads}"]
    from seq2seq.config import load_config
    from seq2seq.reports.report import refresh_report
    from seq2seq.runs.train import train

    print_result(train(load_config([], settings), refresh=refresh_report), as_json=False, quiet=quiet)

    from seq2seq.alignment.matrix import draw_attention
    from seq2seq.alignment.word_alignment import AlignmentOptions
    from seq2seq.runs.load import load

    loaded = load(folder, threads=threads)
    # Spread over the test set, so that they show more than one kind of sentence.
    pairs = loaded.directory.load_pairs("test")
    pairs = pairs[:: max(1, len(pairs) // _SENTENCES)][:_SENTENCES]
    translations = loaded.translate([source for source, _ in pairs])
    examples = [(*pair, translation) for pair, translation in zip(pairs, translations, strict=True)]
    for source, reference, translation in examples:
        mark = "" if translation == reference else f"   (reference: {reference})"
        typer.echo(presentable(f"\n{source}\n  > {translation}{mark}"))
    source, _, translation = min(examples, key=lambda example: abs(len(example[0].split()) - 8))
    [attention] = loaded.aligner().attention([(source, translation)])
    typer.echo("\n" + draw_attention(attention.matrix(AlignmentOptions(), words=True)))
