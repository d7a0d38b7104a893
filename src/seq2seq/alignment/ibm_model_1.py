"""IBM Model 1: translation probabilities of single tokens, from sentence pairs (Brown et al. 1993, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]

_ITERATIONS = 5
_COMBINATIONS = 2_000_000
"""Pairs of a source and a target token that are listed at a time."""


class TranslationTable(NamedTuple):
    """p(target token | source token) of the pairs that occur in a sentence pair, in order of the source token."""

    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def train(sources: Sequence[Ids], targets: Sequence[Ids], null: int) -> TranslationTable:
    """Expectation maximisation from even probabilities, five iterations.

    Memory: about 50 bytes for each pair of a source and a target token of a sentence pair.

    Args:
        sources: ids of the source sentences, below `null`.
        targets: ids of their translations.
        null: stands for the empty word, which every source sentence has.
    """
    largest = 1 + max((int(row.max()) for row in targets if len(row)), default=0)
    keys, places = _combinations([np.append(row, null) for row in sources], targets, largest)
    listed, kinds = np.unique(keys, return_inverse=True)
    del keys
    by_source = listed // largest
    probabilities = np.ones(len(listed))
    for _ in range(_ITERATIONS):
        shares = probabilities[kinds]
        shares /= np.bincount(places, shares)[places]
        counts = np.bincount(kinds, shares, minlength=len(listed))
        probabilities = counts / np.bincount(by_source, counts)[by_source]
    return TranslationTable(by_source, listed % largest, probabilities)


def _combinations(
    sources: Sequence[Ids], targets: Sequence[Ids], largest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Source id * `largest` + target id of every pair of tokens of a sentence pair, and the target's place in the
    text."""
    left, right = (np.array([len(row) for row in side], np.int64) for side in (sources, targets))
    left_begins, right_begins = (np.cumsum(lengths) - lengths for lengths in (left, right))
    left_ids, right_ids = (np.concatenate(side).astype(np.int64) for side in (sources, targets))
    ends = np.cumsum(left * right)
    keys, places, begin = [], [], 0
    while begin < len(left):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _COMBINATIONS)))
        pairs = np.repeat(np.arange(begin, end), (left * right)[begin:end])
        within = np.arange(len(pairs)) - (ends - left * right)[pairs] + before
        targets_at = right_begins[pairs] + within // left[pairs]
        keys.append(left_ids[left_begins[pairs] + within % left[pairs]] * largest + right_ids[targets_at])
        places.append(targets_at.astype(np.int32))
        begin = end
    return np.concatenate(keys), np.concatenate(places)
