"""`seq2seq train`"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.options import (
    ConfigArguments,
    Device,
    Json,
    PairsFile,
    Quiet,
    SourceFile,
    TargetFile,
    TestFiles,
    Threads,
    ValidFiles,
    split_arguments,
)
from seq2seq.console import say, set_quiet, write_stderr
from seq2seq.errors import UsageError, UserError

if TYPE_CHECKING:
    from seq2seq.reports.report import Translations
    from seq2seq.runs.train import RunResult

_MOST_FINDINGS = 3


def train_command(
    arguments: ConfigArguments = None,
    source: SourceFile = None,
    target: TargetFile = None,
    pairs: PairsFile = None,
    valid: ValidFiles = None,
    test: TestFiles = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run directory. [default: runs/NAME]")] = None,
    device: Device = "",
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=0, help="Ranks on this machine, one GPU or CPU thread each; 0 decides itself."),
    ] = None,
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model, then score it on the test set. The same command again resumes.

    \b
      seq2seq train configs/demo.yaml
      seq2seq train my.yaml --devices 4
      seq2seq train my.yaml model.kind=gru training.max_steps=5000 -o runs/gru
      seq2seq train --source corpus.en --target corpus.de -o runs/mine
      seq2seq train --pairs corpus.tsv --test test.tsv -o runs/mine
    """
    set_quiet(quiet)
    if output == Path():  # also -o "", of a variable that is not set
        raise UsageError("a run wants a folder of its own", where="-o", hint="-o runs/NAME", code="usage.value")
    files, overrides = split_arguments(arguments)
    named = [option for option, given in (("--pairs", pairs), ("--source", source), ("--target", target)) if given]
    if named and files:
        raise UsageError(
            f"{named[0]} is for training without a config, and {files[0]} is one",
            hint=f"name the files in {files[0]}, or leave it out",
            code="usage.conflict",
        )
    if not named and not arguments:
        raise UsageError(
            "nothing to train on",
            hint="give a config, --pairs FILE, or --source FILE --target FILE",
            code="usage.nothing-to-do",
        )
    suggested: list[str] = []
    if named or valid or test:
        from seq2seq.cli.init import named_corpora, settings_for

        if corpora := named_corpora(source, target, pairs, valid, test):
            suggested = settings_for(corpora)
    if output is not None:
        overrides.append(f"run_directory={json.dumps(str(output))}")
    if device:
        overrides.append(f"device={device}")
    if devices is not None:
        overrides.append(f"devices={devices}")
    if threads:
        overrides.append(f"threads={threads}")
    from seq2seq.config import load_config
    from seq2seq.reports.report import refresh_report
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.runs.train import train

    if output is not None:
        RunDirectory(output)  # refuses a run with links or FIFOs before its config is read
    result = train(load_config(files, overrides, suggested), refresh=refresh_report)
    print_result(result, as_json=as_json, quiet=quiet)


def print_result(result: RunResult, *, as_json: bool, quiet: bool) -> None:
    """Print the test scores of a run and its gravest findings; under torchrun the first rank alone prints."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        typer.echo(json.dumps(_plain(result), ensure_ascii=False))
    elif quiet:
        typer.echo("".join(f"{metric.value:.2f}\n" for metric in result.metrics[:1]), nl=False)
    else:
        from seq2seq.cli.evaluate import print_metrics

        print_metrics(result.metrics)
        write_stderr(
            f"{result.steps:,} steps in {result.minutes:.1f} minutes; best model: {result.checkpoint}\n"
            f"next: seq2seq translate {result.directory} FILE"
        )
    if not quiet:
        print_findings(result.directory)


def print_findings(run: Path, translations: Translations | None = None) -> None:
    """Print the three gravest findings about a run on stderr; a run with damaged records has none."""
    from seq2seq.reports.report import run_findings

    with suppress(UserError):
        for finding in run_findings(run, translations)[:_MOST_FINDINGS]:
            say(f"finding: {finding.message}: {finding.evidence}\n    {finding.command}")


def _plain(result: RunResult) -> dict[str, Any]:
    metrics = [metric._asdict() for metric in result.metrics]
    return {**result._asdict(), "directory": str(result.directory), "metrics": metrics}
