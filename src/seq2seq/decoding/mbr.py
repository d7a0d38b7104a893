"""Minimum Bayes risk decoding: the sample most similar to all samples (Kumar and Byrne 2004; Eikema and Aziz 2022).

    best = argmax over h of  sum over samples r of  utility(h, r)

Every sample counts as often as it was drawn. The utility is sentence-level chrF or BLEU with sacrebleu's defaults. All
pairs of a line are compared at once: with C the counts of n-grams, the matches of all pairs are the sum over k of
[C >= k] [C >= k]^T, as min(a, b) is the number of k that both reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from seq2seq.decoding.interface import Engine, EngineWrapper, Hypothesis, SearchOptions, Sentence
from seq2seq.errors import UsageError
from seq2seq.tokenizers.base import Tokenizer

Utility = Literal["chrf", "bleu"]
_BLEU_ORDER = 4

Matrix = Float64[np.ndarray, "U U"]


def mbr_choose(samples: Sequence[str], utility: Utility = "chrf", *, tokenize: str = "13a") -> int:
    """The index of the sample with the highest mean utility, with all samples as references; ties go to the first.

    Args:
        samples: texts drawn for one source line, at least one, duplicates included.
        utility: `chrf` or `bleu`.
        tokenize: sacrebleu's tokenizer, for `bleu` only.
    """
    texts = list(dict.fromkeys(samples))
    counts = dict.fromkeys(texts, 0)
    for sample in samples:
        counts[sample] += 1
    weights = np.array([counts[text] for text in texts], dtype=np.float64)
    expected = utilities(texts, utility, tokenize=tokenize) @ weights / len(samples)
    return list(samples).index(texts[expected.argmax()])


def utilities(texts: Sequence[str], utility: Utility, *, tokenize: str = "13a") -> Matrix:
    """Utility of each text (row) with each text (column) as its reference: sacrebleu's `sentence_score`, 0 to 100."""
    match utility:
        case "chrf":
            return _chrf(texts)
        case "bleu":
            return _bleu(texts, tokenize)


def _chrf(texts: Sequence[str]) -> Matrix:
    """chrF2 (Popović 2015): F-score of the mean precision and the mean recall of character n-grams of orders 1 to 6.

    Orders for which either side is too short are left out of both means.
    """
    from sacrebleu.metrics import CHRF  # only here: no other translation should wait for its import

    lines = ["".join(text.split()) for text in texts]
    precision, recall, orders = (np.zeros((len(texts), len(texts))) for _ in range(3))
    for matches, sizes in _matches(lines, CHRF.CHAR_ORDER):
        both = (sizes[:, None] > 0) & (sizes > 0)
        precision += np.where(both, matches / np.maximum(sizes, 1)[:, None], 0.0)
        recall += np.where(both, matches / np.maximum(sizes, 1), 0.0)
        orders += both
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    factor = CHRF.BETA**2
    below = factor * precision + recall
    scores: Matrix = 100 * (1 + factor) * precision * recall / np.where(below > 0, below, 1.0)
    return scores


def _bleu(texts: Sequence[str], tokenize: str) -> Matrix:
    """Sentence BLEU (Papineni et al. 2002) with exponential smoothing and effective order (Chen and Cherry 2014)."""
    divide = _tokenizer(tokenize)
    words = [divide(text.rstrip()).split() for text in texts]
    count = len(texts)
    lengths = np.array([len(row) for row in words], dtype=np.float64)
    logarithms, orders, misses = (np.zeros((count, count)) for _ in range(3))
    any_match = np.zeros((count, count), dtype=bool)
    for matches, sizes in _matches(words, _BLEU_ORDER):
        exists = np.broadcast_to((sizes > 0)[:, None], (count, count))
        any_match |= matches > 0
        missed = exists & (matches == 0)
        misses += missed
        # Exponential smoothing: each order without a match counts as half of the one before.
        smoothed = np.where(missed, 0.5**misses, matches)
        precision = np.where(exists, smoothed / np.maximum(sizes, 1)[:, None], 1.0)
        logarithms += np.log(precision)
        orders += exists
    brevity = np.minimum(0.0, 1 - lengths / np.maximum(lengths, 1)[:, None])
    scores: Matrix = 100 * np.exp(brevity + logarithms / np.maximum(orders, 1)) * any_match
    return scores


def _matches(rows: Sequence[Sequence[str]], highest: int) -> Iterator[tuple[Matrix, Float64[np.ndarray, " U"]]]:
    """For each order of n-grams up to `highest`: the matches of every pair of rows, and the n-grams of every row."""
    codes: dict[str, int] = {}
    symbols = np.array([codes.setdefault(symbol, len(codes)) for row in rows for symbol in row], dtype=np.int64)
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    grams = symbols
    for order in range(1, highest + 1):
        if order > 1:
            # An n-gram is an (n-1)-gram and one more symbol; those that span two rows are not counted.
            joined = grams[:-1] * len(codes) + symbols[order - 1 :]
            grams = np.unique(joined, return_inverse=True)[1].reshape(-1)
        inside = owners[: len(grams)] == owners[order - 1 :]
        width = int(grams.max(initial=-1)) + 1
        places = owners[: len(grams)][inside] * width + grams[inside]
        counts = np.bincount(places, minlength=len(rows) * width).reshape(len(rows), width)
        yield _shared(counts), counts.sum(axis=1).astype(np.float64)


def _shared(counts: Int64[np.ndarray, "U G"]) -> Matrix:
    """The sum of min(count, count) over n-grams, for every pair of rows."""
    shared = np.zeros((len(counts), len(counts)))
    level = 1
    while counts.size:
        reached = (counts >= level).astype(np.float32)
        shared += reached @ reached.T
        level += 1
        counts = counts[:, (counts >= level).any(axis=0)]
    return shared


@lru_cache(maxsize=8)
def _tokenizer(name: str) -> Callable[[str], str]:
    from sacrebleu.metrics import BLEU

    tokenizer: Callable[[str], str] = BLEU(tokenize=name, effective_order=True).tokenizer
    return tokenizer


class MBROptions(NamedTuple):
    """Options of minimum Bayes risk decoding."""

    samples: int
    """Number of samples for each sentence."""
    utility: Utility = "chrf"
    tokenize: str = "13a"
    """sacrebleu's tokenizer, for BLEU only."""


class MBREngine(EngineWrapper):
    """Draws samples with another engine, and returns the one with the highest mean utility."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, options: MBROptions) -> None:
        super().__init__(engine)
        self.tokenizer, self.options = tokenizer, options

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """One hypothesis for each sentence. Raises what the engine raises."""
        if options.sampling is None or options.n_best != 1:
            raise UsageError(
                "minimum Bayes risk decoding chooses one of many samples",
                hint="set sampling, and n_best to 1",
                code="usage.conflict",
            )
        chosen = []
        for samples in self.engine.search(sentences, options._replace(n_best=self.options.samples)):
            texts = self.tokenizer.decode([sample.tokens for sample in samples])
            best = mbr_choose(texts, self.options.utility, tokenize=self.options.tokenize)
            chosen.append([samples[best]])
        return chosen
