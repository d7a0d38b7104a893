"""`seq2seq check`"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.options import Checkpoint, Device, Json, Keep, Run, TargetTag, Threads
from seq2seq.console import format_table, muted
from seq2seq.sanitize import presentable, shorten

if TYPE_CHECKING:
    from seq2seq.checks.behaviour import Result, Summary

_WIDEST_EXAMPLE = 74


def check(
    run: Run,
    sentences: Annotated[
        int, typer.Option("--sentences", min=1, help="Sentences of the validation set that inputs are made of.")
    ] = 5,
    keep: Keep = None,
    target_tag: TargetTag = None,
    as_json: Json = False,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Try typical inputs on a run: numbers, URLs, placeholders, capitals, odd spaces, repetition, long lines.

    For each kind of input it prints how often the text was kept, altered or lost, and the worst example.

    \b
      seq2seq check runs/demo
      seq2seq check runs/demo --json
    """
    from seq2seq.checks.behaviour import check_behaviour, summaries
    from seq2seq.runs.load import load

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads)
    next(loaded.target_tags.add(["."], target_tag, "--target-tag"))  # refuses a missing or unknown one
    with muted():  # warnings about the numbers of lines that the user has never seen
        results = check_behaviour(loaded, sentences=sentences, target_tag=target_tag, keep=keep)
    found = summaries(results)
    if as_json:
        typer.echo(json.dumps(_as_json(results, found), ensure_ascii=False))
        return
    rows = [(summary.kind, summary.kept or "", summary.altered or "", summary.lost or "") for summary in found]
    examples = [_example(summary) for summary in found if summary.example.verdict != "kept"]
    typer.echo(presentable("\n\n".join([format_table(("input", "kept", "altered", "lost"), rows), *examples])))


def _example(summary: Summary) -> str:
    """The worst example of a kind, in two lines."""
    texts = summary.example.source, summary.example.output
    source, output = (shorten(" ".join(text.split()), _WIDEST_EXAMPLE) for text in texts)
    return f"{summary.kind}, {summary.example.verdict}:\n  {source}\n  -> {output}"


def _as_json(results: Sequence[Result], found: Sequence[Summary]) -> dict[str, Any]:
    return {
        "kinds": [summary._asdict() | {"example": summary.example._asdict()} for summary in found],
        "results": [result._asdict() for result in results],
    }
