"""What every adapter fills in: how a system is started, and how its own log is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["transformer", "gru"]
KINDS: tuple[Kind, ...] = ("transformer", "gru")

# The model, the same for all.
WIDTH, FF_WIDTH, HEADS, LAYERS = 256, 1024, 4, 3
VOCABULARY, DROPOUT, SMOOTHING = 8000, 0.1, 0.1
BATCH_TOKENS = 4096
LEARNING_RATE = {"transformer": 3e-4, "gru": 1e-3}
LONGEST = 256
LOG_EVERY = 10


class Corpus(NamedTuple):
    """The training text, segmented once for all systems."""

    raw_source: Path
    raw_target: Path
    source: Path
    """Pieces with spaces between them, one sentence a line."""
    target: Path
    vocabulary: Path
    """One piece a line, without the special tokens."""
    model: Path
    """The sentencepiece model that did it."""


class Job(NamedTuple):
    """One measurement of one system."""

    kind: Kind
    corpus: Corpus
    folder: Path
    """Empty, of this run alone."""
    python: Path
    """Interpreter of the system's environment."""
    updates: int
    """In all, those of the warm-up included."""
    threads: int


class Window(NamedTuple):
    """What a log says of the updates since the line before."""

    step: int
    target_tokens_per_second: float


@dataclass(frozen=True)
class System:
    """One row of the table."""

    name: str
    command: Callable[[Job], list[str]]
    windows: Callable[[Job, str], list[Window]]
    """(job, everything the process printed) -> its log lines, in order."""
    kinds: tuple[Kind, ...] = KINDS
    environment: str | None = None
    """Name of the environment and of its `.txt`; None runs in the interpreter of `train.py`."""
    stubs: tuple[str, ...] = ()
    """Modules that the system imports at its start and never uses here: empty ones are put into its environment."""
    variables: Callable[[Job], dict[str, str]] = field(default=lambda job: {"OMP_NUM_THREADS": str(job.threads)})


def json_windows(text: str) -> list[Window]:
    """Lines such as {"step": 10, "target_tokens_per_second": 2000.0, ...}; every other line is left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("{") and "target_tokens_per_second" in line:
            data: dict[str, Any] = json.loads(line)
            found.append(Window(int(data["step"]), float(data["target_tokens_per_second"])))
    return found
