"""Counter-based random streams: a key for each stream and a mixer of 64-bit words.

Data order and subword sampling draw from them, so that any place of an epoch can be
computed without those before it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


def stream_key(*parts: int | str) -> int:
    """A 64-bit key from a seed and the name or numbers of a stream; the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def scramble(words: Words) -> Words:
    """A bijection of 64-bit words that looks random: the finalizer of SplitMix64 (Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Words = words ^ (words >> np.uint64(31))
    return scrambled
