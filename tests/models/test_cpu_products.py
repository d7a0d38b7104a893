"""Products over rows in few shapes: the same numbers as of one product, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.models.cpu_products import BLOCK, padded, product, transposed_product

COUNTS = [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 3 * BLOCK, 5 * BLOCK + 17]
TYPES = [torch.float32, torch.bfloat16]


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_rows_times_matrix(count: int, dtype: torch.dtype) -> None:
    rows, matrix, bias = drawn(count, 24, dtype=dtype), drawn(24, 40, dtype=dtype), drawn(40, dtype=dtype)
    expected = rows.double() @ matrix.double()
    tolerance = {"atol": 0.1, "rtol": 0.01} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(product(rows, matrix).double(), expected, **tolerance)
    torch.testing.assert_close(product(rows, matrix, bias).double(), expected + bias.double(), **tolerance)
    room = torch.full((count, 40), torch.nan, dtype=dtype)
    assert product(rows, matrix, out=room) is room
    torch.testing.assert_close(room.double(), expected, **tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_transposed_rows_times_rows(count: int, dtype: torch.dtype) -> None:
    """No row counts twice, and the operands stay as they are."""
    left, right = drawn(count, 24, dtype=dtype), drawn(count, 40, dtype=dtype)
    before = left.clone()
    found = transposed_product(left, right)
    assert found.dtype == torch.float32
    assert transposed_product(left.double(), right.double()).dtype == torch.float64
    torch.testing.assert_close(found.double(), left.double().t() @ right.double(), atol=0.2, rtol=0.02)
    assert torch.equal(left, before)


@pytest.mark.parametrize("count", COUNTS)
def test_padded_rows(count: int) -> None:
    rows = drawn(count, 8)
    longer = padded(rows)
    assert torch.equal(longer[:count], rows)
    assert not longer[count:].any()
    assert len(longer) == (count if count < BLOCK else -(-count // BLOCK) * BLOCK)


class Shapes(TorchDispatchMode):
    """Collects the shapes of the matrices that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[tuple[int, ...], ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.seen.add(tuple(tuple(operand.shape) for operand in args[-2:]))
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes() -> Iterator[set[tuple[tuple[int, ...], ...]]]:
    with Shapes() as mode:
        yield mode.seen


def test_shapes_are_few() -> None:
    """As many as there are multiples of `BLOCK`, where products of all rows have one for each number of rows."""
    matrix, counts = drawn(8, 8), range(4 * BLOCK, 8 * BLOCK)
    with shapes() as seen:
        for count in counts:
            product(drawn(count, 8), matrix)
    assert {rows for (rows, _), _ in seen} == {BLOCK, *range(4 * BLOCK, 8 * BLOCK, BLOCK)}
    with shapes() as seen:
        for count in counts:
            transposed_product(drawn(count, 8), drawn(count, 8))
    assert {rows for (_, rows), _ in seen} == {BLOCK, *range(4 * BLOCK, 8 * BLOCK, BLOCK)}
    with shapes() as seen:
        for count in counts:
            product(drawn(count, 8, dtype=torch.float32), matrix.float())
    assert len(seen) == len(counts), "in fp32 no code is generated, and one product is best"
