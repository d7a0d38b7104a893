"""Ensembles against the mean of the members' probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.ensemble import EnsembleModel, check_vocabularies
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.special_tokens import BOS, EOS, UNK
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import WordTokenizer
from tests.decoding.probabilities import target_log_probabilities
from tests.decoding.random_models import random_model
from tests.decoding.tiny_models import RecurrentModel, letters

CPU = torch.device("cpu")
SENTENCES = [Sentence(ids) for ids in ([4, 5, 6], [3], [8, 8, 4, 5, 7], [6, 4], [])]
SOURCE = padded([[*sentence.ids, EOS] for sentence in SENTENCES], CPU)


def mixed(size: int = 9) -> list[Seq2SeqModel]:
    return [random_model("transformer", size, 1), random_model("gru", size, 2), random_model("transformer", size, 3)]


def mean_probability(members: Sequence[Seq2SeqModel], source: list[int], output: Sequence[int]) -> float:
    """log P(output, EOS | source), one member and one position at a time."""
    steps = [*output, EOS]
    return sum(math.log(_mean(tuple(members), tuple(source), tuple(steps[:t]))[steps[t]]) for t in range(len(steps)))


@cache
def _mean(members: tuple[Seq2SeqModel, ...], source: tuple[int, ...], prefix: tuple[int, ...]) -> list[float]:
    """The mean over members of the next token's probabilities."""
    rows = []
    for member in members:
        with torch.inference_mode():
            memory = member.encode(torch.tensor([[*source, EOS]]))
            hidden = member.decode(torch.tensor([[BOS, *prefix]]), memory).hidden[0, -1]
            rows.append(log_probabilities(member, hidden).exp())
    return torch.stack(rows).mean(dim=0).tolist()


@pytest.mark.parametrize("kind", ["transformer", "gru"])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_model_with_itself_is_the_model(kind: str, copies: int) -> None:
    model = random_model(kind, 9)
    options = SearchOptions(beam_size=4, n_best=4, max_length_offset=6, with_attention=True)
    expected = NativeEngine(model, CPU).search(SENTENCES, options)
    found = NativeEngine(EnsembleModel([model] * copies), CPU).search(SENTENCES, options)
    for one, other in zip(itertools.chain(*expected), itertools.chain(*found), strict=True):
        assert one.tokens == other.tokens
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)
        assert one.attention is not None
        assert other.attention is not None
        torch.testing.assert_close(one.attention, other.attention)


def test_scores_are_the_mean_probability_position_by_position() -> None:
    members = mixed()
    targets = [[4, 5], [], [7, 6, 8, 4], [3], [5, 5, 5]]
    found = target_log_probabilities(EnsembleModel(members).eval(), SOURCE, targets).tolist()
    for sentence, target, score in zip(SENTENCES, targets, found, strict=True):
        assert score == pytest.approx(mean_probability(members, sentence.ids, target), abs=1e-4)


def test_wide_beam_equals_enumeration() -> None:
    members, size, limit = mixed(7), 7, 3
    ids = [4, 6]
    everything = {
        output: mean_probability(members, ids, output)
        for length in range(limit + 1)
        for output in itertools.product(range(UNK, size), repeat=length)
    }
    options = SearchOptions(beam_size=200, n_best=20, max_length_ratio=0.0, max_length_offset=limit)
    (found,) = NativeEngine(EnsembleModel(members), CPU).search([Sentence(ids)], options)
    best = sorted(everything, key=lambda output: -everything[output] / (len(output) + 1))[:20]
    assert [tuple(hypothesis.tokens) for hypothesis in found] == best
    for hypothesis in found:
        assert hypothesis.log_probability == pytest.approx(everything[tuple(hypothesis.tokens)], abs=1e-4)


def test_neighbours_change_nothing() -> None:
    """Members keep states of different kinds, which must follow the beams together."""
    engine = NativeEngine(EnsembleModel(mixed()), CPU)
    options = SearchOptions(beam_size=3, n_best=3, max_length_offset=7)
    together = engine.search(SENTENCES, options)
    for sentence, expected in zip(SENTENCES, together, strict=True):
        (alone,) = engine.search([sentence], options)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]
        for hypothesis in alone:
            score = target_log_probabilities(
                engine.model, torch.tensor([[*sentence.ids, EOS]]), [hypothesis.tokens]
            ).item()
            assert hypothesis.log_probability == pytest.approx(score, abs=1e-5)


def test_attention_is_the_mean_over_members() -> None:
    members = mixed()
    target_in = torch.tensor([[BOS, 4, 5]] * len(SENTENCES))

    def last_layer(model: Seq2SeqModel) -> Tensor:
        with torch.inference_mode():
            found = model.decode(target_in, model.encode(SOURCE), with_attention=True).attention
        assert found is not None
        return found[:, -1].mean(dim=1)

    expected = torch.stack([last_layer(member) for member in members]).mean(dim=0)
    torch.testing.assert_close(last_layer(EnsembleModel(members).eval()), expected)


def test_limits_are_the_tightest() -> None:
    members = [RecurrentModel(9, seed=1, limit=limit) for limit in (None, 7, 5)]
    assert EnsembleModel(members[:1]).max_target_length is None
    assert EnsembleModel(members).max_target_length == 5
    assert EnsembleModel(members).max_source_length is None


def test_other_vocabularies_are_refused() -> None:
    one, other = WordTokenizer(["a", "b"], "identity"), WordTokenizer(["b", "a"], "identity")
    check_vocabularies([("runs/a", letters())])
    check_vocabularies([("runs/a", letters()), ("runs/b", letters())])
    with pytest.raises(UsageError, match="runs/c has another vocabulary than runs/a"):
        check_vocabularies([("runs/a", TokenizerPair(one, one)), ("runs/c", TokenizerPair(one, other))])
