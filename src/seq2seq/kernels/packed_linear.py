"""Linear layers whose weights are copied once into the order of a CPU's kernels, for search.

Search computes many small products with the same weights: oneDNN would reorder them in each (190 GFLOP/s on an AMD
EPYC without that), and starts slowly (15 us against 5 us of a compiled loop, which reaches 230 GFLOP/s, and three times
that in 8-bit integers).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.kernels.compile import Kernels
from seq2seq.models.linear import HAS_ONEDNN, Linear, onednn_linear

MOST_INNER = 2048
"""Maximum inputs of a product by loops; for more, oneDNN is faster, as it reads them in blocks that fit the cache."""

MOST_INNER_INT8 = (2**31 - 1) // 127**2
"""Maximum inputs for which a sum of products of 8-bit integers fits into 32 bits; beyond, fp32 takes their place."""

_USUAL_ROWS = 128
"""Number of rows for which oneDNN optimizes the order of the weights; products may have any number."""

Module = TypeVar("Module", bound=nn.Module)


class Panels(NamedTuple):
    """Weights and bias in the order of a compiled product."""

    weight: Tensor
    """fp32 [P, K, `PANEL`], or int8 [P, K / `GROUP`, rounded up, `PANEL`, `GROUP`]."""
    ends: Tensor
    """The bias, fp32 [M2]; of integers also scales and first sums, int32 [3, M2], see `kernels.int8_products`."""

    @classmethod
    def pack(cls, weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None) -> Panels | None:
        """A copy of these weights in fp32; None where oneDNN is faster."""
        from seq2seq.kernels.products import FUSED, PANEL  # numba takes long to import, and is loaded by now

        columns, inner = weight.shape
        if not FUSED or inner > MOST_INNER:
            return None
        missing = -columns % PANEL
        padded = F.pad(weight, (0, 0, 0, missing))
        ends = weight.new_zeros(columns + missing) if bias is None else F.pad(bias, (0, missing))
        return cls(padded.view(-1, PANEL, inner).transpose(1, 2).contiguous(), ends)

    @classmethod
    def round(cls, weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None) -> Panels:
        """A copy in 8-bit integers. Each output has a scale of its own, NaN where its row holds NaN or infinity."""
        from seq2seq.kernels.int8_products import GROUP, LARGEST, SHIFT
        from seq2seq.kernels.products import PANEL

        columns, inner = weight.shape
        largest = weight.abs().amax(dim=1)
        scale = torch.where(largest.isfinite(), largest / LARGEST, torch.nan)
        rounded = (weight / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round().nan_to_num()
        rounded = F.pad(rounded.to(torch.int8), (0, -inner % GROUP, 0, -columns % PANEL))
        panels = rounded.view(-1, PANEL, rounded.shape[1] // GROUP, GROUP).transpose(1, 2).contiguous()
        ends = torch.zeros(3, len(rounded), dtype=torch.int32)
        ends[0, :columns] = scale.view(torch.int32)
        if bias is not None:
            ends[1, :columns] = bias.view(torch.int32)
        ends[2] = -SHIFT * rounded.sum(dim=1)
        return cls(panels, ends)


class PackedLinear(Linear):
    """A linear layer without gradients on a CPU, over a packed copy of its weights, which must stay unchanged.

    In fp32 the product is that of the compiled loops where they are given and pay, else of oneDNN. In bf16 it is
    computed from bf16 inputs and weights, as under autocast, and in int8, which takes the loops, from rounded ones. The
    output is of `output_dtype`, by default `dtype`, or fp32 for int8.
    """

    def __init__(
        self,
        layer: Linear,
        dtype: torch.dtype = torch.float32,
        kernels: Kernels | None = None,
        output_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        if dtype == torch.int8 and layer.in_features > MOST_INNER_INT8:
            dtype = torch.float32
        self.dtype, self.output_dtype = dtype, output_dtype or (torch.float32 if dtype == torch.int8 else dtype)
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.panels: Panels | None = None
        if kernels is not None and dtype == torch.float32:
            self.product, self.panels = kernels.product, Panels.pack(weight, bias)
        elif dtype == torch.int8:
            assert kernels is not None
            assert kernels.int8_product is not None
            self.product, self.panels = kernels.int8_product, Panels.round(weight, bias)
        if self.panels is None:
            self.reordered = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), _USUAL_ROWS)
            self.reordered_bias = None if bias is None else bias.to(dtype)

    def reset_parameters(self) -> None:
        """Initialise nothing: the parameters of `nn.Linear`, of no memory, are replaced at once. Their initialisation
        took 8 ms of the 90 of a short sentence, before which the weights are packed."""

    def forward(self, x: Float[Tensor, "*N K"], relu: bool = False) -> Float[Tensor, "*N M"]:
        if not x.numel():
            return F.linear(x.to(self.output_dtype), self.weight.to(self.output_dtype))
        if self.panels is not None:
            return self._compiled(x.float().contiguous(), relu)
        product = onednn_linear(x.to(self.dtype), self.reordered, self.reordered_bias)
        return (product.relu_() if relu else product).to(self.output_dtype)

    def _compiled(self, x: Float[Tensor, "*N K"], relu: bool) -> Float[Tensor, "*N M"]:
        """Each row has the same bits whatever the other rows are."""
        *shape, inner = x.shape
        if inner != self.in_features:
            raise RuntimeError(f"a row of {inner} numbers for a layer of {self.in_features} inputs")
        assert self.panels is not None
        out = torch.empty(*shape, self.out_features)
        self.product(
            out.data_ptr(),
            x.data_ptr(),
            self.panels.weight.data_ptr(),
            self.panels.ends.data_ptr(),
            0.0 if relu else -math.inf,
            x.numel() // inner,
            inner,
            self.out_features,
        )
        return out


def can_be_packed(module: nn.Module) -> bool:
    """Whether a module is a linear layer in fp32 on a CPU with oneDNN."""
    return (
        HAS_ONEDNN
        and isinstance(module, Linear)
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


def replace_children(module: Module, replacement: Callable[[str, nn.Module], nn.Module | None]) -> Module:
    """A copy of a tree of modules with some of them replaced; it shares the parameters and all other modules.

    `replacement` gets the name and the module of every child, and returns None to look at the child's own children.
    """
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():
        replaced = None if child is None else replacement(name, child)
        children[name] = replace_children(child, replacement) if child is not None and replaced is None else replaced
    if all(children[name] is child for name, child in module._modules.items()):
        return module
    changed = copy.copy(module)
    changed._modules = children
    return changed
