"""Chunked label-smoothed cross-entropy, which never holds the logits of all positions.

For N real positions and V entries the logits and their gradient take 2 N V numbers, more than all else in a small
model. Here they exist for one chunk of positions at a time, and the gradient is computed in the forward pass while the
chunk is in the cache.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from seq2seq.models.cpu_products import BLOCK, product, transposed_product
from seq2seq.models.linear import compute_dtype
from seq2seq.special_tokens import PAD

# Logits of one chunk, in numbers. On a CPU they should stay in the cache, which ranks share.
_CHUNK_NUMBERS = {"cpu": 1 << 21, "cuda": 1 << 28}
_USUAL_CHUNK = 1 << 24

# Probabilities compared at once. On a CPU their temporaries, in fp32, should stay in the core's own cache.
_BLOCK_NUMBERS = {"cpu": 100_000, "cuda": 1 << 28}

# Slopes collected for one product with their rows. Results of several products must be summed in a wider type, which on
# a CPU costs more than reading the numerators of some chunks again.
_KEPT_NUMBERS = {"cpu": 1 << 24}


class SummedLoss(NamedTuple):
    """Sums over real target tokens."""

    loss: Float[Tensor, ""]
    """Training objective: the label-smoothed loss in nats, with the divergence of two passes."""
    nll: Float[Tensor, ""]
    """Negative log-likelihood in nats, for the perplexity. No gradient."""


class TwoPasses(NamedTuple):
    """Weights of a loss over two passes of the same pairs, which are perturbed in different ways.

        c_1 CE_1 + c_2 CE_2 + d_12 KL(P_1 || P_2) + d_21 KL(P_2 || P_1)

    Gradients flow through both sides of both divergences.
    """

    entropies: tuple[float, float]
    """c_1 and c_2, which sum to 1."""
    divergences: tuple[float, float]
    """d_12 and d_21."""

    @classmethod
    def r_drop(cls, strength: float) -> Self:
        """Half of R-Drop's loss (Liang et al. 2021, equation 4), so that its scale stays that of one pass."""
        return cls((0.5, 0.5), (strength / 4, strength / 4))

    @classmethod
    def simcut(cls, strength: float) -> Self:
        """SimCut's loss (Gao et al. 2022, equation 4): the second pass, with tokens cut off, follows the first."""
        return cls((1.0, 0.0), (strength, 0.0))


def summed_loss(
    output: nn.Linear,
    hidden: Float[Tensor, "B T D"],
    target_out: Int[Tensor, "C T"],
    label_smoothing: float = 0.0,
    passes: TwoPasses | None = None,
    tokens: int | None = None,
) -> SummedLoss:
    """Cross-entropy of `output(hidden)` against `target_out`, summed over positions that are not PAD.

    With smoothing e the target gives 1 - e to the reference and spreads e evenly over all V entries (Szegedy et al.
    2016, section 7), as `torch.nn.functional.cross_entropy(label_smoothing=e)` does. With `passes`, `hidden` holds
    every pair twice (B = 2 C: the whole batch, then again). `tokens` is the number of positions that are not PAD, if it
    is known: otherwise a GPU must be waited for.
    """
    is_real = target_out.reshape(-1).ne(PAD)
    if tokens is None or hidden.device.type == "mps":  # which has no `nonzero_static`
        real = is_real.nonzero().squeeze(1)
    else:
        real = is_real.nonzero_static(size=tokens).squeeze(1)
    targets = target_out.reshape(-1).index_select(0, real)
    flat = hidden.reshape(-1, hidden.shape[-1])
    if passes is not None:
        real = torch.cat([real, real + target_out.numel()])
    rows = flat.index_select(0, real)
    device = hidden.device.type
    rows = rows.to(compute_dtype(rows))
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        loss, nll = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, output.weight, output.bias, targets, label_smoothing, passes
        )
    return SummedLoss(loss, nll)


class _Chunk(NamedTuple):
    """Rows of one chunk (of one pass) and their softmax: P = numerators / total."""

    rows: Float[Tensor, "N D"]
    numerators: Float[Tensor, "N V"]
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
        passes: TwoPasses | None,
    ) -> tuple[Tensor, Tensor]:
        vocabulary, count = weight.shape[0], targets.shape[0]
        shares = (1.0,) if passes is None else passes.entropies
        cast_weight, weight_sum = weight.to(rows.dtype), weight.sum(dim=0, dtype=torch.float32)
        bias_sum = 0.0 if bias is None else bias.sum()
        loss, nll = torch.zeros((), device=rows.device), torch.zeros((), device=rows.device)
        chunk = max(1, _CHUNK_NUMBERS.get(rows.device.type, _USUAL_CHUNK) // (vocabulary * len(shares)))
        chunk -= chunk % BLOCK if chunk > BLOCK else 0
        gradients = _Gradients(ctx.needs_input_grad, rows, weight, bias, at_once=chunk * len(shares))
        for start in range(0, count, chunk):
            wanted = targets[start : start + chunk]
            places = [slice(first, first + len(wanted)) for first in range(start, start + count * len(shares), count)]
            buffers = gradients.buffers(len(shares), len(wanted))
            chunks = [
                _exponentials(rows[place], cast_weight, bias, wanted, room)
                for place, room in zip(places, buffers, strict=True)
            ]
            for one, share in zip(chunks, shares, strict=True):
                nll += share * (one.log_normalizer - one.reference).sum()
                if smoothing:
                    mean_logit = (one.rows.float() @ weight_sum + bias_sum) / vocabulary
                    loss += smoothing * share * (one.log_normalizer.sum() - mean_logit.sum())
            if passes is not None:
                loss += _divergence(chunks[0], chunks[1], cast_weight, passes)
            for place, one in zip(places, chunks, strict=True):
                gradients.add(place, one, cast_weight)
        loss += (1.0 - smoothing) * nll
        gradients.finish(targets, rows, weight, weight_sum, smoothing, shares)
        ctx.save_for_backward(gradients.rows, gradients.weight, gradients.bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        # In place, hence once only: torch refuses a second backward pass because the saved tensors have changed.
        scale: Tensor = grads[0]
        rows, weight, bias = (None if found is None else found.mul_(scale) for found in ctx.saved_tensors)
        return rows, weight, bias, None, None, None


def _exponentials(rows: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, room: Tensor) -> _Chunk:
    logits = product(rows, weight.t(), out=room)
    if bias is not None:
        logits += bias.to(logits.dtype)
    reference = logits.gather(1, wanted[:, None]).float()
    top = logits.amax(dim=-1, keepdim=True)
    # In place: passes over the chunk dominate the cost. The largest exp is exactly 1 in any type.
    exp = logits.sub_(top).exp_()
    # Rounded to bf16 on a CPU, where a sum in another type takes twice the time: an error of 0.002 nats.
    dtype = torch.float32 if exp.is_cuda or exp.dtype == torch.float16 else None
    total = exp.sum(dim=-1, keepdim=True, dtype=dtype).float()
    return _Chunk(rows, exp, total, total.log() + top, reference)


def _divergence(first: _Chunk, second: _Chunk, weight: Tensor, passes: TwoPasses) -> Tensor:
    """The weighted divergences; the numerators (over a total of 1) become those of the whole loss: the share of P,
    and the gradient of the divergences.

    With r = log P_1 - log P_2: d KL_12 / d logits_1 = P_1 (r - KL_12), d KL_12 / d logits_2 = P_2 - P_1; and so for
    KL_21, with -r.
    """
    (c_1, c_2), (d_12, d_21) = passes
    ratios = product(first.rows - second.rows, weight.t())
    sums = first.log_normalizer.new_zeros(())
    block = max(1, _BLOCK_NUMBERS.get(ratios.device.type, _USUAL_CHUNK) // len(weight))
    for start in range(0, len(ratios), block):
        rows = slice(start, start + block)
        left, right = (one.numerators[rows] / one.total[rows] for one in (first, second))
        ratio = ratios[rows] - (first.log_normalizer[rows] - second.log_normalizer[rows])
        forward = (left * ratio).sum(dim=-1, keepdim=True)
        sums += d_12 * forward.sum()
        if d_21:
            backward = -(right * ratio).sum(dim=-1, keepdim=True)
            sums += d_21 * backward.sum()
            apart = left - right
            first.numerators[rows] = (ratio * d_12).add_(c_1 - d_12 * forward).mul_(left).add_(apart, alpha=d_21)
            second.numerators[rows] = ratio.mul_(-d_21).add_(c_2 - d_21 * backward).mul_(right).sub_(apart, alpha=d_12)
        else:
            second.numerators[rows] = (right * (c_2 + d_12)).sub_(left, alpha=d_12)
            first.numerators[rows] = ratio.mul_(d_12).add_(c_1 - d_12 * forward).mul_(left)
    for one in (first, second):
        one.total.fill_(1.0)
    return sums


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
        self._numerators, self._scaled = rows.new_empty(most, len(weight)), rows.new_empty(most, rows.shape[1])
        self._used = 0

    def buffers(self, passes: int, count: int) -> list[Tensor]:
        """Buffers for the numerators [count, V] of each pass."""
        if self._used + passes * count > len(self._numerators):
            self._multiply()
        buffers = self._numerators[self._used : self._used + passes * count]
        return list(buffers.chunk(passes))

    def add(self, place: slice, chunk: _Chunk, weight: Tensor) -> None:
        """Add the part of a chunk, whose numerators are in the buffers from `buffers`."""
        scale = chunk.total.reciprocal()
        if self.rows is not None:
            self.rows[place] = product(chunk.numerators, weight) * scale
        self._scaled[self._used : self._used + len(scale)] = chunk.rows * scale
        self._used += len(scale)
        if self.bias is not None:
            self.bias += torch.mv(chunk.numerators.t(), scale.squeeze(1).to(chunk.numerators.dtype))

    def _multiply(self) -> None:
        """Add the collected numerators to the gradient of the weight."""
        if self._wants_weight:
            part = transposed_product(self._numerators[: self._used], self._scaled[: self._used]).to(self._dtype)
            self.weight = part if self.weight is None else self.weight.add_(part)
        self._used = 0

    def finish(
        self,
        targets: Tensor,
        rows: Tensor,
        weight: Tensor,
        weight_sum: Tensor,
        smoothing: float,
        shares: tuple[float, ...],
    ) -> None:
        """Subtract each pass's share of the smoothed reference, (1 - e) onehot + e / V, for all positions at once."""
        self._multiply()
        for number, share in enumerate(shares):
            if not share:
                continue
            place = slice(number * len(targets), (number + 1) * len(targets))
            one, spread = (1.0 - smoothing) * share, smoothing / weight.shape[0] * share
            if self.rows is not None:
                reference = weight.index_select(0, targets).mul_(one)
                self.rows[place] -= reference.add_(weight_sum, alpha=spread).to(rows.dtype)
            if self.weight is not None:
                self.weight.index_add_(0, targets, rows[place].to(weight.dtype), alpha=-one)
                self.weight -= spread * rows[place].sum(dim=0, dtype=weight.dtype)
            if self.bias is not None:
                self.bias.index_add_(0, targets, torch.full_like(targets, 1, dtype=self.bias.dtype), alpha=-one)
                self.bias -= spread * len(targets)
