"""Compiled steps of a search; each returns None if the loops are not in use or do not support these tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.kernels import BLOCKS
from seq2seq.kernels.compile import used


def normalisers(logits: Float[Tensor, "R V"]) -> Float[Tensor, " R"] | None:
    """Log of the sum of exponentials of each row, in float64; NaN where a row holds NaN or infinity."""
    kernels = used()
    if kernels is None or not _takes(logits):
        return None
    result = torch.empty(len(logits), dtype=torch.float64)
    kernels.normalise(logits.numpy(), result.numpy())
    return result


def best_tokens(
    logits: Float[Tensor, "N W V"], offsets: Float[Tensor, "N W"], count: int
) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N C"]] | None:
    """The `count` best of logit + offset of each sentence, and their places w * V + v.

    Offsets are in float64, -inf for a missing hypothesis. Equal totals are in order of their places. Where a sentence
    has fewer, the rest is -inf and 0.
    """
    kernels = used()
    if kernels is None or not _takes(logits):
        return None
    totals = torch.empty(len(logits), count, dtype=torch.float64)
    places = torch.empty(len(logits), count, dtype=torch.long)
    kernels.choose(logits.numpy(), offsets.contiguous().numpy(), totals.numpy(), places.numpy())
    return totals, places


def _takes(logits: Tensor) -> bool:
    return (
        logits.is_cpu
        and logits.dtype == torch.float32
        and logits.is_contiguous()
        and logits.shape[-1] >= BLOCKS
        and not torch.is_grad_enabled()
    )
