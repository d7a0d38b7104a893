"""Comparison of runs: settings that differ, validation curves, cost, and test scores with significance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.config.differences import differences
from seq2seq.errors import UsageError
from seq2seq.evaluation.significance import MetricTest, describe_difference, paired_tests
from seq2seq.reports.run_summary import RunSummary, summarise

_UNINTERESTING = ("name", "run_directory")
_NO_CAUSES = ("training.validate_every", "training.log_every", "training.tracker")
"""Settings that change what is measured of a training, and none of its updates."""


class Comparison(NamedTuple):
    """Several runs beside each other; the first is the baseline."""

    names: list[str]
    """Shortest endings of the paths that tell the runs apart."""
    runs: list[RunSummary]
    settings: dict[str, list[str]]
    """Values in each run, as YAML, of every setting that differs."""
    tests: list[MetricTest]
    """Empty if the runs have no test set in common."""
    remark: str
    """Why there are no tests; empty otherwise."""

    def cost(self) -> list[tuple[str, ...]]:
        """Rows of a table: a name, and its value in each run."""
        return [
            ("state", *(run.state for run in self.runs)),
            ("parameters", *(f"{run.parameters:,}" if run.parameters else "" for run in self.runs)),
            ("steps", *(f"{run.step:,}" for run in self.runs)),
            ("minutes", *(f"{run.minutes:.1f}" if run.minutes is not None else "" for run in self.runs)),
            ("tokens/s", *(f"{run.tokens_per_second:,.0f}" if run.tokens_per_second else "" for run in self.runs)),
            ("memory (MiB, estimated)", *(f"{run.memory / 2**20:,.0f}" if run.memory else "" for run in self.runs)),
        ]

    @property
    def verdicts(self) -> list[str]:
        """One sentence about each run but the first: is its difference in BLEU from the baseline real?"""
        if not self.tests:
            return []
        test = self.tests[0]
        return [
            describe_difference(test.metric, score, self.names[place], test.scores[0], self.names[0])
            + self._causes(place)
            for place, score in enumerate(test.scores)
            if place > 0
        ]

    def _causes(self, place: int) -> str:
        changed = [key for key, values in self.settings.items() if values[place] != values[0] and key not in _NO_CAUSES]
        return f". {len(changed)} settings differ, so no single one explains it" if len(changed) > 1 else ""


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare runs with the first of them.

    Raises:
        UsageError: fewer than two runs, or a run is given twice.
        CheckpointError: one is no run, or its records are damaged.
    """
    resolved = [path.resolve() for path in paths]
    if len(paths) < 2:
        raise UsageError(
            "a comparison needs two runs", hint=f"seq2seq compare {paths[0]} runs/OTHER", code="usage.nothing-to-do"
        )
    if len(set(resolved)) < len(paths):
        raise UsageError("a run is given twice", hint="give each run once", code="usage.same-file")
    runs = [summarise(path) for path in paths]
    names = short_names(resolved)
    tests, remark = _tests(names, runs)
    return Comparison(names, runs, _settings(runs), tests, remark)


def short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest endings of paths that differ from each other."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _settings(runs: Sequence[RunSummary]) -> dict[str, list[str]]:
    first = runs[0].config
    found: dict[str, list[str]] = {}
    for place, run in enumerate(runs[1:], start=1):
        for key, old, new in differences(first, run.config):
            if key not in _UNINTERESTING:
                found.setdefault(key, [old] * len(runs))[place] = new
    return found


def _tests(names: Sequence[str], runs: Sequence[RunSummary]) -> tuple[list[MetricTest], str]:
    sets = [run.test_set() for run in runs]
    for name, found in zip(names, sets, strict=True):
        if found is None:
            return [], f"{name} has no translations of a test set yet: finish its training"
    whole = [found for found in sets if found is not None]
    if any(found[:2] != whole[0][:2] for found in whole):
        return [], (
            "the test sets differ, so their scores say nothing about each other: evaluate both runs on one "
            "(seq2seq evaluate RUN --source FILE --references FILE -o OUTPUT)"
        )
    systems = {name: hypotheses for name, (_, _, hypotheses) in zip(names, whole, strict=True)}
    return paired_tests(systems, whole[0][1], target_language=runs[0].config.data.target_language), ""
