"""Label-smoothed cross-entropy over the vocabulary, without ever holding positions x vocabulary.

For N real positions and V entries the logits and their gradient take 2 N V numbers, more than all else in a small
model.
Here they live for one chunk of positions at a time, small enough to stay in the cache of a CPU, and the gradient is
computed in the forward pass, while the chunk is at hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.tokens import PAD

# Logits of one chunk, in numbers: 4 MiB of fp32 stay in a CPU's cache; a GPU wants large products instead.
_CHUNK_NUMBERS = {"cpu": 1 << 20, "cuda": 1 << 28}


class SummedLoss(NamedTuple):
    """Sums over real target tokens."""

    loss: Float[Tensor, ""]
    """Label-smoothed loss in nats: what training minimises."""
    nll: Float[Tensor, ""]
    """Negative log-likelihood in nats: what perplexity is made of. No gradient."""


def summed_loss(
    output: nn.Linear,
    hidden: Float[Tensor, "B T D"],
    target_out: Int[Tensor, "B T"],
    label_smoothing: float = 0.0,
) -> SummedLoss:
    """Cross-entropy of `output(hidden)` against `target_out`, summed over positions that are not PAD.

    With smoothing e the target gives 1 - e to the reference and spreads e evenly over all V entries (Szegedy et al.
    2016,
    section 7), as `torch.nn.functional.cross_entropy(label_smoothing=e)` does.
    """
    real = target_out.reshape(-1).ne(PAD).nonzero().squeeze(1)
    rows = hidden.reshape(-1, hidden.shape[-1]).index_select(0, real)
    targets = target_out.reshape(-1).index_select(0, real)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        rows = rows.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        loss, nll = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, output.weight, output.bias, targets, label_smoothing
        )
    return SummedLoss(loss, nll)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        wants_gradient = any(ctx.needs_input_grad)
        vocabulary = weight.shape[0]
        cast_weight = weight.to(rows.dtype)
        loss = torch.zeros((), device=rows.device)
        nll = torch.zeros((), device=rows.device)
        grad_rows = torch.empty_like(rows) if wants_gradient else None
        grad_weight = torch.zeros_like(weight) if wants_gradient else None
        grad_bias = torch.zeros_like(bias) if wants_gradient and bias is not None else None
        chunk = max(1, _CHUNK_NUMBERS.get(rows.device.type, 1 << 24) // vocabulary)
        for start in range(0, rows.shape[0], chunk):
            part, wanted = rows[start : start + chunk], targets[start : start + chunk, None]
            logits = (part @ cast_weight.t()).float()
            if bias is not None:
                logits += bias
            log_normalizer = logits.logsumexp(dim=-1, keepdim=True)
            part_nll = (log_normalizer - logits.gather(1, wanted)).sum()
            nll += part_nll
            loss += (1.0 - smoothing) * part_nll
            if smoothing:
                loss += smoothing * (log_normalizer.sum() - logits.mean(dim=-1).sum())
            if grad_rows is None or grad_weight is None:
                continue
            # d loss / d logits = softmax - (1 - e) onehot - e / V, written over the logits.
            slope = logits.sub_(log_normalizer).exp_()
            if smoothing:
                slope -= smoothing / vocabulary
            slope.scatter_add_(1, wanted, torch.full_like(wanted, smoothing - 1.0, dtype=slope.dtype))
            if grad_bias is not None:
                grad_bias += slope.sum(dim=0)
            slope = slope.to(rows.dtype)
            grad_rows[start : start + chunk] = slope @ cast_weight
            grad_weight += slope.t() @ part
        ctx.save_for_backward(grad_rows, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        scale: Tensor = grads[0]
        grad_rows, grad_weight, grad_bias = ctx.saved_tensors
        return (
            grad_rows * scale.to(grad_rows.dtype),
            grad_weight * scale,
            None if grad_bias is None else grad_bias * scale,
            None,
            None,
        )
