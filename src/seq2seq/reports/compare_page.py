"""Page of a comparison of runs: verdicts, test scores, validation curves, cost, and settings that differ."""

from __future__ import annotations

from collections.abc import Iterator

from seq2seq.reports.charts import Curve, line_chart
from seq2seq.reports.compare import Comparison
from seq2seq.reports.page import Block, Chart, Level, Note, Page, Paragraph, Section, Table, to_html


def compare_page(comparison: Comparison) -> str:
    """The comparison as HTML."""
    names = comparison.names
    return to_html(Page(f"{' and '.join(names)} compared", list(_sections(comparison)), f"the baseline is {names[0]}"))


def _sections(comparison: Comparison) -> Iterator[Section]:
    yield Section("Is the difference real?", _verdicts(comparison))
    if comparison.tests:
        yield _scores(comparison)
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
    if drawn := [Chart(title, svg) for title, curves in charts if (svg := line_chart(title, curves))]:
        yield Section("Curves", drawn)
