"""Reranking of what a beam finds by a model of the opposite direction."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from seq2seq.config import DecodingSettings, RNNSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.interface import SearchOptions
from seq2seq.decoding.mbr import MBROptions
from seq2seq.decoding.reranking import RerankingEngine
from seq2seq.decoding.segmentation import split_sentences
from seq2seq.decoding.translator import TranslationOptions, Translator
from seq2seq.errors import UsageError
from tests.decoding.random_models import random_weights
from tests.decoding.tiny_models import letters

LINES = ["The old man sleeps.", "", "Two dogs run.", "A woman sees a red house and a tree.", "Tea."]
TOKENIZERS = letters("".join(sorted(set("".join(LINES)))))
CPU = torch.device("cpu")


def translators(weight: float) -> tuple[Translator, Translator, Scorer]:
    """A translator without and one with reranking, and the scorer, of models with random weights."""
    settings = DecodingSettings(max_length_ratio=1.0, max_length_offset=3)
    sizes = RNNSettings(embedding_size=16, hidden_size=16)
    there, back = (random_weights(sizes, TOKENIZERS.source.size, seed=seed, std=0.5).eval() for seed in (1, 2))
    scorer = Scorer(back, TOKENIZERS, settings, CPU)
    plain = Translator(NativeEngine(there, CPU), TOKENIZERS, settings, languages=("en", "de"))
    return plain, plain.replaced(engine=RerankingEngine(plain.engine, TOKENIZERS, scorer, weight)), scorer


@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_the_best_sum_of_both_scores_comes_first(weight: float) -> None:
    plain, reranking, scorer = translators(weight)
    found = list(plain.stream(LINES, TranslationOptions(SearchOptions(4, n_best=4))))
    reranked = list(reranking.stream(LINES, TranslationOptions(SearchOptions(4, n_best=2))))
    changed = 0
    for line, before, items in zip(LINES, found, reranked, strict=True):
        if not line:
            assert items == before
            continue
        backward = scorer.score([(item.text, line) for item in before])
        scores = {
            item.text: item.score + weight * score.log_probability / score.length
            for item, score in zip(before, backward, strict=True)
        }
        expected = sorted(scores, key=lambda text: -scores[text])
        assert [item.text for item in items] == expected[:2]
        assert [item.score for item in items] == pytest.approx([scores[item.text] for item in items], rel=1e-4)
        assert items[0].log_probability == next(i for i in before if i.text == items[0].text).log_probability
        changed += items[0].text != before[0].text
    assert (changed > 0) == (weight > 0.0)


def test_sentences_of_a_paragraph_are_reranked_one_by_one() -> None:
    plain, reranking, _ = translators(5.0)
    options = TranslationOptions(SearchOptions(4))
    alone = list(reranking.stream([LINES[0], LINES[2]], options))
    paragraph = options._replace(split=partial(split_sentences, language="en"))
    text = f"{LINES[0]} {LINES[2]}"
    (joined,), (before,) = (list(made.stream([text], paragraph)) for made in (reranking, plain))
    assert joined[0].text == " ".join(items[0].text for items in alone)
    assert joined[0].text != before[0].text
    lengths = [len(items[0].pieces) + 1 for items in alone]
    mean = sum(items[0].score * length for items, length in zip(alone, lengths, strict=True)) / sum(lengths)
    assert joined[0].score == pytest.approx(mean)
    assert before[0].score == pytest.approx(before[0].log_probability / (len(before[0].pieces) + 2))


def test_capitals_are_reranked_as_they_are_translated() -> None:
    """The other model has never seen a text in capitals."""
    _, reranking, _ = translators(5.0)
    usual, raised = reranking.translate([LINES[3], LINES[3].upper()])
    assert raised == usual.upper()


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
    plain, reranking, _ = translators(5.0)
    assert list(reranking.stream(LINES, options)) == list(plain.stream(LINES, options))


def test_a_beam_of_1_leaves_nothing_to_choose() -> None:
    """It was translated as without reranking, without a word."""
    _, reranking, _ = translators(5.0)
    with pytest.raises(UsageError, match="a beam of 1 has one"):
        reranking.translate(LINES, beam_size=1)
