"""Orders that are computed, not stored: every row once, evenly mixed, and the same from wherever one begins."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data import order as ordering
from seq2seq.data.order import Mixture, permute
from seq2seq.random_streams import stream_key

SIZES = st.one_of(st.integers(1, 300), st.sampled_from([1023, 1024, 1025, 4095, 9973, 10_000]))


@given(SIZES, st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_permutation_is_a_bijection(size: int, key: int, stream: int) -> None:
    image = permute(np.arange(size), size, key, stream)
    assert sorted(image.tolist()) == list(range(size))
    some = np.arange(size)[:: max(1, size // 7)]
    assert permute(some, size, key, stream).tolist() == image[some].tolist()


@given(st.integers(1, 50), st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_positions_may_have_streams_of_their_own(size: int, streams: list[int]) -> None:
    places = np.arange(len(streams)) % size
    together = permute(places, size, 7, np.array(streams))
    alone = [int(permute(places[n : n + 1], size, 7, stream)[0]) for n, stream in enumerate(streams)]
    assert together.tolist() == alone


def test_every_permutation_of_four_is_as_likely() -> None:
    """Chi-square with 23 degrees of freedom: above 49.7 in one case of a thousand."""
    streams = np.repeat(np.arange(24_000), 4)
    images = permute(np.tile(np.arange(4), 24_000), 4, 3, streams).reshape(-1, 4)
    counts = Counter(map(tuple, images.tolist()))
    assert set(counts) == set(permutations(range(4)))
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 49.7


def test_neighbours_are_strangers() -> None:
    """Neither places nor steps correlate with the image; ten million elements cost a pool's memory."""
    image = permute(np.arange(20_000), 10_000_000, 5).astype(float)
    assert abs(np.corrcoef(image, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(image[1:], image[:-1])[0, 1]) < 0.03
    tracemalloc.start()
    permute(np.arange(1000), 2**62, 5)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    for size in (0, 2**62 + 1):
        with pytest.raises(ValueError, match="permutation"):
            permute(np.arange(1), size, 1)


def test_keys_do_not_change() -> None:
    """A resumed run must find the order that it left, on any machine and version."""
    assert stream_key(1, "corpus", 0) == 14748131482021475456
    assert permute(np.arange(6), 6, 1, 2).tolist() == [1, 3, 0, 4, 5, 2]
    assert permute(np.arange(4), 10**7, 1, 2).tolist() == [5311591, 309733, 2912114, 5705248]
    assert len({stream_key(seed, "corpus", number) for seed in range(9) for number in range(9)}) == 81


@pytest.fixture
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "POOL", 64)


def epoch_rows(mixture: Mixture, epoch: int, seed: int = 1) -> list[int]:
    return [row for pool in range(mixture.pools) for row in mixture.rows(seed, epoch, pool).tolist()]


@pytest.mark.usefixtures("small_pools")
@pytest.mark.parametrize("sizes", [[1], [63], [64], [65], [500], [100, 1, 99], [0, 70, 0, 5]])
def test_unmixed_epochs_hold_every_row_once(sizes: list[int]) -> None:
    mixture = Mixture.of(sizes)
    assert mixture.draws == tuple(sizes)
    orders = [epoch_rows(mixture, epoch) for epoch in range(3)]
    for rows in orders:
        assert sorted(rows) == list(range(sum(sizes)))
    if sum(sizes) > 5:
        assert orders[0] != orders[1] != orders[2]
        assert epoch_rows(mixture, 0, seed=2) != orders[0]


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0.01, 50)), min_size=1, max_size=8),
    st.floats(1, 20),
)
def test_draws_are_the_rounded_shares(corpora: list[tuple[int, float]], temperature: float) -> None:
    sizes, weights = [size for size, _ in corpora], [weight for _, weight in corpora]
    mixture = Mixture.of(sizes, weights, temperature)
    assert mixture.pairs == sum(sizes)
    shares = np.array([weight * size ** (1 / temperature) if size else 0 for size, weight in corpora])
    if shares.sum():
        assert np.abs(np.array(mixture.draws) - sum(sizes) * shares / shares.sum()).max() < 1.001
    assert all(size or not draws for size, draws in zip(sizes, mixture.draws, strict=True))


def test_temperature_is_that_of_the_paper() -> None:
    """Arivazhagan et al. 2019: temperature 5 evens out corpora; 100 nearly draws from each alike."""
    assert Mixture.of([990_000, 10_000]).draws == (990_000, 10_000)
    shares = 990_000**0.2, 10_000**0.2
    assert Mixture.of([990_000, 10_000], temperature=5).draws[1] == round(1_000_000 * shares[1] / sum(shares))
    assert 0.48 < Mixture.of([990_000, 10_000], temperature=100).draws[1] / 1_000_000 < 0.5
    assert Mixture.of([300, 300], [1, 2]).draws == (200, 400)
    assert Mixture.of([0, 0], [1, 2], 3).draws == (0, 0)
    with pytest.raises(ValueError, match="weights"):
        Mixture.of([1, 2], [1.0])


@pytest.mark.usefixtures("small_pools")
def test_mixed_epochs_repeat_evenly() -> None:
    """A pair of a corpus drawn from k times its size comes floor(k) or ceil(k) times; over epochs all come."""
    mixture = Mixture.of([300, 20, 80], [1, 10, 0.5])
    starts, sizes = [0, 300, 320], [300, 20, 80]
    total: Counter[int] = Counter()
    for epoch in range(12):
        counts = Counter(epoch_rows(mixture, epoch))
        total += counts
        for start, size, draws in zip(starts, sizes, mixture.draws, strict=True):
            seen = [counts[row] for row in range(start, start + size)]
            assert sum(seen) == draws
            assert max(seen) <= -(-draws // size) + 1  # an epoch may begin and end in the middle of a repetition
        for start, size in zip(starts, sizes, strict=True):
            seen = [total[row] for row in range(start, start + size)]
            assert max(seen) - min(seen) <= 1
    assert min(total[row] for row in range(400)) > 0


@pytest.mark.usefixtures("small_pools")
def test_corpora_are_mixed_within_every_pool() -> None:
    mixture = Mixture.of([3200, 3200])
    for pool in range(mixture.pools):
        share = float((mixture.rows(1, 0, pool) < 3200).mean())
        assert 0.2 < share < 0.8
