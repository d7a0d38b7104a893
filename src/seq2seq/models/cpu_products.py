"""Matrix products over the rows of a batch in few shapes.

oneDNN generates code for every shape that it meets: 2 to 20 ms for each kind of product in bf16, and half a megabyte
that stays in its cache. The number of rows of a padded batch differs from step to step, so that this took a tenth of
a training step, and the cached code, scattered among the activations, made the heap grow to several gigabytes. Here
rows are multiplied in a multiple of `BLOCK`, and what is left over in one block more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 64
"""Number of rows that oneDNN's code divides evenly; a batch of 4,096 tokens then has a dozen shapes."""


def product(
    rows: Float[Tensor, "N K"],
    matrix: Float[Tensor, "K M"],
    bias: Float[Tensor, " M"] | None = None,
    out: Float[Tensor, "N M"] | None = None,
) -> Float[Tensor, "N M"]:
    """rows matrix + bias. The last block may overlap the one before it: its rows are computed twice, equally."""
    out = rows.new_empty(len(rows), matrix.shape[1]) if out is None else out
    for some in _parts(rows):
        if bias is None:
            torch.mm(rows[some], matrix, out=out[some])
        else:
            torch.addmm(bias, rows[some], matrix, out=out[some])
    return out


def transposed_product(left: Float[Tensor, "N M"], right: Float[Tensor, "N K"]) -> Float[Tensor, "M K"]:
    """left^T right, the gradient of a weight, in fp32 or wider; products are in the type of the operands."""
    first, *rest = _parts(left)
    wide = torch.promote_types(left.dtype, torch.float32)
    total = torch.mm(left[first].t(), right[first]).to(wide)
    for some in rest:
        block = left[some].clone()
        block[: first.stop - some.start] = 0.0  # rows that the first part has
        total += torch.mm(block.t(), right[some])
    return total


def padded(rows: Float[Tensor, "N K"]) -> Float[Tensor, "P K"]:
    """The rows, followed by zeros up to a number that `product` takes in one part."""
    missing = -len(rows) % BLOCK if _needs_few_shapes(rows) else 0
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def _parts(rows: Tensor) -> list[slice]:
    count = len(rows)
    whole = count - count % BLOCK
    if whole == count or not _needs_few_shapes(rows):
        return [slice(0, count)]
    return [slice(0, whole), slice(count - BLOCK, count)]


def _needs_few_shapes(rows: Tensor) -> bool:
    """Whether oneDNN multiplies the rows: torch leaves products in bf16 on a CPU to it."""
    return rows.device.type == "cpu" and rows.dtype == torch.bfloat16 and len(rows) >= BLOCK
