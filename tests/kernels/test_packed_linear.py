"""Products with packed weights, and norms, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seq2seq.kernels.compile import Kernels
from seq2seq.kernels.compiled_transformer import CompiledNorm
from seq2seq.kernels.packed_linear import MOST_INNER, PackedLinear, Panels, replace_children
from seq2seq.models.linear import Linear

pytestmark = pytest.mark.usefixtures("loops")


TYPES = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.int8, marks=pytest.mark.int8)])


def packed(
    kernels: Kernels, weight: torch.Tensor, bias: torch.Tensor | None = None, dtype: torch.dtype = torch.float32
) -> PackedLinear:
    layer = Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    made = PackedLinear(layer, dtype, kernels)
    assert made.panels is not None
    return made


@pytest.mark.parametrize("columns", [1, 15, 64, 65, 127, 384])
@pytest.mark.parametrize("inner", [1, 7, 128, MOST_INNER])
@pytest.mark.parametrize("relu", [False, True])
def test_products_are_those_of_float64(columns: int, inner: int, relu: bool, kernels: Kernels) -> None:
    weight, bias = torch.randn(columns, inner) / inner**0.5, torch.randn(columns)
    layer = packed(kernels, weight, bias)
    for rows in (*range(1, 9), 12, 23):
        x = torch.randn(rows, inner)
        expected = F.linear(x.double(), weight.double(), bias.double())
        expected = expected.relu() if relu else expected
        torch.testing.assert_close(layer(x, relu).double(), expected, atol=5e-6, rtol=1e-5)


def test_there_may_be_no_bias_and_more_axes(kernels: Kernels) -> None:
    weight, x = torch.randn(70, 33), torch.randn(3, 5, 33)
    torch.testing.assert_close(packed(kernels, weight)(x), F.linear(x, weight), atol=1e-4, rtol=1e-5)


@TYPES
def test_a_row_has_the_same_bits_in_every_batch(dtype: torch.dtype, kernels: Kernels) -> None:
    weight, bias, x = torch.randn(100, 48), torch.randn(100), torch.randn(40, 48)
    layer = packed(kernels, weight, bias, dtype)
    together = layer(x)
    for rows in (1, 5, 6, 7, 39):
        assert torch.equal(layer(x[:rows]), together[:rows])
        assert torch.equal(layer(x[-rows:]), together[-rows:])


@pytest.mark.parametrize("relu", [False, True])
def test_nan_and_infinity_are_kept(relu: bool, kernels: Kernels) -> None:
    """A model whose weights have diverged must not seem sound."""
    weight, x = torch.randn(20, 8), torch.randn(4, 8)
    weight[3, 2], x[1, 5] = torch.nan, torch.inf
    found, expected = packed(kernels, weight)(x, relu), F.linear(x, weight)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_packed_layer_computes_what_the_layer_does(compiled: bool, kernels: Kernels) -> None:
    layer, x = Linear(24, 40), torch.randn(2, 3, 24)
    made = PackedLinear(layer, kernels=kernels if compiled else None)
    assert (made.panels is not None) == compiled
    assert made.weight is layer.weight
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(made(x), expected)
    torch.testing.assert_close(made(x.transpose(0, 1)).transpose(0, 1), expected)
    torch.testing.assert_close(made(x, relu=True), expected.relu())
    assert made(x[:0]).shape == (0, 3, 40)
    with pytest.raises(RuntimeError):
        made(x[:, :, :20])


@pytest.mark.bf16
def test_products_in_bf16_give_the_wanted_type(kernels: Kernels) -> None:
    layer, x = Linear(24, 40), torch.randn(2, 3, 24)
    expected = F.linear(x, layer.weight, layer.bias)
    for output_dtype in (None, torch.float32):
        found = PackedLinear(layer, torch.bfloat16, kernels, output_dtype)(x)
        assert found.dtype == (output_dtype or torch.bfloat16)
        torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


def test_long_sums_are_left_to_onednn(kernels: Kernels) -> None:
    layer = Linear(MOST_INNER + 1, 3)
    x = torch.randn(2, MOST_INNER + 1)
    assert Panels.pack(layer.weight, layer.bias) is None
    torch.testing.assert_close(
        PackedLinear(layer, kernels=kernels)(x), F.linear(x, layer.weight, layer.bias), atol=1e-4, rtol=1e-4
    )


@TYPES
def test_packing_draws_no_random_numbers(dtype: torch.dtype, kernels: Kernels) -> None:
    """A training that validates between its steps must go on with the same dropout."""
    layer, state = Linear(24, 40), torch.get_rng_state()
    PackedLinear(layer, dtype, kernels)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_of_a_tree_shares_all_that_is_not_replaced() -> None:
    tree = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), torch.nn.Sequential())
    identity = torch.nn.Identity()
    changed = replace_children(tree, lambda name, module: identity if isinstance(module, torch.nn.Linear) else None)
    assert changed is not tree
    assert changed[0][0] is identity
    assert changed[0][1] is tree[0][1]
    assert changed[1] is tree[1]
    assert isinstance(tree[0][0], torch.nn.Linear)
    assert replace_children(tree, lambda name, module: None) is tree


@pytest.mark.parametrize("width", [1, 20, 128, 520])
def test_norms_are_those_of_float64(width: int, kernels: Kernels) -> None:
    x = 3 * torch.randn(2, 5, width) + 2
    x[0, 0] = 7.0  # without variance: epsilon decides
    for norm in (torch.nn.LayerNorm(width), torch.nn.RMSNorm(width, eps=1e-6)):
        for parameter in norm.parameters():
            torch.nn.init.normal_(parameter)
        compiled = CompiledNorm(norm, kernels)
        found = compiled(x)
        assert torch.equal(compiled(x[1:, 2:3]), found[1:, 2:3])
        torch.testing.assert_close(found.double(), norm.double()(x.double()), atol=2e-5, rtol=1e-5)
