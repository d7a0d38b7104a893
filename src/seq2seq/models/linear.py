"""Linear layers, computed on a CPU by oneDNN where it is faster than torch's own kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.models.cpu_products import padded, product, transposed_product

HAS_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear` with relu on demand; see `linear`."""

    def forward(self, x: Float[Tensor, "*N K"], relu: bool = False) -> Float[Tensor, "*N M"]:
        return linear(x, self.weight, self.bias, relu)


def linear(
    x: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None, relu: bool = False
) -> Float[Tensor, "*N M"]:
    """x weight^T + bias, or its positive part.

    Without gradients on a CPU, oneDNN uses all of AVX-512 on every maker's CPU, where MKL does not: 190 against 85
    GFLOP/s on an AMD EPYC.
    """
    if _is_inference_on_cpu(x, weight):
        inferred = onednn_linear(x.to(weight.dtype), weight, bias)
        return inferred.relu_() if relu else inferred
    if _is_bf16_training_on_cpu(x, weight):
        trained: Tensor = _LinearBf16.apply(x, weight, bias, relu)  # type: ignore[no-untyped-call]
        return trained
    if not relu:
        return F.linear(x, weight, bias)
    # Not in place: on a linear layer's view that costs four copies going backward.
    return F.relu(F.linear(x, weight, bias))


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The type in which products of this tensor are computed: autocast's where it is on, else the tensor's own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if is_autocast(kind) else tensor.dtype


def is_autocast(kind: str) -> bool:
    """Whether autocast is on for this kind of device; not all kinds have it."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """oneDNN's product. Its relu turns NaN into 0, which would hide a broken model in inference."""
    computed: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return computed


class _LinearBf16(torch.autograd.Function):
    """x weight^T + bias as autocast computes it in bf16, or its positive part, in few shapes (`cpu_products`).

    oneDNN's product adds the bias and takes the positive part without passes over memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        rows, weight = x.bfloat16().flatten(0, -2), weight.bfloat16()
        bias = None if bias is None else bias.bfloat16()
        if relu:
            out = onednn_linear(padded(rows), weight, bias, relu=True)[: len(rows)]
        else:
            out = product(rows, weight.t(), bias)
        ctx.save_for_backward(rows, weight, out if relu else None)
        ctx.dtype, ctx.shape = x.dtype, x.shape
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        rows, weight, positive = ctx.saved_tensors
        slopes = gradients[0].flatten(0, -2)
        if positive is not None:
            slopes = torch.ops.aten.threshold_backward(slopes, positive, 0)
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        return (
            product(slopes, weight).view(ctx.shape).to(ctx.dtype) if for_x else None,
            transposed_product(slopes, rows) if for_weight else None,
            slopes.sum(dim=0).float() if for_bias else None,
            None,
        )


def _is_inference_on_cpu(x: Tensor, weight: Tensor) -> bool:
    return bool(
        HAS_ONEDNN
        and x.device.type == "cpu"
        and weight.dtype == torch.float32
        and x.numel()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _is_bf16_training_on_cpu(x: Tensor, weight: Tensor) -> bool:
    return bool(
        HAS_ONEDNN
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and compute_dtype(x) == torch.bfloat16
        and weight.dtype == torch.float32
        and x.numel()
        and not torch.compiler.is_compiling()
    )


def initialise_linear(module: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform weights and zero biases, where the module is a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
