"""Draws the built-in corpus and keeps some combinations for the test."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from . import counts, templates
from .phrases import Dice
from .templates import Sentence

Pair = tuple[str, str]

# How often each template is used, in hundredths.
_WEIGHTS: tuple[tuple[Callable[[Dice], Sentence], int], ...] = (
    (templates.statement, 20),
    (templates.question, 7),
    (templates.wh_question, 7),
    (templates.addressed, 11),
    (templates.command, 7),
    (templates.reported, 8),
    (templates.because, 6),
    (templates.conditional, 6),
    (templates.description, 5),
    (counts.position, 5),
    (counts.age, 7),
    (counts.price, 5),
    (counts.there_are, 3),
    (counts.time_of_day, 3),
)
_TEMPLATES = tuple(template for template, weight in _WEIGHTS for _ in range(weight))
_RESERVED_PERCENT = 7
# Every word form is seen at least 15 times in 20,000 training pairs.
_RARE_PER_PAIRS = 15, 20_000
_POOL = 1.6


class DemoCorpus(NamedTuple):
    """Three splits of (English, German) pairs."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


@cache
def reserved(combination: str) -> bool:
    """Whether a combination of lemmas is kept out of training."""
    return zlib.crc32(combination.encode()) % 100 < _RESERVED_PERCENT


def random_sentence(dice: Dice) -> Sentence:
    """One sentence of any kind."""
    return dice.pick(_TEMPLATES)(dice)


def _words(text: str) -> list[str]:
    return text.split()


def _forms(pair: Pair) -> list[str]:
    """The distinct words of both sides, without case and punctuation."""
    english = ["en " + word.strip(".,!?").lower() for word in pair[0].split()]
    german = ["de " + word.strip(".,!?").lower() for word in pair[1].split()]
    return list(dict.fromkeys(english + german))


def _thin_out(pool: list[Pair], count: int, floor: int) -> list[Pair]:
    """`count` pairs of the pool such that every word form is seen in at least `floor` of them.

    Pairs with a form that stays rarer are left out; the surplus is taken from pairs of frequent words,
    so that the rare forms of an inflected language get their share.
    """
    kept = [(pair, _forms(pair)) for pair in pool]
    while True:
        counts = Counter(word for _, forms in kept for word in forms)
        common = [item for item in kept if all(counts[word] >= floor for word in item[1])]
        if len(common) == len(kept):
            break
        kept = common
    for limit in (160, 80, 40, 20, floor):
        left: list[tuple[Pair, list[str]]] = []
        surplus = len(kept) - count
        for item in kept:
            if surplus > 0 and all(counts[word] > limit for word in item[1]):
                counts.subtract(item[1])
                surplus -= 1
            else:
                left.append(item)
        kept = left
    return [pair for pair, _ in kept[:count]]


class _Draw:
    """Draws sentences that were not drawn before."""

    def __init__(self, seed: int) -> None:
        self._dice = Dice(seed)
        self._english: set[str] = set()
        self._german: set[str] = set()

    def take(self, count: int, wanted: Callable[[Sentence], bool]) -> list[Pair]:
        """That many new sentences of the wanted sort."""
        found: list[Pair] = []
        for _ in range(1000 * count + 10_000):
            if len(found) >= count:
                return found
            drawn = random_sentence(self._dice)
            if drawn.english in self._english or drawn.german in self._german or not wanted(drawn):
                continue
            self._english.add(drawn.english)
            self._german.add(drawn.german)
            found.append((drawn.english, drawn.german))
        raise ValueError("too few training pairs: the test would need words that training does not have")


def _is_new(drawn: Sentence) -> bool:
    return any(reserved(item) for item in drawn.combinations)


def demo_corpus(train: int = 20_000, valid: int = 500, test: int = 500, seed: int = 1) -> DemoCorpus:
    """English-German pairs; valid and test hold word combinations that training never shows.

    Every word of the test occurs in training. No sentence of either language occurs twice.
    """
    if min(train, valid, test) < 0:
        raise ValueError("the number of pairs must not be negative")
    draw = _Draw(seed)
    pool = draw.take(int(train * _POOL), lambda drawn: not _is_new(drawn))
    rare, pairs = _RARE_PER_PAIRS
    trained = _thin_out(pool, train, train * rare // pairs)
    english = {word for pair in trained for word in _words(pair[0])}
    german = {word for pair in trained for word in _words(pair[1])}

    def known(drawn: Sentence) -> bool:
        return english.issuperset(_words(drawn.english)) and german.issuperset(_words(drawn.german))

    tested = draw.take(test, lambda drawn: _is_new(drawn) and known(drawn))
    validated = draw.take(valid, lambda drawn: _is_new(drawn) and known(drawn))
    return DemoCorpus(trained, validated, tested)
