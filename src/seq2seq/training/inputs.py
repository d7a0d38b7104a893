"""What the loop is given: batches from a place on, and a look at the validation set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from seq2seq.data.batching import Batch, Cursor
from seq2seq.interruption import StopRequest
from seq2seq.training.report import Validation


class TrainingData(Protocol):
    """The training data, seen by the loop (`data.batching.TrainingBatches`)."""

    def epoch(self, cursor: Cursor) -> Iterator[tuple[Batch, Cursor]]:
        """The rest of the cursor's epoch, each batch with the place after it."""
        ...

    @property
    def pairs_per_epoch(self) -> int:
        """Pairs read in an epoch."""
        ...

    def longest(self) -> Batch:
        """The batch that needs the most memory, for the rehearsal."""
        ...


class Validate(Protocol):
    """A look at the validation set; None where `stop` cut it short, which all ranks agree on."""

    def __call__(self, step: int, stop: StopRequest) -> Validation | None:
        """Look at the model as it is after `step` updates."""
        ...


def grouped(batches: Iterator[tuple[Batch, Cursor]], size: int) -> Iterator[tuple[list[Batch], Cursor]]:
    """Batches of one update, `size` of them, and the place after them; fewer are left at the end of an epoch."""
    while read := list(islice(batches, size)):
        yield [batch for batch, _ in read], read[-1][1]
