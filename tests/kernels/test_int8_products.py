"""Products of 8-bit integers against integer arithmetic of numpy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numba import njit
from tests.kernels.test_packed_linear import packed as packed_as

from seq2seq.kernels import int8_products, products
from seq2seq.kernels.compile import Kernels
from seq2seq.kernels.packed_linear import MOST_INNER_INT8
from seq2seq.kernels.vectors import CALCULUS

pytestmark = [pytest.mark.int8, pytest.mark.usefixtures("loops")]


packed = partial(packed_as, dtype=torch.int8)


def rounded(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Integers of each row, and its scale."""
    numbers = rows.double().numpy()
    largest = np.abs(numbers).max(axis=1, keepdims=True)
    return np.floor(numbers * np.where(largest > 0, 127 / np.maximum(largest, 1e-300), 0) + 0.5), largest / 127


@pytest.mark.parametrize("columns", [1, 15, 64, 65, 127, 384])
@pytest.mark.parametrize("inner", [1, 3, 4, 7, 128, 3000])
def test_sums_of_products_are_exact(columns: int, inner: int, kernels: Kernels) -> None:
    """Small integers with a largest one of 127 stay what they are, so that nothing is rounded."""
    weight = torch.randint(-127, 128, (columns, inner)).float()
    weight[:, 0] = 127.0
    bias = torch.randint(-9, 10, (columns,)).float()
    layer = packed(kernels, weight / 64, bias)
    for rows in (*range(1, 9), 12, 23):
        x = torch.randint(-127, 128, (rows, inner)).float()
        x[:, -1] = -127.0
        expected = x.double() @ weight.double().t() / 64 + bias
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-6, rtol=3e-7)
        torch.testing.assert_close(layer(x, relu=True).double(), expected.relu(), atol=1e-6, rtol=3e-7)


def test_numbers_are_rounded_to_the_nearest_of_127_steps(kernels: Kernels) -> None:
    weight, x = torch.randn(70, 33), torch.randn(6, 5, 33)
    (integers, scales), (others, steps) = rounded(x.flatten(0, 1)), rounded(weight)
    expected = torch.from_numpy(integers @ others.T * scales * steps.T).view(6, 5, 70)
    found = packed(kernels, weight)(x).double()
    # A tie may be rounded either way.
    torch.testing.assert_close(found, expected, atol=float(scales.max() * steps.max()) * 128, rtol=1e-5)
    assert float((found - expected).abs().median()) < 1e-5
    exact = x.double() @ weight.double().t()
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_rows_of_any_size_have_a_scale_of_their_own(kernels: Kernels) -> None:
    weight, x = torch.randn(20, 16), torch.randn(5, 16)
    sizes = torch.tensor([1e-30, 1e-4, 0.0, 1e4, 1e30])
    found = packed(kernels, weight)(x * sizes[:, None])
    torch.testing.assert_close(found, packed(kernels, weight)(x) * sizes[:, None], rtol=1e-4, atol=0.0)
    scaled = packed(kernels, weight * torch.arange(20.0)[:, None])(x)
    torch.testing.assert_close(scaled, packed(kernels, weight)(x) * torch.arange(20.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_is_kept(wrong: float, kernels: Kernels) -> None:
    """A model whose weights have diverged must not seem sound."""
    weight, x = torch.randn(20, 8), torch.randn(4, 8)
    sound = packed(kernels, weight)(x)
    weight[3, 2], x[1, 5] = wrong, wrong
    found = packed(kernels, weight)(x)
    assert found[1].isnan().all()
    assert found[:, 3].isnan().all()
    kept = [row for row in range(20) if row != 3]
    assert torch.equal(found[[0, 2, 3]][:, kept], sound[[0, 2, 3]][:, kept])


def test_half_vectors_give_the_same_bits(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs without AVX-512 have the instruction for 256 bits."""
    monkeypatch.setattr(int8_products, "_BITS", 256)
    signature = "void(i8, i8, i8, i8, f4, i8, i8, i8)"
    halves = njit(signature, fastmath=CALCULUS)(int8_products.int8_product)
    layer, x = packed(kernels, torch.randn(products.PANEL + 9, 50), torch.randn(products.PANEL + 9)), torch.randn(9, 50)
    expected = layer(x)
    instructions = [line for line in next(iter(halves.inspect_asm().values())).split("\n") if "vpdpbusd" in line]
    assert instructions
    assert not any("zmm" in line for line in instructions)
    layer.product = halves
    assert torch.equal(layer(x), expected)


def test_sums_that_might_not_fit_are_computed_in_fp32(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_INNER_INT8 * 127**2 < 2**31 <= (MOST_INNER_INT8 + 1) * 127**2
    monkeypatch.setattr("seq2seq.kernels.packed_linear.MOST_INNER_INT8", 40)
    weight, x = torch.randn(9, 41), torch.randn(3, 41)
    layer = packed(kernels, weight)
    assert layer.dtype == torch.float32
    torch.testing.assert_close(layer(x), x @ weight.t())
