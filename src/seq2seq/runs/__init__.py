"""The composition root: a config becomes parts, the parts become a run, a run becomes a translator.

Training is `seq2seq.runs.train`, which is imported on demand: its Hugging Face libraries would slow translation down.
"""

from __future__ import annotations

from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import LoadedRun, load

__all__ = ["LoadedRun", "RunDirectory", "load"]
