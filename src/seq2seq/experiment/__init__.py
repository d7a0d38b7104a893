"""The composition root: a config becomes parts, the parts become a run, a run becomes a translator."""

from seq2seq.experiment.directory import RunDirectory
from seq2seq.experiment.loading import LoadedRun, load
from seq2seq.experiment.run import RunResult, train

__all__ = ["LoadedRun", "RunDirectory", "RunResult", "load", "train"]
