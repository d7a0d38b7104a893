"""Training figures sent to wandb or trackio, whose calls are the same; neither is needed otherwise."""

from __future__ import annotations

import importlib
import json
import os
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from seq2seq.atomic_files import write_json
from seq2seq.console import warn
from seq2seq.errors import ConfigError, UserError

TrackerName = Literal["tensorboard", "wandb", "trackio", "none"]

FILE = "tracker.json"
_PROJECT = "seq2seq"


def require_tracker(name: TrackerName) -> None:
    """Check that a tracker is installed.

    Raises:
        ConfigError: it is not.
    """
    if name in ("wandb", "trackio") and find_spec(name) is None:
        raise ConfigError(
            f"training.tracker: {name} is not installed",
            hint=f"pip install {name}, or training.tracker=tensorboard",
            code="export.library",
        )


class Tracker:
    """A run of wandb or trackio; a failure is one warning, and training goes on without it.

    A resumed run continues the same one: wandb knows it by its id, trackio by its name.

    Args:
        name: `wandb` or `trackio`.
        folder: the run directory, which keeps the id.
        config: the settings of the run.
    """

    def __init__(self, name: Literal["wandb", "trackio"], folder: Path, config: Mapping[str, Any]) -> None:
        self._name = name
        self._library: Any = None
        try:
            self._library = importlib.import_module(name)
            identity = _identity(folder)
            project = os.environ.get(f"{name.upper()}_PROJECT") or _PROJECT
            common = {"project": project, "config": dict(config), "resume": "allow"}
            if name == "wandb":
                self._library.init(**common, name=folder.name, id=identity, dir=str(folder.absolute()))
            else:
                self._library.init(**common, name=f"{folder.name}-{identity[:6]}")
        except Exception as error:
            self._give_up(error)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log figures of a step."""
        if self._library is not None:
            try:
                self._library.log(dict(values), step=step)
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """End the run there."""
        if self._library is not None:
            try:
                self._library.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._library = None
        reason = str(error).partition("\n")[0] or type(error).__name__
        warn(f"cannot log to {self._name}: {reason}; training continues without it")


def _identity(folder: Path) -> str:
    """The id of the run, made at its first start."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))["id"]
        if isinstance(kept, str) and kept.isalnum():
            return kept
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # there is none, or it is damaged
    made = uuid.uuid4().hex[:16]
    try:
        write_json(folder / FILE, {"id": made})
    except UserError as error:
        warn(f"{folder / FILE} cannot be written, so a resumed run will be another one: {error.what}")
    return made
