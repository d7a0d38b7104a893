"""Train a translation model on your own parallel text, and use it.

from seq2seq import load
run = load("runs/demo")
run.translate(["The old man drinks a cup of tea."])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seq2seq.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from seq2seq.runs.load import LoadedRun

__all__ = ["__version__", "load"]


def load(run: str | Path, *, device: str = "auto", checkpoint: str | None = None, threads: int = 0) -> LoadedRun:
    """Load the best model of a run directory; see `seq2seq.runs.load`."""
    from seq2seq.runs.load import load as load_run  # torch is imported only when a model is wanted

    return load_run(run, device=device, checkpoint=checkpoint, threads=threads)
