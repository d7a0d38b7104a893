"""Blocks of misaligned pairs, from lengths and translated words."""

from __future__ import annotations

import random

import numpy as np
import pytest

from seq2seq.checks.misalignment import LengthModel
from seq2seq.checks.word_translations import SHIFTS, WordTranslations
from seq2seq.data.demo import builtin_pairs


@pytest.mark.parametrize("seed", range(4))
def test_chance_is_no_block(seed: int) -> None:
    """In sentences of four words with unlike translations, lengths agree by chance: `--fix` moved correct pairs."""
    draw = np.random.default_rng([3, seed])
    words = np.random.default_rng(3).integers(2, 14, (4, 8, 2))
    source, target = (words[np.arange(4)[:, None], draw.integers(0, 8, (4, 1500))].sum(0) + 5.0).T
    nothing = {shift: np.zeros(1500) for shift in (0, *SHIFTS)}
    assert LengthModel(source, target).misaligned(source, target, nothing) == []


@pytest.mark.parametrize("first", ["\u0e01", "\u4e00"])
def test_text_without_spaces_has_translated_words(first: str) -> None:
    """Whole clauses were its words, so lengths alone told where a block begins."""

    def unspaced(text: str) -> str:
        letters = (
            chr(ord(first) + random.Random(word + str(place)).randrange(40))
            for word in text.split()
            for place in range(4)
        )
        return "".join(letters)

    pairs = [(source, unspaced(target)) for source, target in builtin_pairs("demo", "train")[:600]]
    translations = WordTranslations(pairs)
    moved = [(source, pairs[number - 1][1]) for number, (source, _) in enumerate(pairs)]
    at_home, next_line = translations.hits(pairs), translations.hits(moved)
    assert list(next_line[1])[:-3] == list(at_home[0])[:-3]
    assert np.mean(at_home[0]) > 4 * np.mean(at_home[1]) + 1
