"""Products with weights: on a CPU by compiled loops or oneDNN, which take all of it, with weights put in order once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.kernels import tensors


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """What products of this tensor are computed in: autocast's type where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


_ONEDNN_LINEAR = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Packed:
    """Copies of a layer's weights in the orders that products on a CPU want, each made when it is first needed."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()

        self.whole: list[tensors.LayerWeights | None] = []
        """What a larger part of the model, of which this layer is the first, needs, where that has asked for it."""

    @cached_property
    def panels(self) -> tensors.Panels | None:
        """For compiled loops, if those take it."""
        return tensors.packed(self.weight, self.bias) if self.dtype == torch.float32 else None

    @cached_property
    def onednn(self) -> tuple[Tensor, Tensor | None]:
        """Weights in oneDNN's own order, and the bias."""
        weight = torch.ops.mkldnn._reorder_linear_weight(self.weight.to(self.dtype), _USUAL_ROWS)
        return weight, None if self.bias is None else self.bias.to(self.dtype)

    def product(self, x: Float[Tensor, "*N K"], relu: bool) -> Float[Tensor, "*N M"]:
        """What the layer computes."""
        if tensors.in_use() and self.panels is not None:
            found = tensors.product(x.float().contiguous(), self.panels, relu)
            if found is not None:
                return found
        return _positive(_onednn(x.to(self.dtype), *self.onednn), relu)


class Linear(nn.Linear):
    """`nn.Linear` that, without gradients on a CPU, uses compiled loops or oneDNN's kernels, not MKL's; relu on demand.

    They use all of AVX-512 on every maker's CPU: 230 and 190 against 85 GFLOP/s on an AMD EPYC; and the least product
    takes 5 us in the loops and 15 in oneDNN.
    """

    packed: _Packed | None = None
    """Within `packed_weights`."""

    def forward(self, x: Float[Tensor, "*N K"], relu: bool = False) -> Float[Tensor, "*N M"]:
        packed = self.packed
        if packed is None or torch.is_grad_enabled() or not x.numel():
            return fast_linear(x, self.weight, self.bias, relu)
        return packed.product(x, relu)


def fast_linear(
    x: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None, relu: bool = False
) -> Float[Tensor, "*N M"]:
    """x weight^T + bias, or its positive part; by oneDNN where no gradient is wanted on a CPU."""
    if x.dtype != weight.dtype and _without_gradient(x):
        x = x.to(weight.dtype)  # what came out of a product in bf16, within `packed_weights`
    if _takes(x):
        return _positive(_onednn(x, weight, bias), relu)
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


@contextmanager
def packed_weights(
    model: nn.Module, dtype: torch.dtype = torch.float32, exact: Collection[nn.Module] = ()
) -> Iterator[None]:
    """On a CPU every `Linear` keeps a copy of its weights in the order of those who compute and in `dtype` meanwhile.

    Then small products need not reorder them each time. With bf16, products are computed from bf16 inputs and weights
    and given in bf16, as under autocast; those of `exact` layers in fp32. `cpu.computes_bf16` says whether that is
    possible. The weights must not change within.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    try:
        for layer in layers if _ONEDNN_LINEAR else []:
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                layer.packed = _Packed(layer, torch.float32 if layer in exact else dtype)
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


def _positive(product: Tensor, relu: bool) -> Tensor:
    """The positive part of a new product, where it is wanted: oneDNN's own makes 0 of NaN, and hides a broken model."""
    return product.relu_() if relu else product


def initialise_linear(module: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform weights and zero biases, where the module is a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
