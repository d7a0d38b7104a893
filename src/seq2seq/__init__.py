"""Train a translation model on your own parallel text, and use it.

from seq2seq import load

run = load("runs/demo-transformer")
run.translate(["The old man drinks a cup of tea."])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seq2seq.version import __version__

if TYPE_CHECKING:
    from seq2seq.runs.load import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load`, and with it torch, at its first use: `seq2seq --help` does without."""
    if name == "load":
        from seq2seq.runs.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
