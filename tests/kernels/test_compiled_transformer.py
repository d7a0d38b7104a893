"""The compiled Transformer against the Transformer that it is made from; see also `tests/models/test_contract.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.decoding.random_models import random_weights

from seq2seq.config.model import TransformerSettings
from seq2seq.kernels import compiled_transformer
from seq2seq.kernels.compile import Kernels
from seq2seq.kernels.compiled_transformer import MOST_QUERIES, CompiledTransformer, LayerLoop, pack_for_search
from seq2seq.kernels.packed_linear import MOST_INNER
from seq2seq.models.interface import Seq2SeqModel, Stepped
from seq2seq.models.kv_cache import SHARED_LIMIT
from seq2seq.models.transformer import TransformerModel
from seq2seq.special_tokens import PAD

WHOLE: dict[str, dict[str, Any]] = {
    "pre": {},
    "post": {"norm_position": "post"},
    "root mean square": {"norm": "rms_norm"},
    "post, root mean square": {"norm": "rms_norm", "norm_position": "post"},
    "wide": {"attention": "wide", "hidden_size": 16},
    "narrow block": {"ff_size": 20},
    "broad block": {"ff_size": 300},
    "learned": {"positions": "learned"},
    "narrow heads": {"num_heads": 4},
    "heads of 20": {"hidden_size": 40},
}
"""Layers that the loops compute in one call."""
IN_PARTS: dict[str, dict[str, Any]] = {
    "rotary": {"positions": "rotary"},
    "gelu": {"activation": "gelu"},
    "swiglu": {"activation": "swiglu"},
    "broad product": {"ff_size": MOST_INNER + 1},
}


def random_model(changes: dict[str, Any]) -> TransformerModel:
    base = {"hidden_size": 32, "ff_size": 48, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
    model = random_weights(TransformerSettings(**{**base, **changes}), 50, seed=3, std=0.4)
    assert isinstance(model, TransformerModel)
    return model.eval()


def sources(lengths: list[int]) -> torch.Tensor:
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(4, 50, (length,))
    return rows


def states(model: Seq2SeqModel, source: torch.Tensor, each: int = 2) -> tuple[torch.Tensor, list[Stepped]]:
    """The encoder's states, and nine steps of `each` hypotheses of every sentence."""
    draws = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        memory = model.encode(source)
        state, found = model.start(memory), []
        for position in range(9):
            old = 1 if position == 0 else each
            found.append(model.step(torch.randint(4, 50, (len(source) * old,), generator=draws), memory, state))
            rows = torch.arange(len(source))[:, None] * old
            state = model.select(found[-1].state, rows + torch.randint(0, old, (len(source), each), generator=draws))
        return memory.states, found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of whole layers."""
    made: list[str] = []
    for name in ("encode", "step"):
        original = getattr(LayerLoop, name)

        def counted(*arguments: Any, name: str = name, original: Any = original) -> torch.Tensor:
            made.append(name)
            return original(*arguments)

        monkeypatch.setattr(LayerLoop, name, counted)
    return made


@pytest.mark.parametrize("name", [*WHOLE, *IN_PARTS])
def test_it_computes_what_the_model_does(name: str, calls: list[str], kernels: Kernels) -> None:
    model, source = random_model({**WHOLE, **IN_PARTS}[name]), sources([9, 1, 4, 12, 12])
    memory, steps = states(model, source)
    found_memory, found_steps = states(CompiledTransformer(model, kernels), source)
    torch.testing.assert_close(found_memory, memory, atol=2e-5, rtol=1e-5)
    for found, expected in zip(found_steps, steps, strict=True):
        torch.testing.assert_close(found.hidden, expected.hidden, atol=2e-5, rtol=1e-5)
    assert calls == (["encode"] * 2 + ["step"] * 9 * 2 if name in WHOLE else [])


@pytest.mark.int8
@pytest.mark.parametrize("name", [*WHOLE, *IN_PARTS])
def test_int8_is_close_to_fp32(name: str, calls: list[str], kernels: Kernels) -> None:
    model, source = random_model({**WHOLE, **IN_PARTS}[name]), sources([9, 1, 4, 12, 12])
    memory, steps = states(model, source)
    compiled = CompiledTransformer(model, kernels, torch.int8)
    found_memory, found_steps = states(compiled, source)
    assert calls == (["encode"] * 2 + ["step"] * 9 * 2 if name in (*WHOLE, "broad product") else [])
    for found, expected in zip([found_memory, found_steps[-1].hidden], [memory, steps[-1].hidden], strict=True):
        assert 0 < float((found - expected).norm() / expected.norm()) < 0.04
    # Layer by layer or part by part, the products are the same.
    in_parts = CompiledTransformer(model, kernels, torch.int8)
    in_parts.encoder, in_parts.decoder = [None] * 2, [None] * 2
    parts_memory, parts_steps = states(in_parts, source)
    torch.testing.assert_close(parts_memory, found_memory, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(parts_steps[-1].hidden, found_steps[-1].hidden, atol=2e-5, rtol=1e-5)


@pytest.mark.int8
def test_a_layer_of_two_types_is_computed_in_parts(
    calls: list[str], kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq.kernels.packed_linear.MOST_INNER_INT8", 40)  # less than the block's 48
    model, source = random_model({}), sources([9, 1, 4])
    memory, _ = states(model, source)
    found, _ = states(CompiledTransformer(model, kernels, torch.int8), source)
    assert calls == []
    assert 0 < float((found - memory).norm() / memory.norm()) < 0.04


@pytest.mark.parametrize("each", [2, SHARED_LIMIT + 1])
def test_the_number_of_sentences_at_a_time_changes_nothing(
    each: int, calls: list[str], monkeypatch: pytest.MonkeyPatch, kernels: Kernels
) -> None:
    """Hypotheses share a buffer of keys and values, or have one each."""
    model, source = CompiledTransformer(random_model({}), kernels), sources([7, 7, 6, 2, 5, 5, 1])
    together, steps = states(model, source, each)
    for rows in (1, 15, 22):
        monkeypatch.setattr(compiled_transformer, "_ROWS_AT_ONCE", rows)
        memory, found = states(model, source, each)
        assert torch.equal(memory, together)
        assert all(torch.equal(one.hidden, other.hidden) for one, other in zip(found, steps, strict=True))
    assert len(calls) == 4 * (2 + 9 * 2)


@pytest.mark.parametrize(
    ("longest", "each", "expected"),
    [(MOST_QUERIES + 1, 2, ["step"] * 9 * 2), (4, MOST_QUERIES + 1, ["encode"] * 2 + ["step"] * 2)],
    ids=["long sources", "wide beams"],
)
def test_many_positions_at_once_are_left_to_torch(
    longest: int, each: int, expected: list[str], calls: list[str], kernels: Kernels
) -> None:
    """Attention of many positions to many is a product of matrices, which torch is faster at."""
    model, source = random_model({}), sources([longest, 3])
    memory, steps = states(model, source, each)
    found_memory, found_steps = states(CompiledTransformer(model, kernels), source, each)
    torch.testing.assert_close(found_memory, memory, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found_steps[-1].hidden, steps[-1].hidden, atol=2e-5, rtol=1e-5)
    assert calls == expected


def test_an_input_is_left_as_it_was(kernels: Kernels) -> None:
    model = CompiledTransformer(random_model({"norm_position": "post"}), kernels)
    loop = model.encoder[0]
    assert loop is not None
    x = torch.randn(2, 5, 32)
    before = x.clone()
    loop.encode(x, torch.zeros(2, 1, 1, 5))
    assert torch.equal(x, before)


def test_rotary_heads_of_another_width_are_left_to_torch(kernels: Kernels) -> None:
    narrow, usual = random_model({"num_heads": 4, "positions": "rotary"}), random_model({"positions": "rotary"})
    assert isinstance(pack_for_search(usual, torch.float32, kernels), CompiledTransformer)
    assert isinstance(pack_for_search(usual, torch.float32, None), TransformerModel)
    packed = pack_for_search(narrow, torch.float32, kernels)
    assert isinstance(packed, TransformerModel)
    source = sources([9, 1, 4])
    torch.testing.assert_close(states(packed, source)[0], states(narrow, source)[0], atol=2e-5, rtol=1e-5)


def test_padded_heads_have_the_attention_of_their_model(kernels: Kernels) -> None:
    """Teacher forcing and long sources take the same padded heads by torch's operators."""
    model, source = random_model({"num_heads": 4}), sources([MOST_QUERIES + 2, 3])
    target = torch.randint(4, 50, (2, 7))
    with torch.inference_mode():
        expected = model.decode(target, model.encode(source), with_attention=True)
        compiled = CompiledTransformer(model, kernels)
        found = compiled.decode(target, compiled.encode(source), with_attention=True)
    torch.testing.assert_close(found.hidden, expected.hidden, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=1e-4)


def test_it_shares_its_parameters_with_the_model(kernels: Kernels) -> None:
    model = random_model({})
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in CompiledTransformer(model, kernels).parameters()} == own
