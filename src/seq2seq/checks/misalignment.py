"""Length model of a corpus: finds outliers and, with word translations as evidence, blocks of misaligned pairs.

The log of the length ratio is normally distributed with a spread that falls with length (Gale and Church 1993); both
are estimated robustly, so that faults do not hide themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seq2seq.checks.word_translations import SHIFTS

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint8]

_BINS = 12
_LEAST_SPREAD = 0.08
_OUTLIER = 5.0
"""Spreads from the median beyond which a pair is an outlier."""
_OUTLIER_RATIO = math.log(2.0)
"""Least deviation of an outlier from the usual ratio."""
_LARGEST_GAIN = 6.0
_WORD_GAIN = 1.5
"""Gain of one more translated word: less than its log odds, since words of a sentence depend on each other."""
_DRIFT = 0.5
"""Loss of each line: random gains and losses sum to nothing, as with sorted corpora in which neighbours are alike."""
_EVIDENCE = 30.0
"""Least sum of log-likelihood gains from which on a block is misaligned."""
_CHANCE = (-61, -47, -31, 31, 47, 61)
"""Distances at which no translation stands: the sums there are those of chance."""
_BEYOND_CHANCE = 1.5
"""Least ratio of the sum of a block to the largest sum of chance, by lengths alone."""


class Block(NamedTuple):
    """Pairs `first` to `last` (from 0) whose translations stand `shift` lines further on."""

    first: int
    last: int
    shift: int
    evidence: float


class LengthModel:
    """Distribution of log((target + 3) / (source + 3)), lengths in characters."""

    def __init__(self, source: Sequence[int], target: Sequence[int]) -> None:
        left, right = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
        usable = (left > 0) & (right > 0)
        left, right = left[usable], right[usable]
        ratios = _log_ratio(left, right)
        self.median = float(np.median(ratios)) if len(ratios) else 0.0
        sizes = self._size(left, right)
        edges = np.quantile(sizes, np.linspace(0, 1, _BINS + 1)) if len(sizes) else np.zeros(2)
        centres, spreads = [], []
        for low, high in pairwise(edges.tolist()):
            inside = (sizes >= low) & (sizes <= high)
            if inside.sum() >= 10:
                centres.append((low + high) / 2)
                spreads.append(max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(ratios[inside] - self.median)))))
        # The spread falls with length; where it seems to grow, faults are common.
        self._centres, self._spreads = np.array(centres or [0.0]), np.minimum.accumulate(spreads or [0.5])

    @property
    def ratio(self) -> float:
        """Usual ratio of target to source length."""
        return math.exp(self.median)

    def _size(self, source: Numbers, target: Numbers) -> Numbers:
        """Log length of the longer side. By the mean, pairs with a cut side would gather among the short ones and be
        the usual case there."""
        return np.asarray(np.log(np.maximum(source * self.ratio, target) + 3))

    def deviations(self, source: Numbers, target: Numbers) -> Numbers:
        """Deviations from the usual ratio in spreads."""
        spread = np.interp(self._size(source, target), self._centres, self._spreads)
        return np.asarray((_log_ratio(source, target) - self.median) / spread)

    def outliers(self, source: Numbers, target: Numbers) -> npt.NDArray[np.bool_]:
        """Mask of the pairs with an extreme ratio."""
        far = np.abs(self.deviations(source, target)) > _OUTLIER
        return np.asarray(far & (np.abs(_log_ratio(source, target) - self.median) > _OUTLIER_RATIO))

    def misaligned(self, source: Numbers, target: Numbers, hits: Mapping[int, Counts]) -> list[Block]:
        """Blocks of pairs that fit far better with a target some lines further on or back, by cumulative sums.

        `hits` are the numbers of translated words of each pair, by shift. Blocks do not overlap. About ten lines are
        enough.
        """
        here = np.minimum(self.deviations(source, target) ** 2, 16)

        def blocks(shift: int, words: npt.NDArray[np.int16] | int, least: float) -> list[Block]:
            if len(source) <= abs(shift):
                return []
            begin, end = max(0, -shift), len(source) - max(0, shift)
            there = np.minimum(self.deviations(source[begin:end], target[begin + shift : end + shift]) ** 2, 16)
            gains = np.pad((here[begin:end] - there) / 2, (begin, len(source) - end)) + _WORD_GAIN * words
            gains = np.clip(gains, -_LARGEST_GAIN, _LARGEST_GAIN)[begin:end] - _DRIFT
            return _segments(gains.data, begin, shift, least)

        chance = max((block.evidence for shift in _CHANCE for block in blocks(shift, 0, 0.0)), default=0.0)
        least = max(_EVIDENCE, _BEYOND_CHANCE * chance)
        found = [block for shift in SHIFTS for block in blocks(shift, hits[shift].astype(np.int16) - hits[0], least)]
        kept: list[Block] = []
        is_taken = np.zeros(len(source), dtype=np.bool_)
        for block in sorted(found, key=lambda block: -block.evidence):
            lines = slice(block.first, block.last + 1)
            if not is_taken[lines].any():
                is_taken[lines] = True
                kept.append(block)
        return sorted(kept)


def _log_ratio(source: Numbers, target: Numbers) -> Numbers:
    return np.asarray(np.log((target + 3) / (source + 3)))


def _segments(gains: Iterable[float], offset: int, shift: int, least: float) -> list[Block]:
    """Segments with a sum above `least`: each begins where the sum leaves 0, and ends at its peak."""
    found: list[Block] = []
    total = peak = 0.0
    first = last = 0
    for number, gain in enumerate(gains):
        total += gain
        if total > peak:
            peak, last = total, number
        # Far below the peak another block may begin: the one before is complete.
        if total <= 0 or total < peak - _EVIDENCE:
            if peak > least:
                found.append(Block(first + offset, last + offset, shift, peak))
            total = peak = 0.0
            first = number + 1
    if peak > least:
        found.append(Block(first + offset, last + offset, shift, peak))
    return found
