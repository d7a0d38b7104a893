"""Products with weights: on a CPU by oneDNN, whose kernels take all of it, and with weights put in its order once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """What products of this tensor are computed in: autocast's type where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


_ONEDNN_LINEAR = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Packed(NamedTuple):
    """Weights in oneDNN's own order."""

    weight: Tensor
    weight_type: torch.dtype
    bias: Tensor | None


class Linear(nn.Linear):
    """`nn.Linear` that, without gradients on a CPU, uses oneDNN's kernels instead of MKL's; relu on demand.

    They use all of AVX-512 on every maker's CPU: 190 against 85 GFLOP/s on an AMD EPYC.
    """

    packed: _Packed | None = None
    """Within `packed_weights`."""

    def forward(self, x: Float[Tensor, "*N K"], relu: bool = False) -> Float[Tensor, "*N M"]:
        packed = self.packed
        if packed is None or torch.is_grad_enabled() or not x.numel():
            return fast_linear(x, self.weight, self.bias, relu)
        return _onednn(x.to(packed.weight_type), packed.weight, packed.bias, relu)


def fast_linear(
    x: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None, relu: bool = False
) -> Float[Tensor, "*N M"]:
    """x weight^T + bias, or its positive part; by oneDNN where no gradient is wanted on a CPU."""
    if x.dtype != weight.dtype and _without_gradient(x):
        x = x.to(weight.dtype)  # what came out of a product in bf16, within `packed_weights`
    if _takes(x):
        return _onednn(x, weight, bias, relu)
    if not relu:
        return F.linear(x, weight, bias)
    if _is_bf16_on_cpu(x, weight):
        positive: Tensor = _PositiveBf16.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return positive
    # Not in place: on a linear layer's view that costs four copies going backward.
    return F.relu(F.linear(x, weight, bias))


class _PositiveBf16(torch.autograd.Function):
    """relu(x weight^T + bias) as autocast would compute it in bf16, without passes over memory for bias and relu."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        narrow, weight = x.bfloat16(), weight.bfloat16()
        positive = _onednn(narrow, weight, None if bias is None else bias.bfloat16(), relu=True)
        ctx.save_for_backward(narrow, weight, positive)
        ctx.dtype = x.dtype
        return positive

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, positive = ctx.saved_tensors
        rows = torch.ops.aten.threshold_backward(gradients[0], positive, 0).flatten(0, -2)
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            torch.mm(rows, weight).view(x.shape).to(ctx.dtype) if for_x else None,
            torch.mm(rows.t(), x.flatten(0, -2)).float() if for_weight else None,
            rows.sum(dim=0).float() if for_bias else None,
        )


def packs_bf16() -> bool:
    """Whether `packed_weights` can have products in bf16 here."""
    return bool(_ONEDNN_LINEAR and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def packed_weights(
    model: nn.Module, dtype: torch.dtype = torch.float32, exact: Collection[nn.Module] = ()
) -> Iterator[None]:
    """On a CPU every `Linear` keeps a copy of its weights in oneDNN's order and in `dtype` meanwhile.

    Then small products need not reorder them each time. With bf16, products are computed from bf16 inputs and weights
    and given in bf16, as under autocast; those of `exact` layers in fp32. The weights must not change within.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    try:
        for layer in layers if _ONEDNN_LINEAR else []:
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                kind = torch.float32 if layer in exact else dtype
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(kind), _USUAL_ROWS)
                layer.packed = _Packed(weight, kind, None if layer.bias is None else layer.bias.detach().to(kind))
        yield
    finally:
        for layer in layers:
            layer.packed = None


_USUAL_ROWS = 128
"""oneDNN chooses its order for so many rows; any number will do later."""


def _takes(x: Tensor) -> bool:
    return _ONEDNN_LINEAR and x.dtype == torch.float32 and _without_gradient(x)


def _without_gradient(x: Tensor) -> bool:
    on_cpu = x.device.type == "cpu" and x.numel()
    return bool(on_cpu and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"))


def _is_bf16_on_cpu(x: Tensor, weight: Tensor) -> bool:
    return bool(
        _ONEDNN_LINEAR
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and compute_dtype(x) == torch.bfloat16
        and weight.dtype == torch.float32
        and x.numel()
        and not torch.compiler.is_compiling()
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return product


def initialise_linear(module: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform weights and zero biases, where the module is a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
