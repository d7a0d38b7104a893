"""`seq2seq score`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.input import check_stdin, input_text
from seq2seq.cli.options import (
    Checkpoint,
    Device,
    Ensemble,
    Json,
    LengthPenalty,
    Quiet,
    Run,
    TargetTag,
    Threads,
    require,
)
from seq2seq.console import Progress, set_quiet
from seq2seq.errors import UsageError
from seq2seq.resumable_output import require_stdout

if TYPE_CHECKING:
    from seq2seq.decoding.forced_decoding import TargetScore
    from seq2seq.runs.loaded_run import LoadedRun


def score(
    run: Run,
    source: Annotated[Path, typer.Option("--source", "-s", help="Source file.", show_default=False)],
    target: Annotated[Path, typer.Option("--target", "-t", help="Target file.", show_default=False)],
    target_tag: TargetTag = None,
    normalized: Annotated[
        bool, typer.Option("--normalized", help="Print log P / length^a, the score of a search.")
    ] = False,
    length_penalty: LengthPenalty = None,
    token_scores: Annotated[
        bool, typer.Option("--token-scores", help="With --json: log P of each piece and of the end mark.")
    ] = False,
    ensemble: Ensemble = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print log P(target | source) of each pair of lines, in nats, end mark included.

    \b
      seq2seq score runs/demo --source a.en --target a.de
      seq2seq score runs/demo --source a.en --target a.de --json --token-scores
    """
    set_quiet(quiet)
    if length_penalty is not None and not (normalized or as_json):
        raise UsageError(
            "--length-penalty belongs to --normalized and --json", hint="add --normalized", code="usage.needs"
        )
    if token_scores:
        require("--token-scores", "--json", as_json)
    check_stdin((source, target))
    require_stdout()
    from seq2seq.runs.load import load

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads, ensemble=ensemble or ())
    alpha = loaded.config.decoding.length_penalty if length_penalty is None else length_penalty
    for number, item in enumerate(_scores(loaded, source, target, target_tag), start=1):
        ranked = item.log_probability / item.length**alpha if item.length else 0.0
        if as_json:
            entry: dict[str, Any] = {"line": number, "log_probability": item.log_probability, "score": ranked}
            entry["length"] = item.length
            if token_scores:
                entry |= {"pieces": item.pieces, "token_scores": list(item.token_scores)}
            typer.echo(json.dumps(entry, ensure_ascii=False))
        else:
            typer.echo(f"{ranked if normalized else item.log_probability:.4f}")


def _scores(loaded: LoadedRun, source: Path, target: Path, target_tag: str | None) -> Iterator[TargetScore]:
    """The score of each pair of lines. Files are checked to their ends first."""
    from seq2seq.data.files import paired

    def pairs() -> Iterator[tuple[str, str]]:
        sources = loaded.target_tags.add(input_text(source, "strict").lines, target_tag, "--target-tag")
        return paired(sources, input_text(target, "strict").lines, (str(source), str(target)))

    count = sum(1 for _ in pairs()) if source.is_file() and target.is_file() else None
    translator = loaded.translator
    with Progress("scoring", count, "pairs") as progress:
        yield from progress.over(translator.score(pairs()), every=translator.parallelism.scored_pairs)
