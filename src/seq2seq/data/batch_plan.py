"""Batching by length: rows of similar length form batches within a budget, in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from seq2seq.data.order import POOL, Rows
from seq2seq.errors import ConfigError

Lengths = npt.NDArray[np.integer]
BatchType = Literal["tokens", "sentences"]


class Cursor(NamedTuple):
    """Position of the next unread batch."""

    epoch: int = 0
    pool: int = 0
    batch: int = 0
    pairs: int = 0
    """Number of pairs of this epoch already read, over all ranks."""


@dataclass(frozen=True)
class EpochPlan:
    """Batches of one pool."""

    order: Rows
    """Rows, sorted by length."""
    cuts: list[int]
    """Boundaries of the batches in `order`, from 0 to its length."""
    shuffled: list[int]
    """For each batch, the index of its first boundary in `cuts`."""

    def __len__(self) -> int:
        return len(self.shuffled)

    def rows(self, number: int) -> Rows:
        """Rows of a batch."""
        cut = self.shuffled[number]
        return self.order[self.cuts[cut] : self.cuts[cut + 1]]


def plan_rows(
    rows: Rows,
    source_lengths: Lengths,
    target_lengths: Lengths,
    *,
    batch_size: int,
    batch_type: BatchType,
    key: int,
) -> EpochPlan:
    """Form batches of rows, whose lengths (without EOS) are given in the same order.

    Rows are sorted by length and cut into batches, which are shuffled. With `tokens`, pairs times the longest side
    (with EOS) is at most `batch_size`; with `sentences`, every batch but one has exactly `batch_size` pairs.
    """
    order = _by_length(source_lengths, target_lengths)
    if batch_type == "tokens":
        cuts = _cut_tokens(np.maximum(source_lengths, target_lengths)[order].astype(np.int64) + 1, batch_size)
    else:
        cuts = [*range(0, len(order), batch_size), len(order)]
    shuffled = np.random.Generator(np.random.PCG64(key)).permutation(len(cuts) - 1).tolist()
    return EpochPlan(rows[order], cuts, shuffled)


def require_room(widest: int, batch_size: int, batch_type: BatchType) -> None:
    """Check that the longest pair (`widest`: its longer side, with EOS) fits into a batch.

    Raises:
        ConfigError: it does not.
    """
    if batch_type == "tokens" and widest > batch_size:
        raise ConfigError(
            f"training.batch_size {batch_size} is smaller than the longest pair, {widest} tokens",
            hint=f"training.batch_size={widest} or more"
            + (f", or data.cleaning.max_tokens={batch_size - 1}" if batch_size > 1 else ""),
            code="config.batch-size",
        )


def _by_length(source_lengths: Lengths, target_lengths: Lengths) -> Rows:
    """Sort by the longer side, then by the difference of the sides, alternately ascending and descending.

    Neighbours are then similar in both lengths, also where the longer side grows by one. On Multi30k with batches of
    4,096 tokens, padding is 3.6 % of all cells; sorted by target and then source length, it is 7.1 %.
    """
    if len(source_lengths) == 0:
        return np.zeros(0, dtype=np.int64)
    sources, targets = source_lengths.astype(np.int64), target_lengths.astype(np.int64)
    longer, difference = np.maximum(sources, targets), sources - targets
    span = int(longer.max()) + 1
    folded = np.where(longer % 2 == 0, difference, -difference) + span
    if span >= 2**21 or len(longer) > POOL:
        return np.lexsort((folded, longer))
    # One integer per row, with the row number in the low bits: sorting these is many times faster than `lexsort`.
    packed = ((longer * (2 * span) + folded) << 18) | np.arange(len(longer))
    packed.sort()
    places: Rows = packed & (POOL - 1)
    return places


def _cut_tokens(widths: Rows, budget: int) -> list[int]:
    """Boundaries of the longest runs, from the left, whose count times largest width fits; widths ascend."""
    ends = np.append(np.flatnonzero(np.diff(widths)) + 1, len(widths)) if len(widths) else widths
    cuts, begin = [0], 0
    for width, end in zip(widths[ends - 1].tolist(), ends.tolist(), strict=True):
        # All rows from `begin` to `end` have the same width: cut while they do not fit into the open batch.
        while (last := cuts[-1] + budget // width) < end:
            cuts.append(max(last, begin))
        begin = end
    return cuts if cuts[-1] == len(widths) else [*cuts, len(widths)]
