"""Subword regularization: unigram sampling (Kudo 2018) and BPE-dropout (Provilkov et al. 2020).

The library's own sampling is not reproducible across processes, so both methods are implemented here, word by word: no
subword crosses a space, and words recur, so that most draws come from a cache.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import cast

import numpy as np
import numpy.typing as npt

from seq2seq.errors import ConfigError
from seq2seq.random_streams import scramble, stream_key
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.sentencepiece import SubwordTokenizer

Ids = npt.NDArray[np.int32]
Word = tuple[int, ...]

DRAWS = 32
"""Number of cached samples of each word; each occurrence of a frequent word uses one of them."""

_WORD_PIECES = 16
"""Text without spaces is sampled in segments of this many pieces."""

_CACHED_WORDS = 500_000
"""The cache is emptied above this number of draws (about 100 MB); results do not depend on it."""

UNIFORM = 2**16
"""Size of the table of random numbers of a vocabulary."""


class SubwordSampler:
    """Sampler of segmentations: a pure function of seed, epoch, pool, batch, and place in the batch.

    `sampling` is from 0 to 1. BPE: every merge is skipped with this probability at every step. Unigram: a segmentation
    x is drawn in proportion to P(x)^alpha with alpha = (1 - sampling) / (10 sqrt(sampling)), e.g. alpha 0.28 for 0.1.
    The sampled ids decode to the same text; words with bytes, tags or `<unk>` keep their segmentation.

    Raises:
        ConfigError: a tokenizer has no subwords.
    """

    def __init__(self, tokenizers: TokenizerPair, sampling: float, seed: int) -> None:
        self.tokenizers, self.sampling, self.seed = tokenizers, sampling, seed
        source = _words_of(tokenizers.source, sampling, seed)
        target = source if tokenizers.joint else _words_of(tokenizers.target, sampling, seed)
        self._sides = source, target

    def sample(
        self, rows: Sequence[Ids], side: int, place: tuple[int, int, int], numbers: npt.NDArray[np.int64], longest: int
    ) -> list[Ids]:
        """Sample the rows of side 0 (source) or 1 (target) of the batch at place (epoch, pool, batch).

        `numbers` are the places of the rows in the whole batch, of which this process may have only some. A row keeps
        its segmentation if the sample has more than `longest` ids.
        """
        key = np.uint64(stream_key(self.seed, "subwords", side, *place))
        drawn = self._sides[side].sample(rows, scramble(numbers.astype(np.uint64) ^ key))
        return [new if len(new) <= longest else old for new, old in zip(drawn, rows, strict=True)]

    def growth(self, rows: tuple[Sequence[Ids], Sequence[Ids]]) -> float:
        """Mean length after sampling over mean length before, the larger of both sides, at least 1."""
        numbers = np.arange(len(rows[0]))
        growth = 1.0
        for side, before in enumerate(rows):
            after = self.sample(before, side, (0, 0, 0), numbers, 2**31)
            growth = max(growth, sum(map(len, after)) / max(1, sum(map(len, before))))
        return growth

    def __reduce__(self) -> tuple[type[SubwordSampler], tuple[TokenizerPair, float, int]]:
        # Each loader process fills its own cache.
        return SubwordSampler, (self.tokenizers, self.sampling, self.seed)


def _words_of(tokenizer: Tokenizer, sampling: float, seed: int) -> _Words:
    if not isinstance(tokenizer, SubwordTokenizer):
        raise ConfigError(
            f"tokenizer.sampling {sampling:g} needs subwords, and a {tokenizer.kind} tokenizer has none",
            hint="tokenizer.kind=unigram (or bpe), or tokenizer.sampling=0",
            code="config.conflict",
        )
    texts, scores, merges = tokenizer.subwords()
    return (_Dropout if merges else _Lattice)(texts, scores, sampling, seed)


class _Words(ABC):
    """Cached samples of the words of one vocabulary."""

    def __init__(self, texts: Sequence[str | None], scores: Sequence[float], sampling: float, seed: int) -> None:
        self.texts, self.scores, self.sampling = texts, scores, sampling
        self.ids = {text: number for number, text in enumerate(texts) if text is not None}
        self._begins = np.array([text is None or text.startswith("\u2581") for text in texts])
        self._cache: dict[int, Word] = {}
        key = stream_key(seed, "words")
        self._key = np.uint64(key)
        # The hash of a word chooses where it reads random numbers in this table: far cheaper than a generator per word.
        self.uniform: list[float] = np.random.Generator(np.random.PCG64(key)).random(UNIFORM).tolist()

    @abstractmethod
    def draw(self, word: Word, text: str, place: int) -> Word:
        """Sample a segmentation of the word with the random numbers from `uniform[place % UNIFORM]` on."""

    def sample(self, rows: Sequence[Ids], keys: npt.NDArray[np.uint64]) -> list[Ids]:
        """Sample rows, with one key for each."""
        lengths = np.array([len(row) for row in rows])
        if not lengths.sum():
            return list(rows)
        flat = np.concatenate(rows)
        inside = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        begins = np.flatnonzero(self._begins[flat] | (inside % _WORD_PIECES == 0))
        counters = np.repeat(keys, lengths)[begins] + inside[begins].astype(np.uint64)
        hashes = self._hashes(flat, begins, scramble(counters) % np.uint64(DRAWS))
        samples = list(map(self._cache.get, hashes))
        if None in samples:
            ends = [*begins[1:].tolist(), len(flat)]
            for number in [number for number, word in enumerate(samples) if word is None]:
                samples[number] = self._miss(flat[begins[number] : ends[number]].tolist(), hashes[number])
        drawn = cast("list[Word]", samples)
        if len(self._cache) > _CACHED_WORDS:
            self.forget()
        sizes = np.fromiter(map(len, drawn), dtype=np.int64, count=len(drawn))
        joined = np.fromiter(chain.from_iterable(drawn), dtype=np.int32, count=int(sizes.sum()))
        row_of_word = np.repeat(np.arange(len(rows)), lengths)[begins]
        ends_of_rows = np.cumsum(np.bincount(row_of_word, sizes, len(rows)).astype(np.int64))
        return np.split(joined, ends_of_rows[:-1])

    def _hashes(self, flat: Ids, begins: npt.NDArray[np.int64], choices: npt.NDArray[np.uint64]) -> list[int]:
        """64-bit hash of each word and choice. With ten million, one run in 370,000 is expected to have a collision."""
        sizes = np.diff(np.append(begins, len(flat)))
        inside = (np.arange(len(flat)) - np.repeat(begins, sizes)).astype(np.uint64)
        mixed = scramble((flat.astype(np.uint64) << np.uint64(8)) + inside + self._key)
        hashes: list[int] = scramble(np.add.reduceat(mixed, begins) + choices).tolist()
        return hashes

    def _miss(self, ids: list[int], key: int) -> Word:
        word = tuple(ids)
        texts = [self.texts[number] for number in ids]
        drawn = word if None in texts else self.draw(word, "".join(cast("list[str]", texts)), key)
        self._cache[key] = drawn
        return drawn

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()


class _Dropout(_Words):
    """BPE-dropout: merges from single characters, each skipped at each step with a fixed probability."""

    def draw(self, word: Word, text: str, place: int) -> Word:
        if any(part not in self.ids for part in text):
            return word
        parts = list(text)
        ranks = [self._rank(*pair) for pair in pairwise(parts)]
        uniform, sampling = self.uniform, self.sampling
        open_ranks = ranks
        while open_ranks and (best := max(open_ranks)) > -math.inf:
            merge = open_ranks.index(best)
            place += 1
            if uniform[place % UNIFORM] < sampling:
                if open_ranks is ranks:
                    open_ranks = ranks.copy()
                open_ranks[merge] = -math.inf
                continue
            parts[merge : merge + 2] = [parts[merge] + parts[merge + 1]]
            del ranks[merge]
            if merge:
                ranks[merge - 1] = self._rank(parts[merge - 1], parts[merge])
            if merge < len(ranks):
                ranks[merge] = self._rank(parts[merge], parts[merge + 1])
            open_ranks = ranks
        return tuple([self.ids[part] for part in parts])

    def _rank(self, left: str, right: str) -> float:
        number = self.ids.get(left + right)
        return -math.inf if number is None else self.scores[number]


class _Lattice(_Words):
    """Unigram: forward filtering, backward sampling over all segmentations of a word (Kudo 2018, l = infinity)."""

    def __init__(self, texts: Sequence[str | None], scores: Sequence[float], sampling: float, seed: int) -> None:
        super().__init__(texts, scores, sampling, seed)
        self._alpha = (1 - sampling) / (10 * math.sqrt(sampling))
        self._longest = max(map(len, self.ids), default=1)
        self._lattices: dict[str, list[list[tuple[int, int, float]]]] = {}

    def draw(self, word: Word, text: str, place: int) -> Word:
        lattice = self._lattices.get(text)
        if lattice is None:
            lattice = self._lattices[text] = self._build(text)
        drawn: list[int] = []
        end = len(text)
        while end:
            edges = lattice[end]
            place += 1
            rest = self.uniform[place % UNIFORM] * edges[-1][2]
            end, number, _ = next((edge for edge in edges if edge[2] > rest), edges[-1])
            drawn.append(number)
        return tuple(reversed(drawn))

    def _build(self, text: str) -> list[list[tuple[int, int, float]]]:
        """For each end, the pieces that end there: (start, id, cumulative mass, scaled)."""
        masses = [0.0]  # logarithms
        lattice: list[list[tuple[int, int, float]]] = [[]]
        for end in range(1, len(text) + 1):
            starts = range(max(0, end - self._longest), end)
            pieces = [(start, number) for start in starts if (number := self.ids.get(text[start:end])) is not None]
            logs = [masses[start] + self._alpha * self.scores[number] for start, number in pieces]
            highest = max(logs, default=-math.inf)
            if highest == -math.inf:
                masses.append(-math.inf)
                lattice.append([])
                continue
            sums = list(accumulate(math.exp(value - highest) for value in logs))
            masses.append(highest + math.log(sums[-1]))
            lattice.append([(*edge, total) for edge, total in zip(pieces, sums, strict=True)])
        return lattice

    def forget(self) -> None:
        super().forget()
        if len(self._lattices) > _CACHED_WORDS // 5:
            self._lattices.clear()
