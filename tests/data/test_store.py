"""Ids on disk are the ids that were written, in any order, and damage is noticed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.data import store as store_module
from seq2seq.data.store import Store, StoreWriter
from seq2seq.errors import DataError

ROWS = st.lists(st.integers(0, 2**31 - 1), max_size=5)


def write(path: Path, sources: list[list[int]], targets: list[list[int]], step: int = 3) -> Store:
    with StoreWriter(path) as writer:
        for start in range(0, len(sources), step):
            writer.write_rows(sources[start : start + step], targets[start : start + step])
    return Store(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ROWS, ROWS), max_size=12), data=st.data())
def test_rows_in_any_order(tmp_path: Path, pairs: list[tuple[list[int], list[int]]], data: st.DataObject) -> None:
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    store = write(tmp_path / "a.arrow", sources, targets)
    assert len(store) == len(pairs)
    assert store.source_lengths.tolist() == [len(row) for row in sources]
    assert store.target_lengths.tolist() == [len(row) for row in targets]
    assert store.source_lengths.dtype == np.int32
    order = data.draw(st.lists(st.integers(0, len(pairs) - 1))) if pairs else []
    lengths = store.lengths(order)
    assert [side.tolist() for side in lengths] == [[len(side[n]) for n in order] for side in (sources, targets)]
    if pairs:
        assert store.longest() == tuple(int(np.argmax([len(row) for row in side])) for side in (sources, targets))
    left, right = store.rows(order)
    assert [row.tolist() for row in left] == [sources[number] for number in order]
    assert [row.tolist() for row in right] == [targets[number] for number in order]


def test_rows_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    """Nothing is copied at opening: that is what lets a corpus be larger than memory."""
    store = write(tmp_path / "a.arrow", [[5, 6]] * 7, [[7]] * 7)
    (row, again), _ = store.rows([4, 4])
    assert not row.flags.writeable
    assert np.shares_memory(row, again)
    with pytest.raises(IndexError):
        store.rows([7])
    with pytest.raises(IndexError):
        store.rows([-1])


def test_a_worker_opens_the_file_itself(tmp_path: Path) -> None:
    store = write(tmp_path / "a.arrow", [[5, 6]] * 7, [[7]] * 7)
    content = pickle.dumps(store)
    assert len(content) < 500
    assert pickle.loads(content).rows([6])[0][0].tolist() == [5, 6]


def test_large_tables_are_cut_into_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BATCH_ROWS", 4)
    store = write(tmp_path / "a.arrow", [[n] for n in range(50)], [[n, n] for n in range(50)], step=30)
    assert [row.tolist() for row in store.rows(range(49, -1, -1))[0]] == [[n] for n in range(49, -1, -1)]


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write(path, [[1]] * 9, [[2]] * 9)
    content = path.read_bytes()
    for broken in (b"", content[:-1], content[: len(content) // 2], b"junk" * 100):
        path.write_bytes(broken)
        with pytest.raises(DataError):
            Store(path)
    with pytest.raises(DataError):
        Store(tmp_path / "none.arrow")
