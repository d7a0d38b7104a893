"""`seq2seq report`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.input import check_output
from seq2seq.cli.output import write_whole


def report(
    run: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File; - is stdout. [default: RUN/report.html; stdout for Markdown]"),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown in place of HTML, without charts.")] = False,
) -> None:
    """Write the report of a run: scores, slices, training curves, samples, findings, data, and settings.

    \b
      seq2seq report runs/demo
      seq2seq report runs/demo --markdown -o report.md
    """
    from seq2seq.reports.report import report as report_on
    from seq2seq.runs.directory import RunDirectory

    check_output(output, runs=[run])
    text = report_on(run, markdown=markdown)
    file = output or Path("-" if markdown else RunDirectory(run).report)
    write_whole(file, text)
    if str(file) != "-":
        typer.echo(str(file))
