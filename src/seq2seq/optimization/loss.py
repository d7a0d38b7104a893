"""Chunked label-smoothed cross-entropy, which never holds the logits of all positions.

For N real positions and V entries the logits and their gradient take 2 N V numbers, more than all else in a small
model. Here they exist for one chunk of positions at a time, and the gradient is computed in the forward pass while the
chunk is in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.special_tokens import PAD

# Logits of one chunk, in numbers. On a CPU they should stay in the cache, which ranks share.
_CHUNK_NUMBERS = {"cpu": 1 << 21, "cuda": 1 << 28}
_USUAL_CHUNK = 1 << 24

# Slopes collected for one product with their rows. Results of several products must be summed in a wider type, which on
# a CPU costs more than reading the slopes of some chunks again.
_KEPT_NUMBERS = {"cpu": 1 << 24}


class SummedLoss(NamedTuple):
    """Sums over real target tokens."""

    loss: Float[Tensor, ""]
    """Training objective: the label-smoothed loss in nats, with R-Drop's term."""
    nll: Float[Tensor, ""]
    """Negative log-likelihood in nats, for the perplexity. No gradient."""


def summed_loss(
    output: nn.Linear,
    hidden: Float[Tensor, "B T D"],
    target_out: Int[Tensor, "C T"],
    label_smoothing: float = 0.0,
    r_drop: float = 0.0,
) -> SummedLoss:
    """Cross-entropy of `output(hidden)` against `target_out`, summed over positions that are not PAD.

    With smoothing e the target gives 1 - e to the reference and spreads e evenly over all V entries (Szegedy et al.
    2016, section 7), as `torch.nn.functional.cross_entropy(label_smoothing=e)` does.

    With `r_drop` = a > 0, `hidden` holds every pair twice (B = 2 C: the whole batch, then again, under other dropout)
    and the loss is half of Liang et al.'s (2021, equation 4), so that its scale stays that of one pass:

        (CE_1 + CE_2) / 2 + a / 4 (KL(P_1 || P_2) + KL(P_2 || P_1))
    """
    real = target_out.reshape(-1).ne(PAD).nonzero().squeeze(1)
    targets = target_out.reshape(-1).index_select(0, real)
    flat = hidden.reshape(-1, hidden.shape[-1])
    if r_drop:
        real = torch.cat([real, real + target_out.numel()])
    rows = flat.index_select(0, real)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        rows = rows.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        loss, nll = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, output.weight, output.bias, targets, label_smoothing, r_drop
        )
    return SummedLoss(loss, nll)


class _Chunk(NamedTuple):
    """Rows of one chunk (of one pass) and their softmax: P = slopes / total."""

    rows: Float[Tensor, "N D"]
    slopes: Float[Tensor, "N V"]
    """exp(logit - maximum)."""
    total: Float[Tensor, "N 1"]
    log_normalizer: Float[Tensor, "N 1"]
    reference: Float[Tensor, "N 1"]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d loss / d logits = P - (1 - e) onehot - e / V.

    Only P = exp / total needs a pass over the vocabulary; the constant parts of the gradient, and the division, act on
    rows of width D. Products are in the type of the rows, sums in fp32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        r_drop: float,
    ) -> tuple[Tensor, Tensor]:
        vocabulary, passes, count = weight.shape[0], 2 if r_drop else 1, targets.shape[0]
        cast_weight, weight_sum = weight.to(rows.dtype), weight.sum(dim=0, dtype=torch.float32)
        bias_sum = 0.0 if bias is None else bias.sum()
        loss, nll = torch.zeros((), device=rows.device), torch.zeros((), device=rows.device)
        chunk = max(1, _CHUNK_NUMBERS.get(rows.device.type, _USUAL_CHUNK) // (vocabulary * passes))
        gradients = _Gradients(ctx.needs_input_grad, rows, weight, bias, at_once=chunk * passes)
        for start in range(0, count, chunk):
            wanted = targets[start : start + chunk]
            places = [slice(number * count + start, number * count + start + len(wanted)) for number in range(passes)]
            buffers = gradients.buffers(passes, len(wanted))
            chunks = [
                _softmax(rows[place], cast_weight, bias, wanted, room)
                for place, room in zip(places, buffers, strict=True)
            ]
            for one in chunks:
                nll += (one.log_normalizer - one.reference).sum() / passes
                if smoothing:
                    mean_logit = (one.rows.float() @ weight_sum + bias_sum) / vocabulary
                    loss += smoothing / passes * (one.log_normalizer.sum() - mean_logit.sum())
            if r_drop:
                loss += _r_drop(chunks[0], chunks[1], cast_weight, r_drop)
            for place, one in zip(places, chunks, strict=True):
                gradients.add(place, one, cast_weight)
        loss += (1.0 - smoothing) * nll
        gradients.finish(targets, rows, weight, weight_sum, smoothing, passes)
        ctx.save_for_backward(gradients.rows, gradients.weight, gradients.bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        # In place, hence once only: torch refuses a second backward pass because the saved tensors have changed.
        scale: Tensor = grads[0]
        rows, weight, bias = (None if found is None else found.mul_(scale) for found in ctx.saved_tensors)
        return rows, weight, bias, None, None, None


def _softmax(rows: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, room: Tensor) -> _Chunk:
    logits = torch.mm(rows, weight.t(), out=room)
    if bias is not None:
        logits += bias.to(logits.dtype)
    reference = logits.gather(1, wanted[:, None]).float()
    top = logits.amax(dim=-1, keepdim=True)
    # In place: passes over the chunk dominate the cost. The largest exp is exactly 1 in any type.
    exp = logits.sub_(top).exp_()
    total = exp.sum(dim=-1, keepdim=True).float()
    return _Chunk(rows, exp, total, total.log() + top, reference)


def _r_drop(first: _Chunk, second: _Chunk, weight: Tensor, strength: float) -> Tensor:
    """a / 4 times the divergence; the chunks' slopes (over a total of 1) become those of the whole loss: half of P, and
    the divergence's gradient.

    With r = log P_1 - log P_2: d (KL_12 + KL_21) / d logits_1 = P_1 (r - KL_12) + P_1 - P_2, and so for 2.
    """
    quarter = strength / 4
    left, right = first.slopes / first.total, second.slopes / second.total
    ratio = torch.mm(first.rows - second.rows, weight.t()).float() - (first.log_normalizer - second.log_normalizer)
    forward = (left * ratio).sum(dim=-1, keepdim=True)
    backward = -(right * ratio).sum(dim=-1, keepdim=True)
    apart = left - right
    first.slopes.copy_(0.5 * left + quarter * (left * (ratio - forward) + apart))
    second.slopes.copy_(0.5 * right + quarter * (right * (-ratio - backward) - apart))
    for one in (first, second):
        one.total.fill_(1.0)
    return quarter * (forward + backward).sum()


class _Gradients:
    """Gradients of rows, weight and bias; None if not required."""

    def __init__(
        self, wanted: tuple[bool, ...], rows: Tensor, weight: Tensor, bias: Tensor | None, *, at_once: int
    ) -> None:
        self.rows = torch.empty_like(rows) if wanted[0] else None
        self.weight: Tensor | None = None
        self.bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        self._wants_weight, self._dtype = wanted[1], weight.dtype
        kept = _KEPT_NUMBERS.get(rows.device.type, 0) // len(weight) if wanted[1] else 0
        most = max(at_once, min(kept, len(rows)))
        self._slopes, self._scaled = rows.new_empty(most, len(weight)), rows.new_empty(most, rows.shape[1])
        self._used = 0

    def buffers(self, passes: int, count: int) -> list[Tensor]:
        """Buffers for the slopes [count, V] of each pass."""
        if self._used + passes * count > len(self._slopes):
            self._multiply()
        buffers = self._slopes[self._used : self._used + passes * count]
        return list(buffers.chunk(passes))

    def add(self, place: slice, chunk: _Chunk, weight: Tensor) -> None:
        """Add the part of a chunk, whose slopes are in the buffers from `buffers`."""
        scale = chunk.total.reciprocal()
        if self.rows is not None:
            self.rows[place] = torch.mm(chunk.slopes, weight) * scale
        self._scaled[self._used : self._used + len(scale)] = chunk.rows * scale
        self._used += len(scale)
        if self.bias is not None:
            self.bias += torch.mv(chunk.slopes.t(), scale.squeeze(1).to(chunk.slopes.dtype))

    def _multiply(self) -> None:
        """Add the collected slopes to the gradient of the weight."""
        if self._wants_weight:
            product = torch.mm(self._slopes[: self._used].t(), self._scaled[: self._used]).to(self._dtype)
            self.weight = product if self.weight is None else self.weight.add_(product)
        self._used = 0

    def finish(
        self, targets: Tensor, rows: Tensor, weight: Tensor, weight_sum: Tensor, smoothing: float, passes: int
    ) -> None:
        """Subtract the part of the smoothed reference, (1 - e) onehot + e / V, for all positions at once."""
        self._multiply()
        share, spread = (1.0 - smoothing) / passes, smoothing / weight.shape[0] / passes
        repeated = targets.repeat(passes)
        if self.rows is not None:
            reference = weight.index_select(0, repeated).mul_(share)
            self.rows -= reference.add_(weight_sum, alpha=spread).to(rows.dtype)
        if self.weight is not None:
            self.weight.index_add_(0, repeated, rows.to(weight.dtype), alpha=-share)
            self.weight -= spread * rows.sum(dim=0, dtype=weight.dtype)
        if self.bias is not None:
            self.bias.index_add_(0, repeated, torch.full_like(repeated, 1, dtype=self.bias.dtype), alpha=-share)
            self.bias -= spread * len(repeated)
