"""`seq2seq doctor`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.options import Json


def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run directory to look at, too.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Print what a bug report needs: versions, processor, memory, disks, devices, what is chosen for them; no secrets.

    \b
      seq2seq doctor
      seq2seq doctor runs/demo --json
    """
    from seq2seq.config import Config
    from seq2seq.data.cache import cache_folder
    from seq2seq.experiment.directory import RunDirectory
    from seq2seq.experiment.machine import machine_facts
    from seq2seq.experiment.run_facts import run_facts

    config = Config() if run is None else RunDirectory(run).load_config()
    facts = machine_facts(config, cache_folder())
    if run is not None:
        facts["run"] = run_facts(RunDirectory(run))
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    width = max(len(name) for section in facts.values() for name in section)
    for title, section in facts.items():
        typer.echo(f"[{title}]")
        for name, text in section.items():
            typer.echo(f"  {name:{width}}  {text}".rstrip())
