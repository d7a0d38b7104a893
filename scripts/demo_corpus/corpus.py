"""Draws the demo corpus and reserves some word combinations for validation and test."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from . import counts, invented, templates
from .dice import Dice
from .templates import Sentence

Pair = tuple[str, str]

# How often each template is used, in hundredths.
_WEIGHTS: tuple[tuple[Callable[[Dice], Sentence], int], ...] = (
    (templates.statement, 43),
    (templates.question, 9),
    (templates.wh_question, 7),
    (templates.addressed, 10),
    (templates.command, 6),
    (templates.because, 5),
    (templates.description, 9),
    (templates.greeting, 3),
    (counts.position, 5),
    (counts.there_are, 3),
)
_TEMPLATES = tuple(template for template, weight in _WEIGHTS for _ in range(weight))
_RESERVED_PERCENT = 7
_RARE = 6
"""Every word form is seen at least this often in training."""
_POOL = 2.0


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
            known = drawn.english in self._english or drawn.german in self._german
            if (known and "{" not in drawn.english) or not wanted(drawn):
                continue
            self._english.add(drawn.english)
            self._german.add(drawn.german)
            found.append((drawn.english, drawn.german))
        raise ValueError("too few training pairs: the test would need words that training does not have")


def is_new(drawn: Sentence) -> bool:
    """Whether the sentence has a combination that is kept out of training."""
    return any(reserved(item) for item in drawn.combinations)


def demo_corpus(train: int = 12_000, valid: int = 200, test: int = 500, seed: int = 1) -> DemoCorpus:
    """English-German pairs; valid and test hold word combinations that training never shows.

    Every word of the test occurs in training. No sentence of either language occurs twice.
    """
    if min(train, valid, test) < 0:
        raise ValueError("the number of pairs must not be negative")
    draw = _Draw(seed)
    pool = draw.take(int(train * _POOL), lambda drawn: not is_new(drawn))
    trained = _thin_out(pool, train, _RARE)
    english = {word for pair in trained for word in pair[0].split()}
    german = {word for pair in trained for word in pair[1].split()}

    def known(drawn: Sentence) -> bool:
        return (
            "{" not in drawn.english  # an invented word would be new
            and english.issuperset(drawn.english.split())
            and german.issuperset(drawn.german.split())
        )

    tested = draw.take(test, lambda drawn: is_new(drawn) and known(drawn))
    validated = draw.take(valid, lambda drawn: is_new(drawn) and known(drawn))
    splits = (trained, validated, tested)
    taken = {word.strip(".,!?").lower() for split in splits for pair in split for text in pair for word in text.split()}
    inventor = invented.Inventor(Dice(seed), taken)
    return DemoCorpus(*([inventor.fill(pair) for pair in split] for split in splits))
