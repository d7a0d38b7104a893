"""Every row once an epoch, no batch over the budget, and the order a pure function of seed and epoch."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.batching import Batch, batches, collate, plan_epoch
from seq2seq.data.store import Store, StoreWriter
from seq2seq.errors import ConfigError, WorkerError
from seq2seq.tokens import BOS, EOS, PAD

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=80)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@given(LENGTHS, st.integers(31, 300), st.integers(0, 5), st.integers(0, 5))
def test_token_plans(pairs: list[tuple[int, int]], budget: int, seed: int, epoch: int) -> None:
    sources, targets = columns(pairs)
    plan = plan_epoch(sources, targets, batch_size=budget, batch_type="tokens", seed=seed, epoch=epoch)
    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(pairs)))
    for rows in plan:
        assert len(rows) * (max(sources[rows].max(), targets[rows].max()) + 1) <= budget
    again = plan_epoch(sources, targets, batch_size=budget, batch_type="tokens", seed=seed, epoch=epoch)
    assert [rows.tolist() for rows in plan] == [rows.tolist() for rows in again]


@given(LENGTHS, st.integers(1, 20))
def test_sentence_plans(pairs: list[tuple[int, int]], size: int) -> None:
    sources, targets = columns(pairs)
    plan = plan_epoch(sources, targets, batch_size=size, batch_type="sentences", seed=1, epoch=0)
    assert sorted(row for rows in plan for row in rows.tolist()) == list(range(len(pairs)))
    assert sorted((len(rows) for rows in plan), reverse=True)[: len(pairs) // size] == [size] * (len(pairs) // size)
    assert len(plan) == -(-len(pairs) // size)


def test_token_batches_are_as_large_as_fits() -> None:
    """Cutting is greedy: the first row of the next batch (in sorted order) would not have fitted."""
    sources, targets = columns([(9, 9)] * 100)
    plan = plan_epoch(sources, targets, batch_size=105, batch_type="tokens", seed=0, epoch=0)
    assert [len(rows) for rows in plan] == [10] * 10


def test_epochs_and_seeds_differ() -> None:
    sources, targets = columns([(n % 7 + 1, n % 5 + 1) for n in range(200)])
    plans = {
        str(
            [
                rows.tolist()
                for rows in plan_epoch(sources, targets, batch_size=64, batch_type="tokens", seed=seed, epoch=epoch)
            ]
        )
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(plans) == 4


def test_a_pair_over_the_budget_names_the_value() -> None:
    sources, targets = columns([(3, 3), (50, 4)])
    with pytest.raises(ConfigError, match=r"training\.batch_size=51"):
        plan_epoch(sources, targets, batch_size=50, batch_type="tokens", seed=0, epoch=0)
    assert plan_epoch(sources, targets, batch_size=51, batch_type="tokens", seed=0, epoch=0)


def test_a_million_pairs_are_planned_in_seconds() -> None:
    randomness = np.random.default_rng(0)
    sources = np.clip(randomness.gamma(4, 6, 1_000_000), 1, 250).astype(np.int32)
    targets = np.clip(sources * randomness.normal(1, 0.2, 1_000_000), 1, 250).astype(np.int32)
    start = time.process_time()
    plan = plan_epoch(sources, targets, batch_size=8192, batch_type="tokens", seed=0, epoch=0)
    assert time.process_time() - start < 5
    cells = sum(len(rows) * (int(sources[rows].max()) + int(targets[rows].max()) + 2) for rows in plan)
    assert 1 - (sources.sum() + targets.sum() + 2_000_000) / cells < 0.02


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with StoreWriter(tmp_path / "a.arrow") as writer:
        writer.write_rows([[4 + n] * (n % 5 + 1) for n in range(60)], [[4 + n] * (n % 3 + 1) for n in range(60)])
    return Store(tmp_path / "a.arrow")


def plan_of(store: Store) -> list[np.ndarray]:
    return plan_epoch(store.source_lengths, store.target_lengths, batch_size=40, batch_type="tokens", seed=1, epoch=0)


def test_workers_and_cursor_change_nothing(store: Store) -> None:
    """The loader draws a seed from torch's generator; dropout would depend on the number of workers."""
    plan = plan_of(store)
    state = torch.get_rng_state()
    alone = list(batches(store, plan))
    helped = list(batches(store, plan, num_workers=2))
    later = list(batches(store, plan, start=3, num_workers=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alone) == len(plan)
    for expected, found in zip([*alone, *alone[3:]], [*helped, *later], strict=True):
        assert isinstance(found, Batch)
        assert all(torch.equal(a, b) for a, b in zip(expected[:3], found[:3], strict=True))
        assert expected[3:] == found[3:]


def test_a_dead_worker_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    rows = Store.rows

    def die(self: Store, indices: np.ndarray) -> object:
        if os.getpid() != parent:
            os._exit(9)
        return rows(self, indices)

    monkeypatch.setattr(Store, "rows", die)
    with pytest.raises(WorkerError, match="num_workers=0"):
        list(batches(store, plan_of(store), num_workers=1))
