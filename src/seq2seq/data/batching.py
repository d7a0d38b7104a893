"""Batches of similar length: a plan is a pure function of (lengths, settings, seed, epoch)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seq2seq.data.store import Store
from seq2seq.errors import ConfigError, WorkerError
from seq2seq.tokens import BOS, EOS, PAD

Rows = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.integer]
IdRows = Sequence[npt.NDArray[np.integer] | Sequence[int]]


class Batch(NamedTuple):
    """Pairs padded with PAD to a common source width S and a common target width T; int64."""

    source: Int[Tensor, "B S"]
    """Source ids with EOS."""
    target_in: Int[Tensor, "B T"]
    """What the decoder reads: BOS and the target."""
    target_out: Int[Tensor, "B T"]
    """What the decoder should say: the target and EOS."""
    tokens: int
    """Real target tokens, EOS included: the denominator of the loss."""
    source_tokens: int
    """Real source tokens, EOS included."""

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on a device."""
        return self._replace(
            source=self.source.to(device, non_blocking=non_blocking),
            target_in=self.target_in.to(device, non_blocking=non_blocking),
            target_out=self.target_out.to(device, non_blocking=non_blocking),
        )


def collate(sources: IdRows, targets: IdRows) -> Batch:
    """One batch from B rows of ids without BOS and EOS."""
    if len(sources) != len(targets) or not sources:
        raise ValueError(f"a batch needs as many sources as targets and at least one: {len(sources)}, {len(targets)}")
    source = np.full((len(sources), 1 + max(map(len, sources))), PAD, dtype=np.int64)
    target_in = np.full((len(targets), 1 + max(map(len, targets))), PAD, dtype=np.int64)
    target_out = target_in.copy()
    target_in[:, 0] = BOS
    for row, (ids, words) in enumerate(zip(sources, targets, strict=True)):
        source[row, : len(ids)] = ids
        source[row, len(ids)] = EOS
        target_in[row, 1 : len(words) + 1] = words
        target_out[row, : len(words)] = words
        target_out[row, len(words)] = EOS
    return Batch(
        torch.from_numpy(source),
        torch.from_numpy(target_in),
        torch.from_numpy(target_out),
        tokens=sum(map(len, targets)) + len(targets),
        source_tokens=sum(map(len, sources)) + len(sources),
    )


def plan_epoch(
    source_lengths: Lengths,
    target_lengths: Lengths,
    *,
    batch_size: int,
    batch_type: Literal["tokens", "sentences"],
    seed: int,
    epoch: int,
) -> list[Rows]:
    """Row numbers of every batch of an epoch, each row in exactly one; lengths are given without the end
    mark.

    Rows are shuffled, sorted by length, cut, and the batches are shuffled. With
    `tokens`, pairs times the longest side (end mark included) is at most `batch_size`; with `sentences`,
    every batch but one has exactly `batch_size` pairs.

    Raises:
        ConfigError: a single pair is larger than the budget.
    """
    widths = np.maximum(source_lengths, target_lengths).astype(np.int64) + 1
    if batch_type == "tokens" and widths.size and widths.max() > batch_size:
        raise ConfigError(
            f"training.batch_size {batch_size} is smaller than the longest pair, {widths.max()} tokens",
            hint=f"training.batch_size={widths.max()} or more, or data.cleaning.max_tokens={batch_size - 1}",
        )
    randomness = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = _by_length(source_lengths, target_lengths, randomness.permutation(len(widths)))
    if batch_type == "tokens":
        cuts = _cut_tokens(widths[order], batch_size)
    else:
        cuts = [*range(0, len(order), batch_size), len(order)]
    shuffled = randomness.permutation(len(cuts) - 1).tolist()
    return [order[cuts[number] : cuts[number + 1]] for number in shuffled]


def _by_length(source_lengths: Lengths, target_lengths: Lengths, shuffled: Rows) -> Rows:
    """Rows by their longer side, then by the difference of the sides, which rises and falls in turn.

    So neighbours are alike in both lengths, also where the longer side grows by one. On Multi30k with
    batches of 4,096 tokens, padding is 3.6 % of all cells; sorted by target and then source length, 7.1 %.
    """
    sources, targets = source_lengths[shuffled].astype(np.int64), target_lengths[shuffled].astype(np.int64)
    longer, difference = np.maximum(sources, targets), sources - targets
    return shuffled[np.lexsort((np.where(longer % 2 == 0, difference, -difference), longer))]


def _cut_tokens(widths: Rows, budget: int) -> list[int]:
    """Boundaries of the longest runs from the left whose count times largest width fits the budget."""
    cuts, start = [0], 0
    while start < len(widths):
        window = np.maximum.accumulate(widths[start : start + budget // int(widths[start])])
        # Padded sizes only grow along the window, so the last that fits is found by bisection.
        sizes = window * np.arange(1, len(window) + 1)
        start += int(np.searchsorted(sizes, budget, side="right"))
        cuts.append(start)
    return cuts


class EpochBatches(Dataset[Batch]):
    """The batches of one plan by number."""

    def __init__(self, store: Store, plan: Sequence[Rows]) -> None:
        self.store, self.plan = store, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Batch:
        return collate(*self.store.rows(self.plan[number]))


def batches(store: Store, plan: Sequence[Rows], start: int = 0, num_workers: int = 0) -> Iterator[Batch]:
    """The batches of a plan in its order from number `start` on; the result does not depend on `num_workers`.

    Raises:
        WorkerError: a loader process died.
    """
    dataset = EpochBatches(store, plan)
    numbers = range(start, len(plan))
    if not num_workers:
        yield from (dataset[number] for number in numbers)
        return
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside torch's threads (the children only read and copy arrays),
            # torch of more workers than cores (the user's choice).
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            iterator = iter(_loader(dataset, numbers, num_workers))
        yield from iterator
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(f"a data loader process died: {error}", hint="training.num_workers=0") from error


def _loader(dataset: EpochBatches, numbers: range, num_workers: int) -> DataLoader[Batch]:
    # A generator of its own: the loader draws a seed, which would shift the dropout of a run with workers.
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),
    )


def _unchanged(batch: Any) -> Any:
    return batch
