"""`seq2seq compare` and `seq2seq runs`"""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.input import check_output
from seq2seq.cli.options import HtmlFile, Json, complete_runs, exclude_json
from seq2seq.cli.output import write_whole
from seq2seq.cli.results import comparison_as_json, summary_as_json
from seq2seq.console import format_table
from seq2seq.errors import UsageError
from seq2seq.sanitize import presentable

if TYPE_CHECKING:
    from seq2seq.reports.run_summary import RunSummary


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run directories; the first is the baseline.", autocompletion=complete_runs),
    ],
    as_json: Json = False,
    html: HtmlFile = None,
) -> None:
    """Compare runs: settings that differ, curves, cost, and test scores with 95 % intervals and significance.

    Scores are compared if the runs have the same test set: by paired bootstrap resampling and by approximate
    randomisation, both sacrebleu's.

    \b
      seq2seq compare runs/baseline runs/wider
      seq2seq compare runs/* --json
      seq2seq compare runs/* --html comparison.html
    """
    from seq2seq.reports.compare import compare as compare_runs
    from seq2seq.reports.compare import comparison_page, comparison_text
    from seq2seq.reports.page import to_html

    exclude_json(html, as_json)
    check_output(html, runs=runs, option="--html")
    comparison = compare_runs(runs)
    if html is not None:
        write_whole(html, to_html(comparison_page(comparison)))
    if str(html) == "-":
        return
    if as_json:
        typer.echo(json.dumps(comparison_as_json(comparison), ensure_ascii=False))
        return
    typer.echo(comparison_text(comparison))


def list_runs(
    folder: Annotated[Path, typer.Argument(help="Folder to look in, with all folders below it.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder, the newest first: state, steps, best validation score, test BLEU and age.

    \b
      seq2seq runs
      seq2seq runs experiments --json
    """
    from seq2seq.reports.run_summary import find_runs

    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", hint="seq2seq runs FOLDER", code="usage.nothing-to-do")
    summaries, damaged = find_runs(folder)
    if as_json:
        listed = [summary_as_json(summary) for summary in summaries]
        broken = [{"run": str(path), "state": "damaged", "fault": fault} for path, fault in damaged]
        typer.echo(json.dumps([*listed, *broken], ensure_ascii=False))
        return
    rows = [_row(summary, folder) for summary in summaries]
    rows += [(str(path.relative_to(folder)), "damaged", "", "", "", "", "") for path, _ in damaged]
    if not rows:
        typer.echo(f"no runs in {folder}; train one: seq2seq train CONFIG")
        return
    typer.echo(
        presentable(format_table(("run", "state", "model", "steps", "best validation", "test BLEU", "age"), rows))
    )
    for summary in summaries:
        if summary.state == "stopped":
            typer.echo(presentable(f"\nto continue {summary.path}: {_continuation(summary)}"))
            break
    for path, fault in damaged:
        typer.echo(presentable(f"\n{path}: {fault} (seq2seq doctor {shlex.quote(str(path))})"))


def _continuation(summary: RunSummary) -> str:
    """The command that continues a run, in the folder that the names of its corpora start from."""
    from seq2seq.runs.corpus_files import folder_of_corpora

    run, folder = summary.path, folder_of_corpora(summary.path, summary.config)
    start = ""
    if folder != Path():
        run, start = run.resolve().relative_to(folder), f"cd {shlex.quote(str(folder))} && "
    # A copy's config names the original folder.
    return f"{start}seq2seq train {shlex.quote(str(run / 'config.yaml'))} -o {shlex.quote(str(run))}"


def _row(summary: RunSummary, folder: Path) -> tuple[str, ...]:
    best = summary.best
    return (
        str(summary.path.relative_to(folder)),
        summary.state,
        summary.config.model.kind,
        f"{summary.step:,}/{summary.config.training.max_steps:,}",
        f"{summary.metric} {best.score:.2f}" if best else "",
        f"{summary.scores['BLEU']:.2f}" if "BLEU" in summary.scores else "",
        _age(time.time() - summary.changed),
    )


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "now"
