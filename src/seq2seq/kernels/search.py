"""Compiled steps of a search; each returns None if the loops are not in use or do not support these tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.kernels import BLOCKS, LANES
from seq2seq.kernels.compile import used


def listed_logits(
    hidden: Float[Tensor, "R D"],
    output: nn.Linear,
    tokens: Int[Tensor, "L M"],
    counts: Int[Tensor, " L"],
    lists: Int[Tensor, " N"],
) -> Float[Tensor, "R M"] | None:
    """Logits of the tokens in list `lists[n]` for the hypotheses of sentence n; -inf beyond `counts` of a list."""
    kernels, (size, width), bias = used(), output.weight.shape, output.bias
    parameters = [output.weight] if bias is None else [output.weight, bias]
    if kernels is None or width % LANES or not all(map(_is_plain, [hidden, *parameters])):
        return None
    result = torch.empty(len(hidden), tokens.shape[1])
    kernels.listed_product(
        result.data_ptr(),
        hidden.data_ptr(),
        output.weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        tokens.numpy(),
        counts.numpy(),
        lists.numpy(),
        (len(hidden) // len(lists), width, size),
    )
    return result


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
    return _is_plain(logits) and logits.shape[-1] >= BLOCKS


def _is_plain(tensor: Tensor) -> bool:
    """Whether the loops can read a tensor."""
    is_plain = tensor.is_cpu and tensor.dtype == torch.float32 and tensor.is_contiguous()
    return is_plain and not torch.is_grad_enabled()
