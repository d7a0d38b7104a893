"""What a bug report needs of one run: what it is, how far it came, and whether its files are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seq2seq.errors import CheckpointError
from seq2seq.experiment.directory import RunDirectory
from seq2seq.experiment.machine import shown_path
from seq2seq.training.checkpoint import CheckpointFolder, load_checkpoint

_LAST_LINES = 3


def run_facts(directory: RunDirectory) -> dict[str, str]:
    """Name -> value, in the order of printing.

    Raises:
        CheckpointError: this is no run directory.
    """
    config = directory.load_config()
    folder = CheckpointFolder(directory.checkpoints)
    vocabulary = f"{config.tokenizer.kind}, vocabulary_size {config.tokenizer.vocabulary_size}"
    facts = {
        "folder": shown_path(directory.path),
        "model": config.model.kind,
        "tokenizer": vocabulary + (", joint" if config.tokenizer.joint else ""),
        "made with": _made_with(_json(directory.environment)),
    }
    for path in folder.steps():
        facts[path.name] = _state(path)
    for link in ("best", "last"):
        path = directory.checkpoints / link
        if path.exists():
            facts[link] = path.resolve().name
    facts["finished"] = "yes" if directory.results.exists() else "no"
    facts["last said"] = " | ".join(_last_lines(directory.log)) or "nothing"
    return facts


def _made_with(environment: dict[str, Any]) -> str:
    names = ("seq2seq", "python", "torch", "sentencepiece")
    return ", ".join(f"{name} {environment[name]}" for name in names if name in environment) or "unknown"


def _state(path: Path) -> str:
    try:
        state = load_checkpoint(path, with_training=True).state
    except CheckpointError as error:
        return error.what.replace(str(path.resolve()), path.name).replace(str(path), path.name)
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return f"whole, {size / 2**20:,.1f} MiB, epoch {state.cursor.epoch}"


def _last_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
