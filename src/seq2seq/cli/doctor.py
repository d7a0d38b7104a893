"""`seq2seq doctor`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.options import Json
from seq2seq.console import warn
from seq2seq.errors import UserError
from seq2seq.sanitize import presentable
from seq2seq.user_cache import user_cache

if TYPE_CHECKING:
    from seq2seq.runs.doctor import DoctorReport


def doctor(
    run: Annotated[
        Path | None, typer.Argument(help="A run directory, or an export, to examine, too.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a bug report needs: versions, processor, memory, disks, devices, what is chosen for them; no secrets.

    Of a run, every file is examined (settings, tokenizer, all checkpoints and exports by their hashes, records), and a
    verdict stands at the end; the exit code is 0 where it can be used. Of an export, the hashes are compared.

    \b
      seq2seq doctor
      seq2seq doctor runs/demo --json
    """
    from seq2seq.config import Config
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.runs.doctor import examine
    from seq2seq.runs.environment import machine_facts

    report = None if run is None else examine(RunDirectory(run))
    config = Config() if report is None or report.config is None else report.config
    facts: dict[str, dict[str, Any]] = dict(machine_facts(config, _cache()))
    if report is not None:
        facts["run"] = _run_section(report, as_json)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)
    if report is not None and report.faults:
        raise report.faults[0]


def _cache() -> Path:
    """Folder of prepared data, with a warning if it cannot be used: a report must not end because of that."""
    from seq2seq.data.cache import cache_folder

    try:
        return cache_folder()
    except UserError as error:
        warn(error.report())
        return user_cache()


def _run_section(report: DoctorReport, as_json: bool) -> dict[str, Any]:
    if as_json:
        faults = [{"code": fault.code, "what": fault.what, "hint": fault.hint} for fault in report.faults]
        return {**report.facts, "faults": faults, "remarks": report.remarks, "verdict": report.verdict}
    places = [f", {fault.where}" if fault.where else "" for fault in report.faults]
    messages = [fault.what.splitlines()[0] + place for fault, place in zip(report.faults, places, strict=True)]
    problems = {f"problem {number}": text for number, text in enumerate([*messages, *report.remarks], start=1)}
    section = {**report.facts, **problems, "verdict": report.verdict}
    return {name: text.replace(str(Path.home()), "~") for name, text in section.items()}


def _print(facts: dict[str, dict[str, Any]]) -> None:
    width = max(len(name) for section in facts.values() for name in section)
    for title, section in facts.items():
        typer.echo(f"[{title}]")
        for name, text in section.items():
            for number, part in enumerate(text.split(" | ")):
                typer.echo(presentable(f"  {'' if number else name:{width}}  {part}".rstrip()))
