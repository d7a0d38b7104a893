"""The composition root: a config becomes parts, the parts become a run, a run becomes a translator.

What training needs (the Hugging Face libraries above all) is imported when it is asked for: to translate starts sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import LoadedRun, load

if TYPE_CHECKING:
    from seq2seq.runs.train import RunResult, train

__all__ = ["LoadedRun", "RunDirectory", "RunResult", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in ("RunResult", "train"):
        from seq2seq.runs import train as run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
