"""Dropout, embeddings, tying, norms and feed-forward blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_configurations import gru, transformer

from seq2seq.config.model import ModelSettings
from seq2seq.errors import ConfigError, UsageError
from seq2seq.models import build_model
from seq2seq.models.layers import Dropout, Embedding, FeedForward, build_norm
from seq2seq.models.linear import Linear, compute_dtype
from seq2seq.special_tokens import PAD


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.9, 0.999])
def test_dropout_keeps_the_mean_and_has_the_variance_of_its_masks(probability: float, dtype: torch.dtype) -> None:
    count = 400_000
    y = Dropout(probability)(torch.ones(count, dtype=dtype)).double()
    rounded = min(round(probability * 256), 255) / 256
    kept = 1 - rounded
    deviation = (rounded / kept / count) ** 0.5
    precision = 0.0 if dtype == torch.float32 else 2**-8
    assert float(y.mean()) == pytest.approx(1.0, abs=5 * deviation + precision)
    assert float((y == 0).double().mean()) == pytest.approx(rounded, abs=5 * (rounded * kept / count) ** 0.5)
    assert float(y.var()) == pytest.approx(rounded / kept, rel=0.05)
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / kept, dtype=dtype))}


def test_dropout_masks_are_independent_along_every_axis() -> None:
    """torch's plain random_() leaves the highest bit of each 64-bit draw 0, a bias of each eighth byte."""
    kept = (Dropout(0.5)(torch.ones(64, 4096)) != 0).double()
    for lag in range(1, 17):
        both = (kept[:, lag:] * kept[:, :-lag]).mean()
        assert float(both) == pytest.approx(0.25, abs=0.006), lag
    assert float((kept[1:] * kept[:-1]).mean()) == pytest.approx(0.25, abs=0.006)
    by_byte = kept.view(64, -1, 8).mean(dim=(0, 1))
    assert by_byte.tolist() == pytest.approx([0.5] * 8, abs=0.015)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1001])
def test_dropout_of_any_size_is_reproduced_by_the_generators_state(size: int) -> None:
    dropout, x = Dropout(0.4), torch.randn(size, 3)
    state = torch.get_rng_state()
    first = dropout(x)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), first)


def test_dropout_passes_the_gradient_of_its_mask() -> None:
    x = torch.randn(50, 10, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_dropout_is_nothing_in_evaluation_and_at_zero() -> None:
    x = torch.randn(5, 5)
    assert Dropout(0.3).eval()(x) is x
    assert Dropout(0.0)(x) is x
    tiny = Dropout(0.001)(torch.ones(200_000))
    assert float((tiny == 0).float().mean()) == pytest.approx(0.001, abs=0.0005)


def test_embeddings_have_unit_variance_and_a_zero_pad() -> None:
    embedding = Embedding(500, 64)
    assert float(embedding(torch.arange(1, 500)).detach().var()) == pytest.approx(1.0, rel=0.05)
    assert torch.all(embedding(torch.tensor([PAD])) == 0)


def test_rms_norm_is_the_papers_and_layer_norm_torchs() -> None:
    x = torch.randn(3, 8) * 4
    wanted = x / x.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(build_norm("rms_norm", 8)(x), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(build_norm("layer_norm", 8)(x), F.layer_norm(x, (8,)))


def test_swiglu_is_the_papers() -> None:
    """FFN_SwiGLU(x) = (silu(x W) * x V) W2 (Shazeer 2020, equation 6), with biases."""
    block = FeedForward(transformer(activation="swiglu"))
    x = torch.randn(2, 3, 16)
    gate, value = block.inner.weight.split(24)
    hidden = F.silu(x @ gate.T + block.inner.bias[:24]) * (x @ value.T + block.inner.bias[24:])
    torch.testing.assert_close(block(x), hidden @ block.outer.weight.T + block.outer.bias)


def test_products_are_computed_in_autocasts_type() -> None:
    assert compute_dtype(torch.zeros(1)) == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(torch.zeros(1)) == torch.bfloat16


@pytest.mark.parametrize(("settings", "width"), [(transformer, 16), (gru, 16), (gru, 12)])
def test_tied_weights_are_one_parameter_and_counted_once(settings: Any, width: int) -> None:
    changes = {} if settings is transformer else {"embedding_size": width}

    def build(tied: str) -> tuple[Any, int]:
        model: Any = build_model(settings(tied_embeddings=tied, **changes), 30, 30)
        return model, sum(parameter.numel() for parameter in model.parameters())

    none, untied = build("none")
    target, two = build("target")
    every, three = build("all")
    assert none.output.bias is not None
    assert none.output.weight is not none.target_embedding.weight is not none.source_embedding.weight
    assert target.output.bias is None
    assert target.output.weight is target.target_embedding.weight
    assert target.target_embedding.weight is not target.source_embedding.weight
    assert every.output.weight is every.target_embedding.weight is every.source_embedding.weight
    # Tying saves the output's weights and bias; a narrow embedding needs a projection before the output.
    extra = 0 if width == 16 else width * 16 + width
    assert two == untied - 30 * 16 - 30 + extra
    assert three == two - 30 * width


@pytest.mark.parametrize("settings", [transformer(), gru()])
def test_three_tied_embeddings_need_one_vocabulary(settings: ModelSettings) -> None:
    with pytest.raises(ConfigError, match="30 source and 31 target"):
        build_model(settings, 30, 31)
    build_model(settings.model_copy(update={"tied_embeddings": "target"}), 30, 31)


def test_learned_positions_end_with_their_table() -> None:
    """Beyond the table there was an index error inside torch, on a GPU an assertion that ends the process."""
    model = build_model(transformer(positions="learned", max_positions=5), 20, 20)
    assert model.max_source_length == model.max_target_length == 5
    source, target = torch.randint(4, 20, (2, 5)), torch.randint(4, 20, (2, 5))
    memory = model.encode(source)
    model.decode(target, memory)
    longer = torch.cat([source, source], dim=1)
    with pytest.raises(UsageError, match="10 tokens") as failure:
        model.encode(longer)
    assert failure.value.hint
    with pytest.raises(UsageError):
        model.decode(longer, memory)
    state = model.start(memory)
    for tokens in target.unbind(1):
        state = model.step(tokens, memory, state).state
    with pytest.raises(UsageError, match="6 tokens"):
        model.step(target[:, 0], memory, state)


@pytest.mark.parametrize("settings", [transformer(), transformer(positions="rotary"), gru()])
def test_the_others_have_no_limit(settings: ModelSettings) -> None:
    model = build_model(settings, 20, 20)
    assert model.max_source_length is None
    assert model.max_target_length is None


@pytest.mark.bf16
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5)])
def test_relu_within_the_product_is_what_autocast_computes(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = Linear(shape[-1], 9, bias=bias), torch.randn(shape, requires_grad=True)
    inputs, slope = [x, *layer.parameters()], torch.randn(*shape[:-1], 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = layer(x, relu=True), F.relu(F.linear(x, layer.weight, layer.bias))
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
    for got, wanted in zip(
        torch.autograd.grad(ours, inputs, slope.bfloat16()),
        torch.autograd.grad(theirs, inputs, slope.bfloat16()),
        strict=True,
    ):
        assert got.dtype == wanted.dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
