"""Minimum Bayes risk against sacrebleu's own sentence scores, pair by pair."""

from __future__ import annotations

import random
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from seq2seq.decoding.mbr import Utility, mbr_choose, utilities

LINES = [
    "A dog runs through the snow.",
    "A dog is running in the snow.",
    "a dog is running, running and running in the snow",
    "Two dogs.",
    "two dogs!",
    "x",
    "",
    "   ",
    "the the the the the the the",
    'Äpfel, 中文 & 3,5 % — "so" it\'s   spaced',
    "😀😀 ok",
]


def scorers(tokenize: str = "13a") -> dict[str, BLEU | CHRF]:
    return {"chrf": CHRF(), "bleu": BLEU(tokenize=tokenize, effective_order=True)}


def plain_utilities(texts: list[str], utility: Utility, tokenize: str = "13a") -> list[list[float]]:
    scorer = scorers(tokenize)[utility]
    return [[scorer.sentence_score(text, [reference]).score for reference in texts] for text in texts]


def test_bleu_uses_the_tokenizer_of_the_language() -> None:
    texts = ["我喜欢狗。", "我喜欢猫。", "我 喜欢"]
    np.testing.assert_allclose(utilities(texts, "bleu", tokenize="zh"), plain_utilities(texts, "bleu", "zh"))


@example(LINES, "chrf")
@example(LINES, "bleu")
@given(st.lists(st.text(alphabet="ab c.,中", max_size=14), min_size=1, max_size=6), st.sampled_from(get_args(Utility)))
def test_any_texts_score_as_sacrebleu_scores_them(texts: list[str], utility: Utility) -> None:
    np.testing.assert_allclose(utilities(texts, utility), plain_utilities(texts, utility), atol=1e-9)


@pytest.mark.parametrize("utility", get_args(Utility))
def test_the_choice_is_the_best_mean_over_all_samples(utility: Utility) -> None:
    """Duplicates are votes: deduplicating the samples before scoring would choose another one."""
    draws = random.Random(3)
    words = ["a", "dog", "cat", "runs", "sits", "in", "on", "the", "snow", "grass", "."]
    for _ in range(6):
        samples = [" ".join(draws.choices(words, k=draws.randint(1, 7))) for _ in range(6)]
        samples += draws.choices(samples, k=6)
        means = np.mean(plain_utilities(samples, utility), axis=1)
        choice = mbr_choose(samples, utility)
        assert means[choice] == pytest.approx(means.max())
        assert samples.index(samples[choice]) == choice


def test_votes_count() -> None:
    assert mbr_choose(["a cat", "the dog", "the dog", "one bird"]) == 1
    assert mbr_choose(["x"]) == 0
    # Of equals the first.
    assert mbr_choose(["bb", "aa"]) == 0


@pytest.mark.parametrize("utility", get_args(Utility))
def test_sacrebleu_does_not_score_pair_by_pair(utility: Utility, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs 0.2 ms for a pair: 200 s for the million pairs of 1,000 lines of 32 samples."""
    monkeypatch.delattr(Metric, "sentence_score")
    with pytest.raises(AttributeError):
        plain_utilities(["a"], utility)
    assert mbr_choose(["a cat", "the dog", "the dog"], utility) == 1
