"""Attention against the papers' equations, one number at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq.models.attention import (
    LONGEST_EXPLICIT,
    MASK_VALUE,
    RecurrentAttention,
    padding_bias,
    prefers_explicit,
    scaled_dot_product_attention,
)
from seq2seq.models.layers import Dropout
from seq2seq.models.positions import rotate, rotation

WIDTH = 6


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def times(matrix: Tensor, vector: list[float]) -> list[float]:
    return [dot(row, vector) for row in matrix.tolist()]


def score(kind: str, attention: RecurrentAttention, query: list[float], memory: list[float]) -> float:
    match kind:
        case "additive":
            sums = zip(
                times(attention.query.weight, query),
                times(attention.key.weight, memory),
                attention.key.bias.tolist(),
                strict=True,
            )
            return dot(attention.energy.weight[0].tolist(), [math.tanh(sum(three)) for three in sums])
        case "dot":
            return dot(query, memory)
        case "general":
            return dot(query, times(attention.key.weight, memory))
        case "scaled_dot":
            return dot(query, memory) / math.sqrt(WIDTH)
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["additive", "dot", "general", "scaled_dot"])
def test_recurrent_attention_equals_the_papers_equations(kind: Any) -> None:
    attention = RecurrentAttention(kind, WIDTH, 1)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    queries, states = torch.randn(2, 3, WIDTH), torch.randn(2, 4, WIDTH)
    lengths = (4, 2)
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    contexts, weights = attention(queries, attention.project(states, torch.float32), padding_bias(mask))
    for row, length in enumerate(lengths):
        memory = states[row, :length].tolist()
        for position in range(3):
            query = queries[row, position].tolist()
            powers = [math.exp(score(kind, attention, query, each)) for each in memory]
            wanted = [power / sum(powers) for power in powers]
            context = [dot(wanted, [each[column] for each in memory]) for column in range(WIDTH)]
            found = weights[row, 0, position].tolist()
            assert found == pytest.approx(wanted + [0.0] * (4 - length), abs=1e-5)
            assert contexts[row, position].tolist() == pytest.approx(context, abs=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_explicit_and_fused_attention_are_equal(dtype: torch.dtype, causal: bool) -> None:
    size = LONGEST_EXPLICIT + 6
    query, keys, values = torch.randn(3, 4, 2, size, 8).to(dtype).unbind(0)
    bias = None if causal else padding_bias(torch.arange(size)[None] < torch.tensor([size, 1, 3, 5])[:, None])
    explicit, weights = scaled_dot_product_attention(query, keys, values, bias=bias, causal=causal, with_weights=True)
    with torch.no_grad():
        assert not prefers_explicit(query, keys)
        fused, none = scaled_dot_product_attention(query, keys, values, bias=bias, causal=causal)
    assert none is None
    assert weights is not None
    assert explicit.dtype == fused.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(explicit, fused, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 2, size))


def test_the_explicit_product_is_left_where_it_would_be_too_large() -> None:
    """One line of 3,000 words must not ask for gigabytes."""
    small, large = torch.empty(1, 1, 20, 4), torch.empty(1).expand(8, 4, 4000, 4)
    assert prefers_explicit(small, small)
    assert not prefers_explicit(large, large)
    with torch.no_grad():
        assert prefers_explicit(large[:, :, :1], large)
        assert prefers_explicit(small, small)
        assert not prefers_explicit(large, large)


@pytest.mark.parametrize("keys", [1, 3, 15, 16, 17])
def test_short_rows_of_weights_are_filled_up_unseen(keys: int) -> None:
    """Without gradients on a CPU the softmax is over at least 16 columns, of which the added ones weigh nothing."""
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, keys, 8), torch.randn(2, 3, keys, 8)
    wanted = scaled_dot_product_attention(query, key, value, with_weights=True)
    with torch.no_grad():
        found = scaled_dot_product_attention(query, key, value, with_weights=True)
    for one, other in zip(found, wanted, strict=True):
        assert one is not None
        assert other is not None
        assert one.shape == other.shape
        torch.testing.assert_close(one, other)


def test_attention_dropout_acts_in_training_only() -> None:
    query, keys, values = torch.randn(3, 4, 2, 6, 8).unbind(0)
    dropout = Dropout(0.5)
    plain, _ = scaled_dot_product_attention(query, keys, values)
    dropped, weights = scaled_dot_product_attention(query, keys, values, dropout=dropout, with_weights=True)
    assert weights is not None
    assert not torch.equal(dropped, plain)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 2, 6))
    with torch.no_grad():
        assert not torch.equal(scaled_dot_product_attention(query, keys, values, dropout=dropout)[0], plain)
    dropped, _ = scaled_dot_product_attention(query, keys, values, dropout=dropout.eval())
    torch.testing.assert_close(dropped, plain)


def test_the_padding_bias_survives_half_precision() -> None:
    """With the type's lowest number, adding a negative score gave -inf in fp16, and a blank row NaN."""
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.isfinite(torch.tensor(MASK_VALUE, dtype=dtype) - 1000)
        assert torch.tensor([0.0, MASK_VALUE], dtype=dtype).softmax(0).tolist() == [1.0, 0.0]


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 1, 8).unbind(0)
    device = torch.device("cpu")

    def product(position: int, other: int) -> float:
        turned = rotate(query, rotation(position, 1, 8, device)), rotate(key, rotation(other, 1, 8, device))
        return float((turned[0] * turned[1]).sum())

    for distance in range(-3, 4):
        products = [product(start + distance, start) for start in (3, 8, 40)]
        assert products == pytest.approx([products[0]] * 3, abs=1e-4)
    assert product(5, 3) != pytest.approx(product(4, 3), abs=1e-3)
    assert product(7, 7) == pytest.approx(float((query * key).sum()), abs=1e-5)


def test_rotation_turns_each_pair_by_its_angle() -> None:
    """Equation 34 of Su et al. 2021, with pairs (i, i + width / 2)."""
    x = torch.randn(4)
    turned = rotate(x[None], rotation(5, 1, 4, torch.device("cpu")))[0]
    for i in range(2):
        turn = complex(math.cos(5 / 10000 ** (2 * i / 4)), math.sin(5 / 10000 ** (2 * i / 4)))
        wanted = complex(float(x[i]), float(x[i + 2])) * turn
        assert [float(turned[i]), float(turned[i + 2])] == pytest.approx([wanted.real, wanted.imag], abs=1e-5)
