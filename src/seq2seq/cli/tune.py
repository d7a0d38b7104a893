"""`seq2seq tune`"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seq2seq.cli.notify import Notify, notifying
from seq2seq.cli.options import (
    ConfigArguments,
    Device,
    Json,
    Quiet,
    Threads,
    check_own_folder,
    exclude,
    machine_overrides,
    parse_minutes,
    split_arguments,
)
from seq2seq.cli.results import comparison_as_json, difference_as_json, metrics_table
from seq2seq.console import duration, format_table, say, set_quiet, warn
from seq2seq.errors import UsageError, UserError
from seq2seq.sanitize import presentable

if TYPE_CHECKING:
    from seq2seq.reports.compare import Comparison
    from seq2seq.tuning.ensemble import EnsembleScores
    from seq2seq.tuning.search import Preparation, TuneResult
    from seq2seq.tuning.setup import Setup


def tune(
    arguments: ConfigArguments = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            parser=parse_minutes,
            help="Time for the whole search, such as 60m or 8h (a bare number: minutes).",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the trials. [default: runs/NAME-tune]")
    ] = None,
    sampler: Annotated[
        Literal["auto", "grid", "random", "optuna"],
        typer.Option("--sampler", help="Draws the settings to try; optuna needs pip install '.[tune]'."),
    ] = "auto",
    ensemble: Annotated[
        int, typer.Option("--ensemble", min=1, help="Number of trials to train to the end and to combine.")
    ] = 1,
    device: Device = "",
    threads: Threads = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the space and the plan, and leave nothing behind.")
    ] = False,
    notify: Notify = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for better settings within a time. The same command again goes on.

    Many trials train for a while, the better third of them goes on, and the best one to its end. Without `key=a,b,c`,
    what to try is chosen from the config.

    \b
      seq2seq tune my.yaml --budget 60m
      seq2seq tune my.yaml --budget 2h model.dropout=0.1,0.2,0.3
      seq2seq tune my.yaml --budget 2h --ensemble 3
      seq2seq tune my.yaml --budget 60m --dry-run
    """
    set_quiet(quiet)
    if output is not None:
        check_own_folder(output, "trials want a folder of their own", "-o runs/tuning")
    files, overrides = split_arguments(arguments)
    if not arguments:
        raise UsageError("nothing to tune", hint="seq2seq tune CONFIG --budget 60m", code="usage.nothing-to-do")
    if budget is None:
        raise UsageError("tune needs a time for the search", hint="--budget 60m", code="usage.nothing-to-do")
    exclude("tune", [("torchrun", "RANK" in os.environ)], "it starts the ranks of each trial itself")
    overrides += machine_overrides(device, threads)
    from seq2seq.reports.compare import compare
    from seq2seq.reports.report import refresh_report
    from seq2seq.tuning.search import prepare, show_score
    from seq2seq.tuning.search import tune as search
    from seq2seq.tuning.setup import read_setup

    setup = read_setup(files, overrides, ensemble)
    if dry_run:
        _print_plan(setup, prepare(setup, budget, sampler), as_json=as_json)
        return
    folder = output or Path(f"runs/{setup.config.name or 'run'}-tune")
    with notifying(notify, folder) as outcome:
        result = search(setup, folder, budget, sampler=sampler, refresh=refresh_report)
        outcome.score = f"validation {show_score(result.best.scores[-1])}"
    runs = [folder / trial.name for trial in result.finalists]
    is_shown = as_json or not quiet
    comparison = compare(runs) if len(runs) > 1 and is_shown else None
    scores = _scores_of_members(setup, result) if result.members and is_shown else None
    _print_result(result, comparison, scores, as_json=as_json, quiet=quiet)


def _scores_of_members(setup: Setup, result: TuneResult) -> EnsembleScores | None:
    from seq2seq.tuning.ensemble import score_ensemble

    runs = [result.folder / trial.name for trial in result.members]
    try:
        return score_ensemble(runs, result.best.scores[-1].metric, setup.config.device, setup.config.threads)
    except UserError as error:  # the search itself has ended well
        warn(f"the ensemble has no scores: {error.what}")
        return None


def _print_plan(setup: Setup, preparation: Preparation, *, as_json: bool) -> None:
    from seq2seq.tuning.search import show_plan
    from seq2seq.tuning.space import size

    plan = preparation.plan
    if as_json:
        rungs = [
            {"share": share, "trials": plan.survivors(plan.trials, rung)} for rung, share in enumerate(plan.shares)
        ]
        facts = {
            "space": {dimension.name: list(dimension.labels) for dimension in setup.space},
            "sampler": preparation.sampler,
            "seconds_per_trial": plan.seconds,
            "seconds": plan.cost(plan.trials, preparation.start_seconds),
            "rungs": rungs,
        }
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    rows = [(dimension.name, ", ".join(dimension.labels)) for dimension in setup.space]
    typer.echo(presentable(format_table((f"to try ({size(setup.space):,} ways)", "values"), rows)))
    took = duration(plan.cost(plan.trials, preparation.start_seconds))
    typer.echo(f"\n{show_plan(preparation)}\nabout {took} in all")


def _print_result(
    result: TuneResult,
    comparison: Comparison | None,
    ensemble: EnsembleScores | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    search, best = result.search, result.best
    failed = sum(bool(trial.error) for trial in search.trials)
    if as_json:
        facts = _as_json(result, comparison and comparison_as_json(comparison), ensemble)
        typer.echo(json.dumps(facts, ensure_ascii=False))
    elif quiet:
        typer.echo(f"{best.scores[-1].score:.2f}")
    elif comparison is not None:
        from seq2seq.reports.compare import comparison_text

        parts = [comparison_text(comparison)]
        if ensemble is not None:
            parts.append(_ensemble_section(result, ensemble))
        typer.echo(presentable("\n\n".join(parts)))
    if quiet:
        return
    run = result.folder / best.name
    say(
        f"{len(search.trials)} trials in {search.seconds / 60:.1f} minutes{f', {failed} failed' if failed else ''}; "
        f"the best on the validation set is {run}: {' '.join(best.settings) or 'the config as it is'}"
    )
    say(f"wrote {result.config}")
    name, config, folder = (shlex.quote(str(path)) for path in (run, result.config, result.folder))
    together = ""
    if ensemble is not None and _is_better(result, ensemble):
        others = [shlex.quote(str(result.folder / trial.name)) for trial in result.members[1:]]
        options = "".join(f" --ensemble {other}" for other in others)
        together = (
            f"\n      seq2seq translate {name}{options} FILE"
            f"\n      seq2seq distill {name}{options} --size same --genuine -o runs/ONE"
        )
    say(f"next: seq2seq translate {name} FILE{together}\n      seq2seq train {config}\n      seq2seq runs {folder}")


def _is_better(result: TuneResult, scores: EnsembleScores) -> bool:
    """True if an ensemble is better than its best member on the validation set, or has no score there."""
    return scores.validation is None or scores.validation > result.best.scores[-1].score


def _ensemble_section(result: TuneResult, scores: EnsembleScores) -> str:
    """The scores of the ensemble, beside those of its best member."""
    from seq2seq.evaluation.significance import describe_difference

    best = result.best
    lines = [f"ensemble of {', '.join(trial.name for trial in result.members)}"]
    if scores.validation is not None:
        alone = best.scores[-1]
        lines.append(f"validation {alone.metric} {scores.validation:.2f} ({best.name} alone: {alone.score:.2f})")
    if scores.test:
        lines.append(f"test set:\n{metrics_table(scores.test)}")
    lines += [
        describe_difference(test.metric, test.scores[1], "the ensemble", test.scores[0], best.name)
        for test in scores.differences[:1]
    ]
    return "\n".join(lines)


def _as_json(result: TuneResult, comparison: dict[str, Any] | None, ensemble: EnsembleScores | None) -> dict[str, Any]:
    def listed(trials: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {
                "run": str(result.folder / trial.name),
                "settings": trial.settings,
                "scores": [score.model_dump() for score in trial.scores],
                "error": trial.error,
            }
            for trial in trials
        ]

    return {
        "folder": str(result.folder),
        "best": listed([result.best])[0],
        "config": str(result.config),
        "minutes": result.search.seconds / 60,
        "trials": listed(result.search.trials),
        "comparison": comparison,
        "ensemble": ensemble
        and _ensemble_as_json([str(result.folder / trial.name) for trial in result.members], ensemble),
    }


def _ensemble_as_json(runs: list[str], scores: EnsembleScores) -> dict[str, Any]:
    differences = {test.metric: difference_as_json(test) for test in scores.differences}
    test = [metric._asdict() | differences.get(metric.name, {}) for metric in scores.test]
    return {"runs": runs, "validation": scores.validation, "test": test}
