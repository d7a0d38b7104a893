"""Searches with the compiled loops against searches by torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.decoding.random_models import random_weights

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.decoding import engine as engines
from seq2seq.decoding.candidates import Live, Sampling, normalisers
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.ensemble import EnsembleModel
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.output_tokens import ListedTokens
from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compile import Kernels
from seq2seq.kernels.compiled_transformer import CompiledTransformer
from seq2seq.models.interface import Seq2SeqModel

SIZE = 1100


def transformer(**changes: object) -> TransformerSettings:
    base = {"hidden_size": 32, "ff_size": 32, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
    return TransformerSettings(**{**base, **changes})  # type: ignore[arg-type]


SETTINGS: dict[str, ModelSettings] = {
    "transformer": transformer(),
    "post-rotary": transformer(norm_position="post", positions="rotary"),
    "wide-learned": transformer(attention="wide", positions="learned", norm="rms_norm"),
    "gru": RNNSettings(hidden_size=32, embedding_size=32),
    "gru-heads": RNNSettings(hidden_size=32, embedding_size=32, attention="multi_head", num_heads=2),
}
SEARCHES = {
    "greedy": SearchOptions(beam_size=1),
    "beam": SearchOptions(beam_size=5, n_best=3, with_token_scores=True),
    "wide beam": SearchOptions(beam_size=12, n_best=2, max_length_offset=4),
    "attention": SearchOptions(beam_size=3, with_attention=True),
    "short": SearchOptions(beam_size=4, min_length_ratio=0.8, max_length_ratio=1.0, max_length_offset=0),
    "diverse": SearchOptions(beam_size=4, n_best=2, diversity=0.5),
    "samples": SearchOptions(n_best=3, sampling=Sampling(temperature=0.7, top_k=20, seed=3)),
}


def random_model(name: str) -> Seq2SeqModel:
    std = 0.2 if name.startswith("gru") else 0.35  # beyond, rounding grows from step to step
    return random_weights(SETTINGS[name], SIZE, seed=5, std=std)


def sentences(count: int) -> list[Sentence]:
    draws = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 14, (count,), generator=draws).tolist()
    rows = [torch.randint(4, SIZE, (length,), generator=draws).tolist() for length in lengths]
    return [Sentence(row, key=(place,), prefix=(7, 9) if place == 1 else ()) for place, row in enumerate(rows)]


def same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [item.tokens for item in found] == [item.tokens for item in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.cut == other.cut
        if other.token_scores is not None:
            assert one.token_scores == pytest.approx(other.token_scores, abs=1e-4)
        if other.attention is not None:
            assert one.attention is not None
            torch.testing.assert_close(one.attention, other.attention, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("transformer", kind) for kind in SEARCHES),
        *((name, kind) for name in list(SETTINGS)[1:] for kind in ("beam", "attention")),
    ],
)
def test_the_same_is_found(name: str, kind: str) -> None:
    engine, some, options = NativeEngine(random_model(name), torch.device("cpu")), sentences(12), SEARCHES[kind]
    expected = engine.search(some, options)
    engine.prepare(characters=10**6)
    found = engine.search(some, options)
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    for place in (0, 7, 11):
        same(engine.search([some[place]], options)[0], expected[place])


@pytest.mark.bf16
@pytest.mark.parametrize(
    ("name", "kind"), [("transformer", "greedy"), ("post-rotary", "beam"), ("wide-learned", "attention")]
)
def test_products_in_bf16_give_nearly_the_same(name: str, kind: str) -> None:
    """Attention is in fp32 then; what it is without the loops differs by the rounding of bf16."""
    engine, some, options = NativeEngine(random_model(name), torch.device("cpu"), "bf16"), sentences(20), SEARCHES[kind]
    expected = engine.search(some, options)
    engine.prepare(characters=10**6)
    found = engine.search(some, options)
    pairs = [(one[0], other[0]) for one, other in zip(found, expected, strict=True)]
    close = [one.score == pytest.approx(other.score, rel=0.03) for one, other in pairs]
    assert sum(close) >= 16


def test_only_long_texts_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, some = NativeEngine(random_model("transformer"), torch.device("cpu")), sentences(3)
    searched: list[tuple[bool, bool]] = []
    original = engines.search

    def watched(model: Seq2SeqModel, *arguments: Any, **options: Any) -> list[list[Hypothesis]]:
        searched.append((isinstance(model, CompiledTransformer), compiling.used() is not None))
        return original(model, *arguments, **options)

    monkeypatch.setattr(engines, "search", watched)
    for characters in (0, engines._WORTH_LOADING - 1, engines._WORTH_LOADING, 10):
        engine.prepare(characters)
        engine.search(some, SearchOptions(beam_size=1, max_length_ratio=0.0, max_length_offset=1))
        is_long = characters >= engines._WORTH_LOADING
        assert searched[-1] == (is_long, is_long)
        assert engine.version()[0] == is_long


def test_the_transformers_of_an_ensemble_are_compiled() -> None:
    members = [random_model("transformer"), random_model("gru"), random_model("wide-learned")]
    engine, some, options = NativeEngine(EnsembleModel(members), torch.device("cpu")), sentences(9), SearchOptions(5)
    expected = engine.search(some, options)
    engine.prepare(characters=10**6)
    packed = engine._packed_model(compiling.loaded())
    assert isinstance(packed, EnsembleModel)
    assert [isinstance(member, CompiledTransformer) for member in packed.members] == [True, False, True]
    for one, other in zip(engine.search(some, options), expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 7, 13])
@pytest.mark.parametrize("with_bias", [False, True])
def test_scores_of_a_list_are_those_of_the_whole_vocabulary(width: int, with_bias: bool, loops: Kernels) -> None:
    draws = torch.Generator().manual_seed(width)
    model = random_model("transformer").eval()
    model.output.bias = torch.nn.Parameter(torch.randn(SIZE, generator=draws)) if with_bias else None
    lists = [torch.randperm(SIZE, generator=draws)[:count].sort().values.numpy() for count in (4, 257, 30, 901)]
    chosen = [3, 0, 1, 3, 2]
    live = Live(chosen, torch.zeros(len(chosen), width), torch.zeros(len(chosen), width, 1))
    hidden = torch.randn(len(chosen) * width, 32, generator=draws)
    found = ListedTokens(model, lists).logits(hidden, live).view(len(chosen), width, -1)
    whole = model.logits(hidden).view(len(chosen), width, SIZE)
    for place, number in enumerate(chosen):
        own = torch.from_numpy(lists[number])
        torch.testing.assert_close(found[place, :, : len(own)], whole[place][:, own], atol=1e-5, rtol=1e-5)
        assert bool((found[place, :, len(own) :] == -torch.inf).all())


def test_scores_of_a_list_do_not_depend_on_the_number_of_hypotheses(loops: Kernels) -> None:
    """Tiles of other shapes add in the same order, so the bits are the same."""
    draws = torch.Generator().manual_seed(3)
    model, hidden = random_model("transformer").eval(), torch.randn(13, 32, generator=draws)
    outputs = ListedTokens(model, [torch.randperm(SIZE, generator=draws)[:509].sort().values.numpy()])
    together = outputs.logits(hidden, Live([0], torch.zeros(1, 13), torch.zeros(1, 13, 1)))
    for width in range(1, 13):
        live = Live([0], torch.zeros(1, width), torch.zeros(1, width, 1))
        assert torch.equal(outputs.logits(hidden[:width].contiguous(), live), together[:width])


@pytest.mark.parametrize("lengths", [(5, 300), (255, 257), (40, 900)])
def test_scores_of_a_list_do_not_depend_on_the_longest_list(lengths: tuple[int, int], loops: Kernels) -> None:
    model, hidden = random_model("transformer").eval(), torch.randn(2, 32)
    short, long = (np.arange(length) for length in lengths)
    live = Live([0], torch.zeros(1, 2), torch.zeros(1, 2, 1))
    alone, together = (ListedTokens(model, lists).logits(hidden, live) for lists in ([short], [short, long]))
    expected = model.logits(hidden)[:, : len(short)]
    for found in (alone, together):
        torch.testing.assert_close(found[:, : len(short)], expected, atol=1e-5, rtol=1e-5)
        assert bool((found[:, len(short) :] == -torch.inf).all())
    assert torch.equal(normalisers(alone), normalisers(together))
