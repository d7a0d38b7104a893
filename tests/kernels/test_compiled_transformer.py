"""Whole layers of a Transformer by compiled loops against the layers themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

from seq2seq.config.model import TransformerSettings
from seq2seq.kernels import compile as loading
from seq2seq.kernels import tensors
from seq2seq.models import Stepped, TransformerModel, build_model
from seq2seq.models.kv_cache import SHARED_LIMIT
from seq2seq.models.linear import packed_weights
from seq2seq.special_tokens import PAD

KNOWN: dict[str, dict[str, Any]] = {
    "pre": {},
    "post": {"norm_position": "post"},
    "root mean square": {"norm": "rms_norm"},
    "post, root mean square": {"norm": "rms_norm", "norm_position": "post"},
    "wide": {"attention": "wide", "hidden_size": 16},
    "narrow block": {"ff_size": 20},
    "broad block": {"ff_size": 300},
    "learned": {"positions": "learned"},
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "rotary": {"positions": "rotary"},
    "gelu": {"activation": "gelu"},
    "swiglu": {"activation": "swiglu"},
    "narrow heads": {"num_heads": 4},
    "broad product": {"ff_size": tensors.MOST_INNER + 1},
}


def random_model(changes: dict[str, Any]) -> TransformerModel:
    torch.manual_seed(3)
    base = {"hidden_size": 32, "ff_size": 48, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
    model = build_model(TransformerSettings(**{**base, **changes}), 50, 50)
    assert isinstance(model, TransformerModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model.eval()


def sources(lengths: list[int]) -> torch.Tensor:
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(4, 50, (length,))
    return rows


def states(
    model: TransformerModel, source: torch.Tensor, loops: bool, each: int = 2
) -> tuple[torch.Tensor, list[Stepped]]:
    """Of the encoder, and some steps of so many hypotheses of every sentence."""
    assert loading.load() == ""
    context: AbstractContextManager[None] = loading.in_use() if loops else nullcontext()
    draws = torch.Generator().manual_seed(1)
    with torch.inference_mode(), packed_weights(model), context:
        memory = model.encode(source)
        state, found = model.start(memory), []
        for turn in range(9):
            old = 1 if turn == 0 else each
            found.append(model.step(torch.randint(4, 50, (len(source) * old,), generator=draws), memory, state))
            rows = torch.arange(len(source))[:, None] * old
            state = model.select(found[-1].state, rows + torch.randint(0, old, (len(source), each), generator=draws))
        return memory.states, found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bool]]:
    """Whether the loops took each layer that they were asked for."""
    found: dict[str, list[bool]] = {"encoder_layer": [], "decoder_layer": []}

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = original(*arguments)
            found[name].append(result is not None)
            return result

        return call

    for name in found:
        monkeypatch.setattr(tensors, name, watched(name, getattr(tensors, name)))
    return found


@pytest.mark.parametrize("name", [*KNOWN, *UNKNOWN])
def test_they_compute_what_the_layers_do(name: str, asked: dict[str, list[bool]]) -> None:
    model, source = random_model({**KNOWN, **UNKNOWN}[name]), sources([9, 1, 4, 12, 12])
    memory, steps = states(model, source, loops=False)
    assert not any(asked.values())
    found_memory, found_steps = states(model, source, loops=True)
    torch.testing.assert_close(found_memory, memory, atol=2e-5, rtol=1e-5)
    for found, expected in zip(found_steps, steps, strict=True):
        torch.testing.assert_close(found.hidden, expected.hidden, atol=2e-5, rtol=1e-5)
    taken = [took for layers in asked.values() for took in layers]
    assert (len(taken) == 2 + 9 * 2 and all(taken)) if name in KNOWN else not any(taken)


@pytest.mark.parametrize("each", [2, SHARED_LIMIT + 1])
def test_some_sentences_at_a_time_are_as_good_as_all(
    each: int, asked: dict[str, list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypotheses share a buffer of keys and values, or have one each."""
    model, source = random_model({}), sources([7, 7, 6, 2, 5, 5, 1])
    together, steps = states(model, source, loops=True, each=each)
    for rows in (1, 15, 22):
        monkeypatch.setattr(tensors, "_ROWS_AT_ONCE", rows)
        memory, found = states(model, source, loops=True, each=each)
        assert torch.equal(memory, together)
        assert all(torch.equal(one.hidden, other.hidden) for one, other in zip(found, steps, strict=True))
    assert all(asked["encoder_layer"] + asked["decoder_layer"])


def test_long_sources_are_left_to_torch(asked: dict[str, list[bool]]) -> None:
    """Attention of many positions to many is a product of matrices, which torch is faster at."""
    model, source = random_model({}), sources([tensors.MOST_QUERIES + 1, 3])
    memory, steps = states(model, source, loops=False)
    found_memory, found_steps = states(model, source, loops=True)
    torch.testing.assert_close(found_memory, memory, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found_steps[-1].hidden, steps[-1].hidden, atol=2e-5, rtol=1e-5)
    assert not any(asked["encoder_layer"])
    assert all(asked["decoder_layer"])


def test_an_input_is_left_as_it_was(asked: dict[str, list[bool]]) -> None:
    model, source = random_model({"norm_position": "post"}), sources([5, 3])
    assert loading.load() == ""
    with torch.inference_mode(), packed_weights(model), loading.in_use():
        x = torch.randn(2, 5, 32)
        before = x.clone()
        model.encoder[0](x, torch.zeros(2, 1, 1, 5), None)
        assert torch.equal(x, before)
        assert asked["encoder_layer"] == [True]
        assert model.encode(source).states.shape == (2, 5, 32)
