"""Runs: training from a config, evaluation, and loading for use. Parts are put together here and nowhere else."""

from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import LoadedRun, load

__all__ = ["LoadedRun", "RunDirectory", "load"]
