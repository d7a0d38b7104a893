"""A report of a run of which a test needs little."""

from __future__ import annotations

from pathlib import Path

from seq2seq.training.experiment_tracker import TrackerName
from seq2seq.training.metrics_log import RunReport, Texts


def bare_report(
    folder: Path,
    step: int = 0,
    max_steps: int = 100,
    *,
    texts: Texts = lambda batch: [],
    tracker: TrackerName = "tensorboard",
) -> RunReport:
    """A report without a page, of a run with a single setting."""
    return RunReport(
        folder,
        resumed_step=step,
        max_steps=max_steps,
        texts=texts,
        refresh=None,
        tracker=tracker,
        config={"seed": 1},
    )
