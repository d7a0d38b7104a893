"""The compiled loops on torch's tensors; None where there are none for these, and torch has to do it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.kernels.loading import used
from seq2seq.kernels.sizes import BLOCKS, LANES

MOST_QUERIES = 64
"""Queries of a sentence from which matrix products are faster."""


def in_use() -> bool:
    """Whether there are loops to ask for."""
    return used() is not None


def attend(
    projected: Float[Tensor, "B K P H E"],
    keys: Float[Tensor, "B H C E"],
    values: Float[Tensor, "B H C E"],
    filled: int,
    bias: Float[Tensor, "B W S"],
) -> Float[Tensor, "B K D"] | None:
    """The heads' contexts side by side, D = H * E: softmax(query keys^T / sqrt(E)) values over what each query sees.

    It sees those of the first `filled` places where `bias` is 0; W is K, or 1 where all see the same. With P = 3
    `projected` holds keys and values behind the queries, which become the last K of these places first.
    """
    kernels = used()
    size, fan, _, heads, width = projected.shape
    if kernels is None or fan > MOST_QUERIES or width % LANES or not _takes(projected, keys, values):
        return None
    context = torch.empty(size, fan, heads, width)
    kernels.attend(projected.numpy(), keys.numpy(), values.numpy(), filled, bias.contiguous().numpy(), context.numpy())
    return context.flatten(2)


def normalise(logits: Float[Tensor, "R V"]) -> Float[Tensor, " R"] | None:
    """Log of the sum of exponentials of each row, in float64; NaN where a row holds NaN or infinity."""
    kernels = used()
    if kernels is None or logits.shape[1] < BLOCKS or not _takes(logits):
        return None
    normalisers = torch.empty(len(logits), dtype=torch.float64)
    kernels.normalise(logits.numpy(), normalisers.numpy())
    return normalisers


def choose(
    logits: Float[Tensor, "N W V"], offsets: Float[Tensor, "N W"], count: int
) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]] | None:
    """The `count` best of logit + offset (float64, -inf for none) of each sentence, and their places w * V + v.

    Equals by rising place; -inf and 0 where there are no more.
    """
    kernels = used()
    if kernels is None or logits.shape[2] < BLOCKS or not _takes(logits):
        return None
    totals = torch.empty(len(logits), count, dtype=torch.float64)
    places = torch.empty(len(logits), count, dtype=torch.long)
    kernels.choose(logits.numpy(), offsets.contiguous().numpy(), totals.numpy(), places.numpy())
    return totals, places


def _takes(*tensors: Tensor) -> bool:
    """Whether these are numbers as the loops expect them, and no gradient is wanted."""
    if torch.is_grad_enabled():
        return False
    return all(part.device.type == "cpu" and part.dtype == torch.float32 and part.is_contiguous() for part in tensors)
