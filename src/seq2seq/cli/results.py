"""Results that several commands print: scores, findings and comparisons, as tables and as plain data for JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seq2seq.console import counted, format_table, say, write_stderr
from seq2seq.errors import UserError
from seq2seq.system import is_first_rank

if TYPE_CHECKING:
    from seq2seq.checks.diagnosis import Diagnosis
    from seq2seq.evaluation.metrics import MetricResult
    from seq2seq.evaluation.significance import MetricTest
    from seq2seq.reports.compare import Comparison
    from seq2seq.reports.report import Translations
    from seq2seq.reports.run_summary import RunSummary
    from seq2seq.runs.train import RunResult

_MOST_FINDINGS = 3
_NEXT_STEPS = 3


def print_result(result: RunResult, *, as_json: bool, quiet: bool) -> None:
    """Print the test scores of a run and its gravest findings; under torchrun the first rank alone prints."""
    if not is_first_rank():
        return
    if as_json:
        typer.echo(json.dumps(_result_as_json(result), ensure_ascii=False))
    elif quiet:
        typer.echo("".join(f"{metric.value:.2f}\n" for metric in result.metrics[:1]), nl=False)
    else:
        print_metrics(result.metrics)
        print_parts("corpus", result.by_corpus)
        _print_before_and_after(result)
        write_stderr(
            f"{counted(result.steps, 'step')} in {result.minutes:.1f} minutes; best model: {result.checkpoint}"
        )
    if not quiet:
        _print_next_steps(result.directory, print_findings(result.directory))


def _result_as_json(result: RunResult) -> dict[str, Any]:
    metrics = [metric._asdict() for metric in result.metrics]
    by_corpus = {name: [metric._asdict() for metric in found] for name, found in result.by_corpus.items()}
    scores = {
        name: part and part.model_dump() for name, part in (("start", result.start), ("old_test", result.old_test))
    }
    return {
        **result._asdict(),
        "directory": str(result.directory),
        "metrics": metrics,
        "by_corpus": by_corpus,
        **scores,
    }


def _print_before_and_after(result: RunResult) -> None:
    """Print what a fine-tuning has gained on the new test set, and lost on that of the run it started from."""
    from seq2seq.reports.run_summary import BEFORE_AND_AFTER, before_and_after

    if rows := before_and_after(result.start, result.metrics, result.old_test):
        typer.echo("\n" + format_table(BEFORE_AND_AFTER, rows))


def _print_next_steps(run: Path, findings: Sequence[Diagnosis]) -> None:
    """Print the report's path and the three best next commands on stderr."""
    name = shlex.quote(str(run))
    commands = [f"seq2seq translate {name} FILE"]
    commands += [finding.command for finding in findings[:1]]
    commands += [f"seq2seq check {name}", f"seq2seq evaluate {name} --source FILE --references FILE"]
    if (run / "report.html").is_file():
        say(f"report: {run / 'report.html'}")
    say("next: " + "\n      ".join(list(dict.fromkeys(commands))[:_NEXT_STEPS]))


def print_findings(run: Path, translations: Translations | None = None, options: Sequence[str] = ()) -> list[Diagnosis]:
    """Print the three gravest findings about a run on stderr, and return them; a run with damaged records has none.

    `options` of `evaluate` made the translations; a command that evaluates the same text once more has them, too.
    """
    from seq2seq.reports.report import run_findings

    findings: list[Diagnosis] = []
    with suppress(UserError):
        # Scores of few sentences say so themselves.
        findings = [each for each in run_findings(run, translations) if each.code != "few-sentences"][:_MOST_FINDINGS]
        for finding in findings:
            again = finding.command.startswith("seq2seq evaluate ") and "--source" not in finding.command
            command = f"{finding.command} {shlex.join(options)}".rstrip() if again else finding.command
            say(f"finding: {finding.message}: {finding.evidence}\n    {command}")
    return findings


def print_metrics(metrics: Sequence[MetricResult]) -> None:
    """Print the metrics as a table."""
    if metrics:
        typer.echo(metrics_table(metrics))


def print_parts(kind: str, parts: Mapping[str, Sequence[MetricResult]]) -> None:
    """Print the metrics of each part of a test set, such as a corpus, below its name."""
    for name, metrics in parts.items():
        typer.echo(f"\n{kind} {name}\n{metrics_table(metrics)}")


def metrics_table(metrics: Sequence[MetricResult]) -> str:
    """The metrics with their signatures as a table."""
    width = max(len(metric.signature) for metric in metrics)
    rows = [(metric.name, f"{metric.value:.2f}", metric.signature.ljust(width)) for metric in metrics]
    return format_table(["metric", "score", "signature"], rows)


def difference_as_json(test: MetricTest) -> dict[str, float | bool | None]:
    """The difference of the second system from the first, the baseline."""
    baseline, score = test.scores
    return {
        "baseline": baseline.value,
        "p_bootstrap": score.p_bootstrap,
        "p_randomisation": score.p_randomisation,
        "significant": score.significant,
    }


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "runs": [summary_as_json(run) for run in comparison.runs],
        "settings": {
            key: dict(zip(comparison.names, values, strict=True)) for key, values in comparison.settings.items()
        },
        "tests": [
            {
                "metric": test.metric,
                "signature": test.signature,
                "scores": [
                    {"run": name, **score._asdict(), "significant": score.significant}
                    for name, score in zip(comparison.names, test.scores, strict=True)
                ],
            }
            for test in comparison.tests
        ],
        "seeds": [
            {
                "runs": group.names,
                "scores": {
                    name: {"mean": mean, "standard_deviation": spread} for name, (mean, spread) in group.scores.items()
                },
            }
            for group in comparison.seeds
        ],
        "verdicts": comparison.verdicts,
        "remark": comparison.remark,
    }


def summary_as_json(run: RunSummary) -> dict[str, Any]:
    best = run.best
    return {
        "run": str(run.path),
        "state": run.state,
        "model": run.config.model.kind,
        "step": run.step,
        "max_steps": run.config.training.max_steps,
        "metric": run.metric,
        "best": best._asdict() if best else None,
        "curve": [point._asdict() for point in run.curve],
        "scores": run.scores,
        "signatures": run.signatures,
        "minutes": run.minutes,
        "tokens_per_second": run.tokens_per_second,
        "parameters": run.parameters,
        "changed": run.changed,
    }
