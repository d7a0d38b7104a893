"""Page of the check of corpora: figures of both sides, and each kind of fault with its lines and examples."""

from __future__ import annotations

from collections.abc import Sequence

from seq2seq.checks.findings import KINDS, Finding, SourceReport, figure
from seq2seq.reports.page import Block, Facts, Note, Page, Section, Table, to_html


def corpus_page(reports: Sequence[SourceReport]) -> str:
    """The reports as HTML."""
    failed = any(report.failed for report in reports)
    found = any(report.findings for report in reports)
    pairs = sum(report.pairs for report in reports)
    return to_html(
        Page(
            "Check of a parallel corpus",
            [_section(report) for report in reports],
            f"{pairs:,} pairs",
            "errors" if failed else "warnings" if found else "nothing found",
            "bad" if failed else "warn" if found else "good",
        )
    )


def _section(report: SourceReport) -> Section:
    blocks: list[Block] = [
        Facts([("pairs", f"{report.pairs:,}"), ("target characters for one of the source", f"{report.ratio:.2f}")])
    ]
    names = list(dict.fromkeys(name for figures in report.statistics.values() for name in figures))
    rows = [
        (side, *(figure(figures[name]) if name in figures else "" for name in names))
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
    title = kind.title[:1].upper() + kind.title[1:]
    if finding.lines:
        title += f": {finding.count:,} of {report.pairs:,} pairs ({finding.count / max(report.pairs, 1):.2%})"
    told = f"{verdict}, {kind.advice}" + (f"; lines {finding.shown_lines()}" if finding.lines else "")
    rows = [
        (f"{example['line']}" if example["line"] else "", example["why"], example["source"], example["target"])
        for example in finding.examples
    ]
    return [
        Note("bad" if verdict == "error" else "warn", title, told),
        *([Table(("line", "why", "source", "target"), rows)] if rows else []),
    ]
