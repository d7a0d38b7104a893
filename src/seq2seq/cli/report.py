"""`seq2seq report`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.input import check_output


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
    from seq2seq.atomic_files import write_text
    from seq2seq.reports.report import FILE_NAME
    from seq2seq.reports.report import report as report_on

    check_output(output, (run / "config.yaml", run / "metrics.jsonl", run / "results.json", run / "data.json"))
    text = report_on(run, markdown=markdown)
    file = output or Path("-" if markdown else run / FILE_NAME)
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    write_text(file, text)
    typer.echo(str(file))
