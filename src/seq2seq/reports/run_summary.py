"""Summary of a run from its records: state, scores, validation curve and cost, without loading the model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from seq2seq.config import Config
from seq2seq.errors import UserError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.runs.directory import VALIDATION_SCORES, RunDirectory, is_number
from seq2seq.runs.estimate import as_trained
from seq2seq.runs.lock import in_use
from seq2seq.runs.run_config import load_run_config
from seq2seq.sealed_records import Score, StartScores, TestScores


class Point(NamedTuple):
    """One validation."""

    step: int
    score: float
    """BLEU or chrF, 0 to 100; the loss in nats per target token if the metric is the loss."""
    loss: float


@dataclass(frozen=True)
class RunSummary:
    """Summary of one run."""

    path: Path
    config: Config
    state: str
    """`finished`, `running` or `stopped`."""
    step: int
    """Last step that was logged."""
    metric: str
    """Name of the validation score: BLEU, chrF or loss."""
    curve: list[Point]
    scores: dict[str, float]
    """Test scores by name; empty before the end."""
    signatures: dict[str, str]
    test_sentences: int
    before_and_after: list[tuple[str, str, str, str, str, str]]
    """Rows of `BEFORE_AND_AFTER`."""
    minutes: float | None
    """Wall time of training and validation; None before the end."""
    tokens_per_second: float | None
    """Source and target tokens per second, the median of all log lines."""
    parameters: int | None
    """Stored weights of the best model, tied ones counted once."""
    changed: float
    """Time of the last change, in seconds since the epoch."""
    memory: int | None
    """Peak bytes of training, as estimated at its start."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl."""

    def metric_curve(self, kind: str, key: str) -> list[tuple[float, float]]:
        """(step, value) of a figure in the lines of a kind, `train` or `validation`."""
        return [
            (float(row["step"]), float(row[key]))
            for row in self.metrics
            if row.get("kind") == kind and is_number(row.get("step")) and is_number(row.get(key))
        ]

    @property
    def best(self) -> Point | None:
        """The best validation: the highest score, or the lowest loss."""
        choose = min if self.metric == "loss" else max
        return choose(self.curve, key=lambda point: point.score, default=None)

    def test_set(self) -> tuple[list[str], list[str], list[str]] | None:
        """Sources, references and translations of the test set; None if the run has none yet.

        Raises:
            CheckpointError: the files are damaged.
        """
        return RunDirectory(self.path).load_translated("test", self.path / "test.hyp")


def summarise(path: Path) -> RunSummary:
    """Summary of the run in a folder.

    Raises:
        CheckpointError: it is no run, or its records are damaged.
    """
    directory = RunDirectory(path)
    config = as_trained(directory, load_run_config(directory))
    results = directory.load_results()
    rows = directory.load_metrics()
    validations = [row for row in rows if row.get("kind") == "validation"]
    key, metric = next(
        ((key, name) for key, name in VALIDATION_SCORES if any(is_number(row.get(key)) for row in validations)),
        ("loss", "loss"),
    )
    curve = [
        Point(int(row["step"]), float(row[key]), float(row["loss"]))
        for row in validations
        if all(is_number(row.get(name)) for name in ("step", key, "loss"))
    ]
    speeds = [row["tokens_per_second"] for row in rows if is_number(row.get("tokens_per_second"))]
    test = None if results is None else results.test
    state = "finished" if results is not None else "running" if in_use(directory.path) else "stopped"
    return RunSummary(
        path=path,
        config=config,
        state=state,
        step=max((int(row["step"]) for row in rows if is_number(row.get("step"))), default=0),
        metric=metric,
        curve=curve,
        scores={score.name: score.value for score in test.metrics} if test else {},
        signatures={score.name: score.signature for score in test.metrics} if test else {},
        test_sentences=test.sentences if test else 0,
        before_and_after=before_and_after(results.start, test.metrics if test else [], results.old_test)
        if results
        else [],
        minutes=None if results is None else results.minutes,
        tokens_per_second=statistics.median(speeds) if speeds else None,
        parameters=_parameters(directory.checkpoints),
        changed=max(file.stat().st_mtime for file in (directory.config, directory.metrics) if file.exists()),
        memory=None if (estimate := directory.load_estimate()) is None else estimate.memory,
        metrics=rows,
    )


def before_and_after(
    start: StartScores | None, test: Sequence[Score | MetricResult], old_test: TestScores | None
) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of `BEFORE_AND_AFTER`: scores of a fine-tuned model on the new and on the old test set, beside those of the
    model that it started from; none for other runs."""
    rows = []
    after = {"new": test, "old": old_test.metrics if old_test else []}
    for name, before in (("new", start and start.test), ("old", start and start.old_test)):
        values = {score.name: score.value for score in before.metrics} if before else {}
        for score in after[name]:
            if before and score.name in values and score.name in ("BLEU", "chrF"):
                scores = f"{values[score.name]:.2f}", f"{score.value:.2f}"
                rows.append((name, f"{before.sentences:,}", score.name, *scores, score.signature))
    return rows


BEFORE_AND_AFTER = ("test set", "sentences", "metric", "before", "after", "signature")


def _parameters(checkpoints: Path) -> int | None:
    """Number of weights by the header of the newest checkpoint's file."""
    for file in sorted(checkpoints.glob("[!.]*/model.safetensors"), reverse=True):
        try:
            with safe_open(file, "pt") as tensors:
                return sum(int(prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            continue
    return None


def find_runs(folder: Path) -> tuple[list[RunSummary], list[tuple[Path, str]]]:
    """Summaries of all runs below a folder, the newest first, and what is wrong with those that cannot be read."""
    summaries, damaged = [], []
    for file in sorted(folder.rglob("config.yaml")):
        path = file.parent
        if not (path / "checkpoints").is_dir() and not (path / "data.json").is_file():
            continue
        try:
            summaries.append(summarise(path))
        except UserError as error:
            damaged.append((path, error.what.splitlines()[0]))
    return sorted(summaries, key=lambda summary: -summary.changed), damaged
