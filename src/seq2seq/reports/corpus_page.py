"""Page of the check of corpora: figures of both sides, and each kind of fault with its lines and examples."""

from __future__ import annotations

from collections.abc import Sequence

from seq2seq.checks.findings import KINDS, Finding, SourceReport
from seq2seq.reports.page import Block, Facts, Level, Note, Page, Sample, Samples, Section, Table


def corpus_page(reports: Sequence[SourceReport]) -> Page:
    """Page of the reports, with a section for each corpus."""
    failed = any(report.failed for report in reports)
    found = any(report.findings for report in reports)
    pairs = sum(report.pairs for report in reports)
    return Page(
        "Check of a parallel corpus",
        [_section(report) for report in reports],
        f"{pairs:,} pairs",
        "errors" if failed else "warnings" if found else "nothing found",
        "bad" if failed else "warn" if found else "good",
    )


def _section(report: SourceReport) -> Section:
    blocks: list[Block] = [
        Facts([("pairs", f"{report.pairs:,}"), ("target characters for one of the source", f"{report.ratio:.2f}")])
    ]
    names = list(dict.fromkeys(name for figures in report.statistics.values() for name in figures))
    rows = [
        (side, *(_figure(figures[name]) if name in figures else "" for name in names))
        for side, figures in report.statistics.items()
    ]
    if rows:
        blocks.append(Table(("side", *names), rows))
    for finding in report.sorted():
        blocks += _finding(finding, report)
    if not report.findings:
        blocks.append(Note("good", "Nothing found"))
    return Section(report.name, blocks)


def _finding(finding: Finding, report: SourceReport) -> list[Block]:
    kind, verdict = KINDS[finding.kind], finding.verdict(report.pairs)
    level: Level = "bad" if verdict == "error" else "warn"
    title = f"{verdict}: {kind.title} [{finding.kind}]"
    if not finding.lines:  # a fault of the whole corpus
        return [Note(level, title, "; ".join([*(example["why"] for example in finding.examples), finding.advice]))]
    title += f", {finding.count:,} of {report.pairs:,} ({finding.count / max(report.pairs, 1):.2%})"
    rows = []
    for example in finding.examples:
        why = f" ({example['why']})" if example["why"] else ""
        rows.append(Sample((f"{example['line']}{why}", example["source"], example["target"])))
    return [
        Note(level, title, f"lines {finding.shown_lines()}; {finding.advice}"),
        Samples(("line", "source", "target"), rows),
    ]


def _figure(value: float | int | str) -> str:
    """A figure of a side as text."""
    return value if isinstance(value, str) else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
