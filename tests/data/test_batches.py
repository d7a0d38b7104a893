"""Every row once an epoch, no batch over the budget, and what is read a pure function of seed and cursor."""

from __future__ import annotations

import gc
import multiprocessing
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config.settings import TokenizerSettings
from seq2seq.data import order as ordering
from seq2seq.data.batch_plan import BatchType, Cursor, plan_rows
from seq2seq.data.batches import Batch, TrainingBatches, collate
from seq2seq.data.order import Mixture, Rows
from seq2seq.data.store import Store, StoreWriter
from seq2seq.errors import CheckpointError, ConfigError, DataError, WorkerError
from seq2seq.special_tokens import BOS, EOS, PAD
from seq2seq.tokenizers.pair import train_tokenizers
from seq2seq.tokenizers.sampling import SubwordSampler

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=80)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def planned(
    sources: np.ndarray, targets: np.ndarray, size: int, unit: BatchType = "tokens", key: int = 0
) -> list[Rows]:
    plan = plan_rows(np.arange(len(sources)), sources, targets, batch_size=size, batch_type=unit, key=key)
    return [plan.rows(number) for number in range(len(plan))]


@given(LENGTHS, st.integers(31, 300), st.integers(0, 5))
def test_token_plans(pairs: list[tuple[int, int]], budget: int, key: int) -> None:
    sources, targets = columns(pairs)
    plan = planned(sources, targets, budget, key=key)
    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(pairs)))
    for rows in plan:
        assert len(rows) * (max(sources[rows].max(), targets[rows].max()) + 1) <= budget
    again = planned(sources, targets, budget, key=key)
    assert [rows.tolist() for rows in plan] == [rows.tolist() for rows in again]


@given(LENGTHS, st.integers(1, 20))
def test_sentence_plans(pairs: list[tuple[int, int]], size: int) -> None:
    sources, targets = columns(pairs)
    plan = planned(sources, targets, size, "sentences")
    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(pairs)))
    assert sorted((len(rows) for rows in plan), reverse=True)[: len(pairs) // size] == [size] * (len(pairs) // size)
    assert len(plan) == -(-len(pairs) // size)


def test_token_batches_are_as_large_as_fits() -> None:
    """Cutting is greedy: the first row of the next batch (in sorted order) would not have fitted."""
    sources, targets = columns([(9, 9)] * 100)
    assert [len(rows) for rows in planned(sources, targets, 105)] == [10] * 10


def test_little_of_a_batch_is_padding() -> None:
    """Pairs are sorted by length, in batches of 8,192 tokens, with lengths as in a corpus of sentences."""
    count, randomness = 50_000, np.random.default_rng(0)
    sources = np.clip(randomness.gamma(4, 6, count), 1, 250).astype(np.int32)
    targets = np.clip(sources * randomness.normal(1, 0.2, count), 1, 250).astype(np.int32)
    plan = planned(sources, targets, 8192)
    cells = sum(len(rows) * (int(sources[rows].max()) + int(targets[rows].max()) + 2) for rows in plan)
    assert 1 - (sources.sum() + targets.sum() + 2 * count) / cells < 0.08


ROW = st.lists(st.integers(4, 99), max_size=6)


@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=6))
def test_collate_against_a_loop(pairs: list[tuple[list[int], list[int]]]) -> None:
    batch = collate([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    for row, (source, target) in enumerate(pairs):
        for tensor, ids in (
            (batch.source, [*source, EOS]),
            (batch.target_in, [BOS, *target]),
            (batch.target_out, [*target, EOS]),
        ):
            assert tensor[row].tolist() == ids + [PAD] * (tensor.shape[1] - len(ids))
    assert batch.source.dtype == batch.target_in.dtype == batch.target_out.dtype == torch.int64
    assert batch.tokens == int((batch.target_out != PAD).sum())
    assert batch.source_tokens == int((batch.source != PAD).sum())
    assert batch.target_in.shape == batch.target_out.shape == (len(pairs), 1 + max(len(pair[1]) for pair in pairs))
    moved = batch.to("cpu")
    assert isinstance(moved, Batch)
    assert moved.tokens == batch.tokens


def test_collate_wants_pairs() -> None:
    for sides in (([], []), ([[4]], [])):
        with pytest.raises(ValueError, match="batch"):
            collate(*sides)


PAIRS = [
    (f"the red cat {n} sat" + " on the mat" * (n % 6), "die rote Katze " * (n % 5 + 1) + f"{n}") for n in range(300)
]
Read = list[tuple[Batch, Cursor]]


@pytest.fixture(scope="module")
def sampler() -> SubwordSampler:
    settings = TokenizerSettings(kind="bpe", vocabulary_size=400)
    return SubwordSampler(train_tokenizers(settings, lambda: iter(PAIRS), 1), 0.2, 1)


@pytest.fixture
def text_store(tmp_path: Path, sampler: SubwordSampler, monkeypatch: pytest.MonkeyPatch) -> Store:
    """300 pairs of text in pools of 64, so that an epoch has five."""
    monkeypatch.setattr(ordering, "POOL", 64)
    with StoreWriter(tmp_path / "text.arrow") as writer:
        writer.write_rows(
            sampler.tokenizers.source.encode([source for source, _ in PAIRS]),
            sampler.tokenizers.target.encode([target for _, target in PAIRS]),
        )
    return Store(tmp_path / "text.arrow")


def open_text(store: Store, sampler: SubwordSampler | None = None, **more: object) -> TrainingBatches:
    return TrainingBatches(store, **{"batch_size": 400, "batch_type": "tokens", "seed": 1, "sampler": sampler, **more})  # type: ignore[arg-type]


def same(left: Batch, right: Batch) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(left[:3], right[:3], strict=True))
    return tensors and left[3:] == right[3:] and isinstance(right, Batch)


def same_reads(left: Read, right: Read) -> bool:
    return [after for _, after in left] == [after for _, after in right] and all(
        same(a, b) for (a, _), (b, _) in zip(left, right, strict=True)
    )


def texts(sampler: SubwordSampler, read: Read) -> list[tuple[str, str]]:
    return [
        pair
        for batch, _ in read
        for pair in zip(
            sampler.tokenizers.source.decode(batch.source.tolist()),
            sampler.tokenizers.target.decode(batch.target_out.tolist()),
            strict=True,
        )
    ]


@pytest.mark.parametrize("batch_type", ["tokens", "sentences"])
def test_an_epoch_of_pools_holds_every_pair_once(text_store: Store, sampler: SubwordSampler, batch_type: str) -> None:
    data = open_text(text_store, batch_type=batch_type, batch_size=400 if batch_type == "tokens" else 10)
    assert data.pairs_per_epoch == 300
    orders = []
    for epoch in range(2):
        read = list(data.epoch(Cursor(epoch)))
        orders.append(texts(sampler, read))
        assert sorted(orders[-1]) == sorted(PAIRS)
        pairs = np.cumsum([len(batch.source) for batch, _ in read])
        assert [after.pairs for _, after in read[:-1]] == pairs[:-1].tolist()
        assert pairs[-1] == 300
        assert {after.pool for _, after in read[:-1]} == {0, 1, 2, 3, 4}
        assert read[-1][1] == Cursor(epoch + 1)
        if batch_type == "tokens":
            for batch, _ in read:
                assert max(batch.source.numel(), batch.target_in.numel()) <= 400
    assert orders[0] != orders[1]


def test_epochs_and_seeds_differ(text_store: Store) -> None:
    plans = [open_text(text_store, seed=seed).plan(epoch, 0) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(plan.rows(0).tolist()) for plan in plans}) == 4


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_resuming_anywhere_gives_the_rest(
    text_store: Store, sampler: SubwordSampler, with_sampler: bool, mixed: bool
) -> None:
    """A cursor in the middle of a pool, at its end, and of an epoch; from a process that read nothing yet."""
    mixture = Mixture.of([200, 40, 60], [1, 3, 1], 2) if mixed else None
    chosen = sampler if with_sampler else None
    whole = list(open_text(text_store, chosen, mixture=mixture).epoch(Cursor(3)))
    cursors = [Cursor(3), *(after for _, after in whole)]
    for number, cursor in enumerate(cursors[:-1]):
        rest = list(open_text(text_store, chosen, mixture=mixture).epoch(cursor))
        assert same_reads(rest, whole[number:])
    assert cursors[-1] == Cursor(4)


def test_a_dead_worker_is_told(text_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    rows = Store.rows

    def die(self: Store, indices: np.ndarray) -> object:
        if os.getpid() != parent:
            os._exit(9)
        return rows(self, indices)

    monkeypatch.setattr(Store, "rows", die)
    with pytest.raises(WorkerError, match="num_workers=0"):
        list(open_text(text_store, num_workers=1).epoch(Cursor()))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_that_dies_while_it_hands_over_a_batch_is_named(
    error: Exception, text_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor goes through a socket of its own; that this was closed was called a bug of ours."""

    class Broken:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __iter__(self) -> NoReturn:
            raise error

    monkeypatch.setattr("seq2seq.data.batches.DataLoader", Broken)
    with pytest.raises(WorkerError, match="a data loader process died"):
        list(open_text(text_store, num_workers=1).epoch(Cursor()))


@pytest.mark.parametrize("with_sampler", [False, True])
def test_workers_change_nothing(text_store: Store, sampler: SubwordSampler, with_sampler: bool) -> None:
    """The loader draws a seed from torch's generator; dropout would depend on the number of workers."""
    chosen = sampler if with_sampler else None
    whole = list(open_text(text_store, chosen).epoch(Cursor(1)))
    state = torch.get_rng_state()
    helped = open_text(text_store, chosen, num_workers=2)
    assert same_reads(list(helped.epoch(Cursor(1))), whole)
    middle = len(whole) // 2
    assert same_reads(list(helped.epoch(whole[middle - 1][1])), whole[middle:])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("with_sampler", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_shares_of_all_ranks_are_the_batch(
    text_store: Store, sampler: SubwordSampler, ranks: int, with_sampler: bool
) -> None:
    """Also batches of fewer pairs than ranks: the idle rank takes part with a loss of zero."""
    chosen = sampler if with_sampler else None
    whole = list(open_text(text_store, chosen, batch_size=60).epoch(Cursor(2)))
    shares = [
        list(open_text(text_store, chosen, batch_size=60, share=(rank, ranks)).epoch(Cursor(2)))
        for rank in range(ranks)
    ]
    idle = 0
    for (batch, after), *parts in zip(whole, *shares, strict=True):
        assert sum(part.tokens for part, _ in parts) == batch.tokens
        assert sum(part.source_tokens for part, _ in parts) == batch.source_tokens
        for rank, (part, place) in enumerate(parts):
            assert place == after
            if part.tokens == 0:
                idle += 1
                assert len(part.source) == 1
                assert not part.target_out.any()
                assert rank >= len(batch.source)
                continue
            for side in range(3):
                expected = batch[side][rank::ranks]
                width = part[side].shape[1]
                assert torch.equal(part[side], expected[:, :width])
                assert not expected[:, width:].any()
    assert (idle > 0) == (ranks > 1)


def test_sampling_keeps_the_text_and_the_budget(text_store: Store, sampler: SubwordSampler) -> None:
    data = open_text(text_store, sampler)
    plain = {pair: len(row) for pair, row in zip(PAIRS, text_store.rows(range(300))[1], strict=True)}
    epochs = [list(data.epoch(Cursor(epoch))) for epoch in (0, 1)]
    for read in epochs:
        assert sorted(texts(sampler, read)) == sorted(PAIRS)
        for batch, _ in read:
            assert max(batch.source.numel(), batch.target_in.numel()) <= 400
            assert batch.tokens == int((batch.target_out != PAD).sum())
    changed = sum(batch.tokens for batch, _ in epochs[0])
    assert changed > 1.05 * (sum(plain.values()) + 300)
    assert texts(sampler, epochs[0]) != texts(sampler, epochs[1])


def test_the_longest_batch_bounds_every_batch(text_store: Store, sampler: SubwordSampler) -> None:
    for chosen in (None, sampler):
        data = open_text(text_store, chosen)
        longest = data.longest()
        assert max(longest.source.numel(), longest.target_in.numel()) <= 400
        for batch, _ in data.epoch(Cursor()):
            cells = max(batch.source.numel(), batch.target_in.numel())
            assert cells <= 1.2 * max(longest.source.numel(), longest.target_in.numel())


def test_only_the_pool_at_hand_is_looked_at(text_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resuming in a corpus of any size costs what one pool costs."""
    data = open_text(text_store)
    asked: list[int] = []
    lengths = Store.lengths

    def counted(self: Store, indices: np.ndarray) -> object:
        asked.append(len(indices))
        return lengths(self, indices)

    monkeypatch.setattr(Store, "lengths", counted)
    reading = data.epoch(Cursor(5, pool=2, batch=1))
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert sum(asked) <= 2 * 64  # this pool, and the next one ahead of time
    assert "source_lengths" not in vars(text_store)


def test_bad_data_are_refused_at_once(text_store: Store, tmp_path: Path) -> None:
    """A pair over the budget was found when its pool came, hours into training."""
    widest = int(max(text_store.source_lengths.max(), text_store.target_lengths.max())) + 1
    assert open_text(text_store, batch_size=widest)
    with pytest.raises(ConfigError, match=rf"training\.batch_size={widest}"):
        open_text(text_store, batch_size=widest - 1)
    with StoreWriter(tmp_path / "none.arrow"):
        pass
    with pytest.raises(DataError, match="no training pairs"):
        open_text(Store(tmp_path / "none.arrow"))
    with pytest.raises(ValueError, match="mixture"):
        open_text(text_store, mixture=Mixture.of([5, 5]))


@pytest.mark.parametrize("cursor", [Cursor(0, 5), Cursor(0, 1, 10_000)])
def test_a_place_of_other_settings_is_refused(text_store: Store, cursor: Cursor) -> None:
    """Resumed with another batch size, an epoch would end at once, and the loop would never leave it."""
    with pytest.raises(CheckpointError, match=r"training\.batch_size"):
        next(open_text(text_store).epoch(cursor))


def test_stopping_early_leaves_no_process(text_store: Store) -> None:
    reading = open_text(text_store, num_workers=1).epoch(Cursor())
    next(reading)
    assert multiprocessing.active_children()
    reading.close()  # type: ignore[attr-defined]
    gc.collect()
    assert not multiprocessing.active_children()
