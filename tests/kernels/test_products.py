"""Products with weights, and norms, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seq2seq.kernels import compile as loading
from seq2seq.kernels import tensors
from seq2seq.models.layers import LayerNorm, RMSNorm
from seq2seq.models.linear import Linear, packed_weights

pytestmark = pytest.mark.usefixtures("loops")


def product(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, relu: bool = False
) -> torch.Tensor:
    panels = tensors.packed(weight, bias)
    assert panels is not None
    found = tensors.product(x, panels, relu)
    assert found is not None
    return found


@pytest.mark.parametrize("columns", [1, 15, 64, 65, 127, 384])
@pytest.mark.parametrize("relu", [False, True])
def test_products_are_those_of_float64(columns: int, relu: bool) -> None:
    for inner in (1, 7, 128, tensors.MOST_INNER):
        weight, bias = torch.randn(columns, inner) / inner**0.5, torch.randn(columns)
        x = torch.randn(23, inner)
        expected = F.linear(x.double(), weight.double(), bias.double())
        expected = expected.relu() if relu else expected
        for rows in (*range(1, 9), 12, 23):
            found = product(x[:rows], weight, bias, relu).double()
            torch.testing.assert_close(found, expected[:rows], atol=5e-6, rtol=1e-5)


def test_there_may_be_no_bias_and_more_axes() -> None:
    weight, x = torch.randn(70, 33), torch.randn(3, 5, 33)
    torch.testing.assert_close(product(x, weight), F.linear(x, weight), atol=1e-4, rtol=1e-5)


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    weight, bias, x = torch.randn(100, 48), torch.randn(100), torch.randn(40, 48)
    together = product(x, weight, bias)
    for rows in (1, 5, 6, 7, 39):
        assert torch.equal(product(x[:rows], weight, bias), together[:rows])
        assert torch.equal(product(x[-rows:], weight, bias), together[-rows:])


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_not_a_number_stays_so(relu: bool) -> None:
    """A model whose weights have diverged must not seem sound."""
    weight, x = torch.randn(20, 8), torch.randn(4, 8)
    weight[3, 2], x[1, 5] = torch.nan, torch.inf
    found, expected = product(x, weight, relu=relu), F.linear(x, weight)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-5, rtol=1e-5)


def test_layers_use_them_where_their_weights_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, calls = Linear(24, 40), torch.randn(2, 3, 24), []
    original = tensors.product

    def counted(*arguments: object) -> torch.Tensor | None:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tensors, "product", counted)
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    assert not calls
    with packed_weights(layer):
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x.transpose(0, 1)).transpose(0, 1), expected)
        torch.testing.assert_close(layer(x, relu=True), expected.relu())
        with pytest.raises(RuntimeError):
            layer(x[:, :, :20])
        assert layer(x[:0]).shape == (0, 3, 40)
    assert len(calls) == 4


@pytest.mark.bf16
def test_they_do_not_compute_in_bf16() -> None:
    layer, x = Linear(24, 40), torch.randn(2, 3, 24)
    with packed_weights(layer, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_too_long_sums_are_left_to_torch() -> None:
    layer = Linear(tensors.MOST_INNER + 1, 3)
    x = torch.randn(2, tensors.MOST_INNER + 1)
    with packed_weights(layer):
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-4, rtol=1e-4)
    assert tensors.packed(layer.weight, layer.bias) is None


@pytest.mark.parametrize("width", [1, 20, 128, 520])
def test_norms_are_those_of_float64(width: int) -> None:
    x = 3 * torch.randn(2, 5, width) + 2
    x[0, 0] = 7.0  # without variance: epsilon decides
    for norm in (LayerNorm(width), RMSNorm(width, eps=1e-6)):
        for parameter in norm.parameters():
            torch.nn.init.normal_(parameter)
        token = loading._in_use.set(None)
        expected = norm.double()(x.double())
        loading._in_use.reset(token)
        found = norm.float()(x)
        torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)
        assert torch.equal(norm(x[1:, 2:3]), found[1:, 2:3])
