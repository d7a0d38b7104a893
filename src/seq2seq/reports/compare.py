"""Comparison of runs: test scores with significance, validation curves, cost, and settings that differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.config.differences import differences
from seq2seq.errors import UsageError
from seq2seq.evaluation.significance import MetricTest, describe_difference, paired_tests
from seq2seq.reports.charts import Curve, line_chart
from seq2seq.reports.page import Block, Chart, Details, Level, Note, Page, Paragraph, Section, Table, to_text
from seq2seq.reports.run_summary import RunSummary, summarise

_UNINTERESTING = ("name", "run_directory")
_NO_CAUSES = ("training.validate_every", "training.log_every", "training.tracker")
"""Settings that change what is measured of a training, and none of its updates."""
_NO_CAUSE_OF_SCORES = ("seed", "training.log_every", "training.tracker")
"""Settings that may differ among the runs of a mean over seeds."""
_CURVE_ROWS = 10


class SeedGroup(NamedTuple):
    """Runs that differ in their seed alone."""

    names: list[str]
    scores: dict[str, tuple[float, float | None]]
    """Mean and sample standard deviation of each metric; None for a single run."""


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

    @property
    def seeds(self) -> list[SeedGroup]:
        """The runs in groups with the same settings but for `seed`; empty if no group has several, or without tests."""
        seeds = self.settings.get("seed", [])
        groups: dict[tuple[str, ...], list[int]] = {}
        for place in range(len(self.runs)):
            key = tuple(
                values[place] for setting, values in self.settings.items() if setting not in _NO_CAUSE_OF_SCORES
            )
            groups.setdefault(key, []).append(place)
        if not self.tests or not seeds:
            return []
        found = [places for places in groups.values() if len({seeds[place] for place in places}) == len(places)]
        if all(len(places) == 1 for places in found):
            return []
        return [
            SeedGroup(
                [self.names[place] for place in places], {test.metric: _mean(test, places) for test in self.tests}
            )
            for places in found
        ]

    def _causes(self, place: int) -> str:
        changed = [key for key, values in self.settings.items() if values[place] != values[0] and key not in _NO_CAUSES]
        return f". {len(changed)} settings differ, so no single one explains it" if len(changed) > 1 else ""


def _mean(test: MetricTest, places: Sequence[int]) -> tuple[float, float | None]:
    values = [test.scores[place].value for place in places]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


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


def comparison_page(comparison: Comparison) -> Page:
    """Page of a comparison: verdicts, test scores, curves, cost, and settings that differ."""
    names = comparison.names
    return Page(f"{' and '.join(names)} compared", list(_sections(comparison)), f"the baseline is {names[0]}")


def comparison_text(comparison: Comparison) -> str:
    """The same for a terminal: the verdicts are last, next to the prompt."""
    page = comparison_page(comparison)
    return to_text(page._replace(sections=page.sections[::-1]))


def _sections(comparison: Comparison) -> Iterator[Section]:
    yield Section("Is the difference real?", _verdicts(comparison))
    if comparison.tests:
        yield _scores(comparison)
    if comparison.seeds:
        yield _means(comparison)
    yield from _curves(comparison)
    yield Section("Cost", [Table(("", *comparison.names), comparison.cost())])
    if comparison.settings:
        rows = [(key, *values) for key, values in comparison.settings.items()]
        yield Section("Settings that differ", [Table(("setting", *comparison.names), rows)])


def _verdicts(comparison: Comparison) -> list[Block]:
    if not comparison.tests:
        return [Note("warn", "The test scores cannot be compared", comparison.remark)]
    notes: list[Block] = []
    scores = comparison.tests[0].scores
    for score, verdict in zip(scores[1:], comparison.verdicts, strict=True):
        level: Level = "" if not score.significant else "good" if score.value > scores[0].value else "bad"
        notes.append(Note(level, verdict))
    return notes


def _scores(comparison: Comparison) -> Section:
    rows = [
        (test.metric, *(f"{score.value:.2f} ± {score.interval:.2f}{'*' * score.significant}" for score in test.scores))
        for test in comparison.tests
    ]
    explained = (
        "± 95 % confidence interval. * different from the baseline in both tests: paired bootstrap resampling and "
        "approximate randomisation."
    )
    signatures = [(test.metric, test.signature) for test in comparison.tests]
    blocks: list[Block] = [Table(("metric", *comparison.names), rows), Paragraph(explained), Table((), signatures)]
    return Section(f"Scores of {comparison.runs[0].test_sentences:,} test sentences", blocks)


def _means(comparison: Comparison) -> Section:
    """Means over seeds. What is tested above is the choice of sentences; these deviations are those of the training."""
    rows = [
        (
            ", ".join(group.names),
            f"{len(group.names)}",
            *(
                f"{mean:.2f}" if spread is None else f"{mean:.2f} ± {spread:.2f}"
                for mean, spread in group.scores.values()
            ),
        )
        for group in comparison.seeds
    ]
    table = Table(("runs", "seeds", *(test.metric for test in comparison.tests)), rows)
    explained = "Runs in a row differ in `seed` alone. ± sample standard deviation over the seeds."
    return Section("Means over seeds", [table, Paragraph(explained)])


def _curves(comparison: Comparison) -> Iterator[Section]:
    """Validation scores in one chart if the runs have the same metric, and their losses in another."""
    runs = list(zip(comparison.names, comparison.runs, strict=True))
    metrics = {run.metric for run in comparison.runs if run.curve}
    charts: list[tuple[str, list[Curve]]] = []
    if len(metrics) == 1 and "loss" not in metrics:
        [metric] = metrics
        curves = [Curve(name, run.metric_curve("validation", metric.lower())) for name, run in runs]
        charts.append((f"Validation {metric}", curves))
    for title, kind in (("Validation loss", "validation"), ("Training loss", "train")):
        charts.append((title, [Curve(name, run.metric_curve(kind, "loss")) for name, run in runs]))
    blocks: list[Block] = [Chart(title, svg) for title, curves in charts if (svg := line_chart(title, curves))]
    if len(metrics) == 1:
        blocks.append(Details(f"Validation {metrics.pop()}", _validations(comparison)))
    elif metrics:
        blocks.append(Paragraph(f"The validation metrics differ: {', '.join(sorted(metrics))}."))
    if blocks:
        yield Section("Curves", blocks)


def _validations(comparison: Comparison) -> Table:
    """Validation scores side by side, at about ten steps of each run."""
    runs = comparison.runs
    shown: set[int] = set()
    for run in runs:
        steps = [point.step for point in run.curve]
        shown |= {*steps[:: max(1, -(-len(steps) // _CURVE_ROWS))], *steps[-1:]}
    scores = [{point.step: f"{point.score:.2f}" for point in run.curve} for run in runs]
    rows = [(f"{step:,}", *(found.get(step, "") for found in scores)) for step in sorted(shown)]
    best = ("best", *(f"{run.best.score:.2f}" if run.best else "" for run in runs))
    return Table(("step", *comparison.names), [*rows, best])
