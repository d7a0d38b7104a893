"""Reranking of what a beam finds by a model of the opposite direction."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from seq2seq.config import DecodingSettings, RNNSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.interface import SearchOptions
from seq2seq.decoding.mbr import MBROptions
from seq2seq.decoding.reranking import Reranker
from seq2seq.decoding.segmentation import split_sentences
from seq2seq.decoding.translation import Translation
from seq2seq.decoding.translator import TranslationOptions, Translator
from tests.decoding.random_models import random_weights
from tests.decoding.tiny_models import letters

LINES = ["The old man sleeps.", "", "Two dogs run.", "A woman sees a red house and a tree.", "Tea."]
TOKENIZERS = letters("".join(sorted(set("".join(LINES)))))
CPU = torch.device("cpu")


def translators(weight: float) -> tuple[Translator, Reranker]:
    """A translator and a reranker of models with random weights."""
    settings = DecodingSettings(max_length_ratio=1.0, max_length_offset=3)
    sizes = RNNSettings(embedding_size=16, hidden_size=16)
    there, back = (random_weights(sizes, TOKENIZERS.source.size, seed=seed, std=0.5).eval() for seed in (1, 2))
    scorer = Scorer(back, TOKENIZERS, settings, CPU)
    return Translator(NativeEngine(there, CPU), TOKENIZERS, settings), Reranker(scorer, weight)


@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_the_best_sum_of_both_scores_comes_first(weight: float) -> None:
    translator, reranker = translators(weight)
    found = list(translator.stream(LINES, TranslationOptions(SearchOptions(4, n_best=4))))
    translator.reranker = reranker
    reranked = list(translator.stream(LINES, TranslationOptions(SearchOptions(4, n_best=2))))
    changed = 0
    for line, plain, items in zip(LINES, found, reranked, strict=True):
        if not line:
            assert items == plain
            continue
        backward = reranker.scorer.score([(item.text, line) for item in plain])
        scores = {
            item.text: item.score + weight * score.log_probability / score.length
            for item, score in zip(plain, backward, strict=True)
        }
        expected = sorted(scores, key=lambda text: -scores[text])
        assert [item.text for item in items] == expected[:2]
        assert [item.score for item in items] == pytest.approx([scores[item.text] for item in items], rel=1e-4)
        assert items[0].log_probability == next(i for i in plain if i.text == items[0].text).log_probability
        changed += items[0].text != plain[0].text
    assert (changed > 0) == (weight > 0.0)


def test_sentences_of_a_paragraph_are_reranked_one_by_one() -> None:
    translator, translator.reranker = translators(5.0)
    options = TranslationOptions(SearchOptions(4))
    alone = [items[0].text for items in translator.stream([LINES[0], LINES[2]], options)]
    paragraph = options._replace(split=partial(split_sentences, language="en"))
    (joined,) = translator.stream([f"{LINES[0]} {LINES[2]}"], paragraph)
    assert joined[0].text == " ".join(alone)
    assert math.isfinite(joined[0].score)


@pytest.mark.parametrize(
    "options",
    [
        TranslationOptions(SearchOptions(4, n_best=2, sampling=Sampling())),
        TranslationOptions(SearchOptions(4, n_best=2, diversity=0.5)),
        TranslationOptions(SearchOptions(sampling=Sampling()), mbr=MBROptions(4, "chrf", "13a")),
    ],
    ids=["samples", "diverse", "minimum Bayes risk"],
)
def test_other_searches_are_not_reranked(options: TranslationOptions) -> None:
    translator, reranker = translators(5.0)

    def found() -> list[list[Translation]]:
        return list(translator.stream(LINES, options))

    plain = found()
    translator.reranker = reranker
    assert found() == plain
