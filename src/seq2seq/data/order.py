"""Order of the training pairs: random permutations that are computed, not stored.

An epoch is a sequence of positions 0 to N - 1. Each maps to a row of the store by arithmetic alone, so that training
can resume at any position at no cost, and memory does not grow with the corpus. Positions are read in pools of `POOL`;
rows are sorted by length within a pool only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seq2seq.random_streams import Words, scramble, stream_key

POOL = 2**18
"""Number of positions that are sorted by length together."""

_ROUNDS = 6
"""Rounds of each half; enough that permutations of as few as six elements are about equally frequent."""

_LARGEST = 2**62
"""Largest permuted range: its halves then fit into 32 bits, as the multiplication below requires."""

Rows = npt.NDArray[np.int64]


def permute(positions: Rows, size: int, key: int, stream: int | Rows = 0) -> Rows:
    """Apply a pseudo-random permutation of range(size) to positions.

    A generalized Feistel network on Z_a x Z_b with a * b barely above `size`, repeated until the image is in the range
    (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). `stream` numbers the permutations
    of one key; an array gives each position its own permutation.

    Raises:
        ValueError: `size` is below 1 or above 2**62.
    """
    if not 1 <= size <= _LARGEST:
        raise ValueError(f"a permutation needs 1 to 2**62 elements: {size}")
    numbers = np.atleast_1d(np.asarray(stream, dtype=np.uint64))
    keys = [scramble(np.uint64(stream_key(key, turn)) ^ scramble(numbers)) for turn in range(2 * _ROUNDS)]
    high = math.isqrt(size - 1) + 1
    high += high % 2  # cyclic shifts of an odd number of elements are even permutations only
    sides = high, -(-size // high)
    image = _turn(positions.astype(np.uint64), sides, keys)
    outside = np.flatnonzero(image >= size)
    while outside.size:
        walked = [each if len(each) == 1 else each[outside] for each in keys]
        image[outside] = _turn(image[outside], sides, walked)
        outside = outside[image[outside] >= size]
    return image.astype(np.int64)


def _turn(values: Words, sides: tuple[int, int], keys: Sequence[Words]) -> Words:
    """Run the Feistel network once: shift each half in turn by a pseudo-random function of the other."""
    moduli = np.uint64(sides[0]), np.uint64(sides[1])
    left = values // moduli[1]
    halves = [left, values - left * moduli[1]]
    for turn, key in enumerate(keys):
        mine, other = turn % 2, 1 - turn % 2
        # The upper 32 bits times the modulus, shifted back, are uniform over [0, modulus) without a division.
        shift = ((scramble(halves[other] + key) >> np.uint64(32)) * moduli[mine]) >> np.uint64(32)
        moved = halves[mine] + shift
        halves[mine] = np.where(moved >= moduli[mine], moved - moduli[mine], moved)
    image: Words = halves[0] * moduli[1] + halves[1]
    return image


class Mixture(NamedTuple):
    """Number of draws from each corpus in an epoch. Corpora follow one another in the store, then their copies."""

    sizes: tuple[int, ...]
    """Number of pairs of each corpus."""
    draws: tuple[int, ...]
    """Number of pairs drawn from each corpus in an epoch; without noisy copies, the sum is that of `sizes`."""

    @classmethod
    def of(cls, sizes: Sequence[int], weights: Sequence[float] | None = None, temperature: float = 1.0) -> Mixture:
        """Draw in proportion to weight * size^(1/temperature) (Arivazhagan et al. 2019), rounded by largest remainder.

        Equal weights and temperature 1 draw each pair once.

        Raises:
            ValueError: the numbers of weights and sizes differ.
        """
        weights = [1.0] * len(sizes) if weights is None else weights
        if len(weights) != len(sizes):
            raise ValueError(f"{len(weights)} weights for {len(sizes)} corpora")
        if temperature == 1.0 and len(set(weights)) <= 1:
            return cls(tuple(sizes), tuple(sizes))
        shares = [weight * size ** (1 / temperature) for weight, size in zip(weights, sizes, strict=True)]
        total, mass = sum(sizes), sum(shares)
        if not mass:
            return cls(tuple(sizes), tuple(sizes))
        exact = [total * share / mass for share in shares]
        draws = [int(value) for value in exact]
        by_remainder = sorted(range(len(sizes)), key=lambda number: draws[number] - exact[number])
        for number in by_remainder[: total - sum(draws)]:
            draws[number] += 1
        return cls(tuple(sizes), tuple(draws))

    def with_copies(self, sizes: Sequence[int], rate: float) -> Mixture:
        """This mixture followed by noisy copies of one kind, of which each corpus has `sizes`.

        A copy is drawn as often as a pair of its corpus, times `rate`; at least one is drawn if there are any.
        """
        per_pair = [draws / max(1, size) for size, draws in zip(self.sizes, self.draws, strict=False)]
        draws = [max(round(size * rate * often), min(1, size)) for size, often in zip(sizes, per_pair, strict=False)]
        return Mixture((*self.sizes, *sizes), (*self.draws, *draws))

    def with_replay(self, earlier: Mixture, share: float) -> Mixture:
        """This mixture followed by that of an earlier run, whose pairs are repeated.

        They make up `share` of the pairs of an epoch (rounded), in the proportions of the earlier run.
        """
        wanted = self.pairs * share / (1 - share)
        bounds = [round(wanted * drawn / max(1, earlier.pairs)) for drawn in np.cumsum((0, *earlier.draws)).tolist()]
        draws = [end - start for start, end in pairwise(bounds)]
        return Mixture((*self.sizes, *earlier.sizes), (*self.draws, *draws))

    @property
    def pairs(self) -> int:
        """Number of pairs drawn in an epoch."""
        return sum(self.draws)

    @property
    def pools(self) -> int:
        """Number of pools in an epoch."""
        return -(-self.pairs // POOL)

    def rows(self, seed: int, epoch: int, pool: int) -> Rows:
        """Rows of a pool, in random order.

        Each corpus is an endless stream of permutations of its pairs, and an epoch reads the next part of it: a corpus
        with more draws than pairs repeats evenly, and one with fewer draws is read completely over several epochs.
        """
        positions = np.arange(pool * POOL, min((pool + 1) * POOL, self.pairs), dtype=np.int64)
        if len(self.sizes) == 1:
            return self._of_corpus(0, positions, seed, epoch)
        positions = permute(positions, self.pairs, stream_key(seed, "mixture"), epoch)
        starts, ends = np.cumsum((0, *self.sizes)), np.cumsum(self.draws)
        corpora = np.searchsorted(ends, positions, side="right")
        rows = np.empty_like(positions)
        for number in np.unique(corpora).tolist():
            mine = np.flatnonzero(corpora == number)
            offsets = positions[mine] - (ends[number] - self.draws[number])
            rows[mine] = starts[number] + self._of_corpus(number, offsets, seed, epoch)
        return rows

    def _of_corpus(self, number: int, offsets: Rows, seed: int, epoch: int) -> Rows:
        """Pairs of one corpus, numbered from 0, at offsets into its part of the epoch."""
        size, places = self.sizes[number], epoch * self.draws[number] + offsets
        repeats = places // size
        stream: int | Rows = repeats
        if repeats.size and repeats.min() == repeats.max():
            stream = int(repeats[0])
        return permute(places - repeats * size, size, stream_key(seed, "corpus", number), stream)
