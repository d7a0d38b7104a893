"""Which of the served source languages a text is in, learned from held-out text of the runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_LETTERS = 3
"""Letters of the n-grams, word edges counted as spaces."""
_READ = 1000
"""Characters of a text that are looked at, and sentences of a run."""


class Guess(NamedTuple):
    """A language and how sure it is, in percent."""

    language: str
    confidence: float


class Detector:
    """A naive Bayes classifier of letter trigrams (Cavnar and Trenkle 1994 rank the same n-grams).

    Args:
        samples: sentences of each language; a language without any is never preferred to the others.
    """

    def __init__(self, samples: Mapping[str, Sequence[str]]) -> None:
        self._counts = {
            language: Counter(gram for text in texts[:_READ] for gram in _grams(text))
            for language, texts in samples.items()
        }
        self._most = max([1, *(counts.total() for counts in self._counts.values())])

    def detect(self, text: str) -> list[Guess]:
        """The languages, likeliest first.

        The confidence is the probability among the languages, times the share of the n-grams that the language knows:
        text of a language that is not served has little of it.
        """
        grams = _grams(text[:_READ])
        # Neighbouring n-grams share letters, so that their sum would claim certainty after few words.
        scale = 1.0 / math.sqrt(max(1, len(grams)))
        known = any(self._counts.values())
        scores = {
            language: scale * self._score(counts, grams) if counts or not known else -math.inf
            for language, counts in self._counts.items()
        }
        best = max(scores.values(), default=0.0)
        weights = {language: math.exp(max(-700.0, score - best)) for language, score in scores.items()}
        total = sum(weights.values())
        order = sorted(weights, key=lambda language: -weights[language])
        return [
            Guess(language, round(100 * weights[language] / total * _known(self._counts[language], grams), 1))
            for language in order
        ]

    def _score(self, counts: Counter[str], grams: Sequence[str]) -> float:
        """Log probability of the n-grams, but for a constant.

        Add-one smoothing as of the language with most text: with one for each, little text would make unknown n-grams
        likelier.
        """
        share, unseen = 1 / max(1, counts.total()), 1 / self._most
        return sum(math.log(counts[gram] * share + unseen) for gram in grams)


def _known(counts: Counter[str], grams: Sequence[str]) -> float:
    """Share of the n-grams that occur in a language's text."""
    return sum(gram in counts for gram in grams) / max(1, len(grams))


def _grams(text: str) -> list[str]:
    letters = "".join(character if character.isalpha() else " " for character in text.casefold())
    words = f" {' '.join(letters.split())} "
    return [words[place : place + _LETTERS] for place in range(len(words) - _LETTERS + 1)]
