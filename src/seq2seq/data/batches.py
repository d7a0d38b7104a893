"""Padded training batches of similar length, readable from any position of any epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seq2seq.data.batch_plan import BatchType, Cursor, EpochPlan, plan_rows, require_room
from seq2seq.data.order import Mixture, Rows, permute
from seq2seq.data.store import Store
from seq2seq.errors import CheckpointError, DataError, WorkerError
from seq2seq.random_streams import stream_key
from seq2seq.special_tokens import BOS, EOS, PAD
from seq2seq.tokenizers.sampling import SubwordSampler

IdRows = Sequence[npt.NDArray[np.integer] | Sequence[int]]

_GROWTH_PAIRS = 500
"""Number of pairs that are sampled to estimate how much longer sampled segmentations are."""


class Batch(NamedTuple):
    """Pairs padded with PAD to a common source width S and a common target width T; int64."""

    source: Int[Tensor, "B S"]
    """Source ids with EOS."""
    target_in: Int[Tensor, "B T"]
    """Decoder input: BOS and the target."""
    target_out: Int[Tensor, "B T"]
    """Decoder output: the target and EOS."""
    tokens: int
    """Number of target tokens without padding, EOS included: the denominator of the loss."""
    source_tokens: int
    """Number of source tokens without padding, EOS included."""

    def share(self, rank: int, ranks: int) -> Batch:
        """Every ranks-th pair, beginning with pair `rank`."""
        source, target_out = self.source[rank::ranks], self.target_out[rank::ranks]
        return Batch(
            source,
            self.target_in[rank::ranks],
            target_out,
            tokens=int(target_out.ne(PAD).sum()),
            source_tokens=int(source.ne(PAD).sum()),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on a device."""
        return self._replace(
            source=self.source.to(device, non_blocking=non_blocking),
            target_in=self.target_in.to(device, non_blocking=non_blocking),
            target_out=self.target_out.to(device, non_blocking=non_blocking),
        )

    def relative_memory(self) -> int:
        """Memory that a training step needs, compared with other batches."""
        rows, source = self.source.shape
        return _relative_memory(rows, max(source, self.target_in.shape[1]))


def _relative_memory(rows: int, width: int) -> int:
    """Memory of a batch in arbitrary units: most grows with its cells, that of attention also with its width."""
    return rows * width * (1024 + width)


def collate(sources: IdRows, targets: IdRows) -> Batch:
    """Collate B rows of ids without BOS and EOS into a batch."""
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


class TrainingBatches:
    """Endless epochs of training batches, readable from any position.

    Batches are a function of (store, settings, seed, cursor), whatever `num_workers` is and wherever reading began.
    `share` = (rank, ranks) takes every ranks-th pair of each batch.

    Raises:
        ConfigError: a single pair exceeds the budget.
        DataError: the store is empty.
    """

    def __init__(
        self,
        store: Store,
        *,
        batch_size: int,
        batch_type: BatchType,
        seed: int,
        num_workers: int = 0,
        mixture: Mixture | None = None,
        sampler: SubwordSampler | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not len(store):
            raise DataError("there are no training pairs", where=str(store.path), code="data.nothing-left")
        self.store, self.seed, self.num_workers = store, seed, num_workers
        self.batch_size, self.batch_type = batch_size, batch_type
        self.mixture = Mixture.of([len(store)]) if mixture is None else mixture
        if sum(self.mixture.sizes) != len(store):
            raise ValueError(f"the mixture is of {sum(self.mixture.sizes)} pairs, the store of {len(store)}")
        self._longest_rows = store.longest()
        sources, targets = store.lengths(self._longest_rows)
        self._limits = int(sources[0]), int(targets[1])
        require_room(max(self._limits) + 1, batch_size, batch_type)
        self._growth = 1.0
        if sampler is not None:
            some = permute(np.arange(min(_GROWTH_PAIRS, len(store))), len(store), stream_key("growth"))
            # Above the mean, so that few rows of a batch must keep their best segmentation to stay within the budget.
            self._growth = 1 + 1.3 * (sampler.growth(store.rows(some)) - 1)
        budget = batch_size if batch_type == "tokens" else None
        self._reader = _Reader(store, sampler, share, self._limits, budget)

    @property
    def pairs_per_epoch(self) -> int:
        """Number of pairs in an epoch, over all ranks."""
        return self.mixture.pairs

    @property
    def batches_per_epoch(self) -> float:
        """Number of batches in an epoch, by those of its first pool."""
        plan = self.plan(0, 0)
        return len(plan) * self.pairs_per_epoch / len(plan.order)

    def epoch(self, cursor: Cursor) -> Iterator[tuple[Batch, Cursor]]:
        """Yield the rest of the cursor's epoch, each batch with the position after it.

        Raises:
            CheckpointError: there is no such position, because data or settings differ from those of the cursor.
            WorkerError: a loader process died.
        """
        return load(self._reader, self._places(cursor), self.num_workers, torch.cuda.is_available())

    def plan(self, epoch: int, pool: int) -> EpochPlan:
        """Plan the batches of one pool; time and memory depend on the size of a pool only."""
        rows = self.mixture.rows(self.seed, epoch, pool)
        sources, targets = self.store.lengths(rows)
        if self._growth > 1:
            room = self.batch_size - 1 if self.batch_type == "tokens" else max(self._limits)
            sources, targets = (
                np.minimum(np.ceil(side * self._growth).astype(np.int64), room) for side in (sources, targets)
            )
        return plan_rows(
            rows,
            sources,
            targets,
            batch_size=self.batch_size,
            batch_type=self.batch_type,
            key=stream_key(self.seed, "batches", epoch, pool),
        )

    def longest(self) -> Batch:
        """The batch that needs the most memory: the longest pair, repeated, or the largest batch of the first pool."""
        row = max(self._longest_rows, key=lambda row: max(self.store.lengths([row]))[0])
        width = max(self._limits) + 1
        copies = min(self.batch_size // width if self.batch_type == "tokens" else self.batch_size, self.pairs_per_epoch)
        plan = self.plan(0, 0)
        candidates = [np.full(copies, row), *(plan.rows(number) for number in range(len(plan)))]
        rows = max(candidates, key=self._memory)
        sources, targets = self.store.rows(rows)
        if self._reader.sampler is not None:  # sampled segmentations may be as long as the limits
            limits = [self._reader.limit(len(rows), side) for side in (0, 1)]
            sources, targets = (
                [np.resize(ids, limit) for ids in side] for side, limit in zip((sources, targets), limits, strict=True)
            )
        return collate(sources, targets)

    def _memory(self, rows: Rows) -> int:
        sources, targets = self.store.lengths(rows)
        return _relative_memory(len(rows), int(max(sources.max(), targets.max())) + 1)

    def _places(self, cursor: Cursor) -> Iterator[_Place]:
        """Yield the places of all batches. A thread plans the next pool while the current one is read."""
        if cursor.pool >= self.mixture.pools:
            raise _no_such_place(cursor, 0)
        with ThreadPoolExecutor(1, thread_name_prefix="plan") as planner:
            plan: EpochPlan | None = self.plan(cursor.epoch, cursor.pool)
            while plan is not None:
                last_pool = cursor.pool + 1 == self.mixture.pools
                following: Future[EpochPlan] | None = None
                if cursor.batch >= len(plan):
                    raise _no_such_place(cursor, len(plan))
                for number in range(cursor.batch, len(plan)):
                    rows = plan.rows(number)
                    after = cursor._replace(batch=number + 1, pairs=cursor.pairs + len(rows))
                    if number + 1 == len(plan):
                        after = Cursor(cursor.epoch + 1) if last_pool else after._replace(pool=cursor.pool + 1, batch=0)
                    yield _Place(rows, (cursor.epoch, cursor.pool, number), after)
                    cursor = after
                    if following is None and not last_pool:  # after the first batch, which training waits for
                        following = planner.submit(self.plan, cursor.epoch, cursor.pool + (number + 1 < len(plan)))
                plan = following.result() if following else None


def _no_such_place(cursor: Cursor, batches: int) -> CheckpointError:
    return CheckpointError(
        f"no batch {cursor.batch + 1} in pool {cursor.pool + 1} of epoch {cursor.epoch + 1}, which has {batches}",
        hint="data and batches must be as they were when the checkpoint was saved: training.batch_size, data.train",
        code="checkpoint.mismatch",
    )


class _Place(NamedTuple):
    """Rows and position of one batch, for the loader."""

    rows: Rows
    place: tuple[int, int, int]
    """(epoch, pool, batch)"""
    after: Cursor


class _Reader(Dataset[tuple[Batch, Cursor]]):
    """Dataset that returns the batch of a place; each loader process has a copy."""

    def __init__(
        self,
        store: Store,
        sampler: SubwordSampler | None,
        share: tuple[int, int],
        limits: tuple[int, int],
        budget: int | None,
    ) -> None:
        self.store, self.sampler, self.share, self.limits, self.budget = store, sampler, share, limits, budget

    def limit(self, pairs: int, side: int) -> int:
        """Largest length of a sampled source (side 0) or target (side 1) in a batch of `pairs`."""
        limit = self.limits[side]
        return limit if self.budget is None else min(limit, self.budget // pairs - 1)

    def __getitem__(self, item: _Place) -> tuple[Batch, Cursor]:
        rank, ranks = self.share
        numbers = np.arange(rank, len(item.rows), ranks)
        idle = not numbers.size
        if idle:  # every rank takes part in every batch
            numbers = np.zeros(1, dtype=np.int64)
        sides = self.store.rows(item.rows[numbers])
        if self.sampler is not None:
            sampled = [
                self.sampler.sample(ids, side, item.place, numbers, self.limit(len(item.rows), side))
                for side, ids in enumerate(sides)
            ]
            sides = sampled[0], sampled[1]
        batch = collate(*sides)
        if idle:
            batch = batch._replace(target_out=torch.full_like(batch.target_out, PAD), tokens=0, source_tokens=0)
        return batch, item.after


Item = TypeVar("Item")

_PREFETCHED = 4
"""Items that each loader process reads ahead, while the next pool is planned."""


def load(dataset: Dataset[Item], places: Iterator[Any], num_workers: int, pin_memory: bool = False) -> Iterator[Item]:
    """Yield the items of a dataset at the given places in order, read ahead by `num_workers` processes.

    Raises:
        WorkerError: a loader process died.
    """
    if not num_workers:
        for place in places:
            item = dataset[place]
            yield _pinned(item) if pin_memory else item
        return
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork with running threads (the children only read and copy arrays), torch of more
            # workers than cores (the user's choice).
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            loader = DataLoader(
                dataset,
                batch_size=None,
                sampler=places,
                num_workers=num_workers,
                prefetch_factor=_PREFETCHED,
                collate_fn=_unchanged,
                pin_memory=pin_memory,
                # The loader draws a seed; from the global generator, that would change the dropout of a run.
                generator=torch.Generator(),
            )
            iterator = iter(loader)
        yield from iterator
    except (RuntimeError, ConnectionError, EOFError) as error:
        if (died := loader_error(error)) is None:
            raise
        raise died from error


def loader_error(error: Exception) -> WorkerError | None:
    """The error of a data loader process that died, which torch may raise anywhere; None for another `RuntimeError`.

    Other errors are of a connection, which breaks if the process dies while it hands over a tensor.
    """
    if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
        return None
    return WorkerError(
        f"a data loader process died: {error}",
        hint="training.num_workers=0; run the same command again",
        code="worker.loader",
    )


def _pinned(item: Any) -> Any:
    """Copy of an item with its tensors in page-locked memory, for asynchronous copies to the GPU."""
    if isinstance(item, Tensor):
        return item.pin_memory()
    if isinstance(item, tuple):
        parts = [_pinned(part) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    return item


def _unchanged(item: Any) -> Any:
    """The item itself, since torch's own conversion turns a pair into a list."""
    return item
