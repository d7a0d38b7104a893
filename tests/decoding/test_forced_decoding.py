"""Which way a model translates, judged by what it finds likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from seq2seq.decoding.forced_decoding import Scorer, TargetScore, translates_forward

PAIRS = [("a b c d", "x y z"), ("b a", "y y x z z"), ("c", "z")] * 4


class Writer:
    """Stands for an `Scorer`: it finds some words likely, all others not."""

    def __init__(self, likely: str, difference: float) -> None:
        self.likely, self.difference = likely, difference
        self.seen: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[TargetScore]:
        self.seen += pairs
        found = []
        for _, target in pairs:
            scores = [-1.0 - self.difference * (word not in self.likely) for word in target.split()]
            found.append(TargetScore(sum(scores) - 1.0, len(scores) + 1, target.split(), (*scores, -1.0)))
        return found


def asked(likely: str, pairs: Sequence[tuple[str, str]], difference: float = 6.0) -> bool | None:
    return translates_forward(cast(Scorer, Writer(likely, difference)), pairs)


def test_the_likelier_direction() -> None:
    assert asked("xyz", PAIRS) is True
    assert asked("abcd", PAIRS) is False
    assert asked("xyz", [(target, source) for source, target in PAIRS]) is False


@pytest.mark.parametrize(
    ("likely", "pairs", "difference"),
    [
        ("xyz", PAIRS, 1.0),  # the end marks are equally likely, so the means differ by less
        ("abcxyz", PAIRS, 6.0),  # writes both
        ("xyz", [(target, target) for _, target in PAIRS], 6.0),
        ("xyz", PAIRS[:3], 6.0),
        ("xyz", [("", ""), ("a b c d e f " * 9, ""), ("", "x y z " * 9)], 6.0),
        ("xyz", [], 6.0),
    ],
)
def test_what_is_not_clear_is_not_decided(likely: str, pairs: list[tuple[str, str]], difference: float) -> None:
    assert asked(likely, pairs, difference) is None


def test_some_pairs_of_usual_length_are_enough() -> None:
    """A book in one line would take long, and be cut with a warning."""
    model = Writer("xyz", 6.0)
    endless = iter([("a " * 1000, "x"), ("\u200b", "x"), *PAIRS * 100])
    assert translates_forward(cast(Scorer, model), endless) is True
    assert len(model.seen) == 40
    assert max(len(text) for pair in model.seen for text in pair) < 20
    assert next(endless, None) is not None
