"""`seq2seq check`"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.options import Checkpoint, Device, Json, Keep, Run, TargetTag, Threads, parse_kinds
from seq2seq.console import format_table
from seq2seq.sanitize import presentable

if TYPE_CHECKING:
    from seq2seq.checks.behaviour import Result, Summary

_WIDEST_EXAMPLE = 48


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
    parse_kinds(keep)
    from seq2seq.checks.behaviour import check_behaviour, summaries
    from seq2seq.runs.load import load

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads)
    results = check_behaviour(loaded, sentences=sentences, target_tag=target_tag, keep=keep)
    if as_json:
        typer.echo(json.dumps(_as_json(results, summaries(results)), ensure_ascii=False))
        return
    rows = [_row(summary) for summary in summaries(results)]
    typer.echo(presentable(format_table(("input", "kept", "altered", "lost", "for example"), rows)))


def _row(summary: Summary) -> tuple[str, ...]:
    example = f"{_short(summary.example.source)} -> {_short(summary.example.output)}"
    counts = (str(count or "") for count in (summary.kept, summary.altered, summary.lost))
    return (summary.kind, *counts, "" if summary.example.verdict == "kept" else example)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST_EXAMPLE else text[: _WIDEST_EXAMPLE - 1] + "…"


def _as_json(results: Sequence[Result], found: Sequence[Summary]) -> dict[str, Any]:
    return {
        "kinds": [summary._asdict() | {"example": summary.example._asdict()} for summary in found],
        "results": [result._asdict() for result in results],
    }
