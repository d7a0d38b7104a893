"""The compiled loops on torch's tensors; None where there are none for these, and torch has to do it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.kernels.compile import used
from seq2seq.kernels.sizes import BLOCKS, LANES, scratch_size

MOST_QUERIES = 64
"""Queries of a sentence beyond which matrix products are faster. In an encoder they are the batch's longest sentence's:
the last bits of the others' states may depend on whether it is longer than this."""

MOST_INNER = 2048
"""Inputs of a product beyond which oneDNN, which reads them in blocks that stay in the cache, is faster."""

_ROWS_AT_ONCE = 128
"""Rows of a layer: what lies between its parts should stay in the cache."""


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
    size, fan, parts, heads, width = projected.shape
    bias = bias.contiguous()
    if kernels is None or fan > MOST_QUERIES or width % LANES or not takes(projected, keys, values, bias):
        return None
    context = torch.empty(size, fan, heads, width)
    kernels.attend(
        context.data_ptr(),
        projected.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        bias.data_ptr(),
        filled,
        (size, fan, parts, heads, width),
        keys.shape[2],
        (bias.shape[1], bias.shape[2]),
    )
    return context.flatten(2)


def norm(
    x: Float[Tensor, "*R D"], gain: Float[Tensor, " D"], shift: Float[Tensor, " D"] | None, epsilon: float
) -> Float[Tensor, "*R D"] | None:
    """Layer normalisation, or without `shift` the root mean square's."""
    kernels = used()
    width = x.shape[-1]
    if kernels is None or width != len(gain):
        return None
    x = x.contiguous()
    if not takes(x, gain, gain if shift is None else shift):
        return None
    out, bottom = torch.empty_like(x), 0 if shift is None else shift.data_ptr()
    kernels.norm(out.data_ptr(), x.data_ptr(), gain.data_ptr(), bottom, epsilon, x.numel() // width, width)
    return out


def fill(tables: Sequence[Tensor], gaps: Int[Tensor, " G"], movers: Int[Tensor, " G"]) -> bool:
    """Rows `gaps` of every table become its rows `movers`; whether the loops could do that."""
    kernels = used()
    if kernels is None or not all(table.is_cpu and table.is_contiguous() for table in tables):
        return False
    end = 1 + int(torch.cat((gaps, movers)).max()) if len(gaps) else 0
    if any(len(table) < end for table in tables):
        raise IndexError(f"row {end - 1} of tables with {min(map(len, tables))} rows")
    places = [(table.data_ptr(), table.nbytes // len(table)) for table in tables]
    kernels.fill(np.array(places, dtype=np.int64), gaps.numpy(), movers.numpy())
    return True


def normalise(logits: Float[Tensor, "R V"]) -> Float[Tensor, " R"] | None:
    """Log of the sum of exponentials of each row, in float64; NaN where a row holds NaN or infinity."""
    kernels = used()
    if kernels is None or logits.shape[1] < BLOCKS or not takes(logits):
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
    if kernels is None or logits.shape[2] < BLOCKS or not takes(logits):
        return None
    totals = torch.empty(len(logits), count, dtype=torch.float64)
    places = torch.empty(len(logits), count, dtype=torch.long)
    kernels.choose(logits.numpy(), offsets.contiguous().numpy(), totals.numpy(), places.numpy())
    return totals, places


class Panels(NamedTuple):
    """Weights and bias of a linear layer as `product` takes them."""

    weight: Float[Tensor, "P K panel"]
    bias: Float[Tensor, " M2"]
    columns: int


def packed(weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None) -> Panels | None:
    """A copy of these weights for `product`."""
    if used() is None or not takes(weight, weight if bias is None else bias) or weight.shape[1] > MOST_INNER:
        return None
    from seq2seq.kernels.products import FUSED, PANEL  # numba, which takes long to import, is there by now

    if not FUSED:
        return None
    columns, inner = weight.shape
    missing = -columns % PANEL
    padded = F.pad(weight, (0, 0, 0, missing))
    ends = weight.new_zeros(columns + missing) if bias is None else F.pad(bias, (0, missing))
    return Panels(padded.view(-1, PANEL, inner).transpose(1, 2).contiguous(), ends, columns)


def product(x: Float[Tensor, "*R K"], panels: Panels, relu: bool) -> Float[Tensor, "*R M"] | None:
    """x weight^T + bias, or its positive part; each row has the same bits whatever the others are."""
    kernels = used()
    *shape, inner = x.shape
    if kernels is None or inner != panels.weight.shape[1] or not takes(x):
        return None
    out = torch.empty(*shape, panels.columns)
    kernels.product(
        out.data_ptr(),
        x.data_ptr(),
        panels.weight.data_ptr(),
        panels.bias.data_ptr(),
        0.0 if relu else -math.inf,
        x.numel() // inner,
        inner,
        panels.columns,
    )
    return out


class LayerWeights(NamedTuple):
    """A Transformer's layer with relu as `encoder_layer` and `decoder_layer` take it: self-attention, in a decoder
    attention to the memory, and the feed-forward block."""

    gains: tuple[Float[Tensor, " D"], ...]
    """Of the norm of each block."""
    shifts: tuple[Float[Tensor, " D"] | None, ...]
    """None for the root mean square."""
    panels: tuple[Panels, ...]
    """Of queries, keys and values, of the heads' results; in a decoder of queries, of results; of inner and outer
    units."""
    heads: int
    epsilon: float
    pre: bool
    """Whether norms come before their blocks."""

    def addresses(self) -> tuple[int, ...]:
        """Of all tensors, as the loops expect them."""
        found: list[int] = []
        for gain, shift in zip(self.gains, self.shifts, strict=True):
            found += gain.data_ptr(), 0 if shift is None else shift.data_ptr()
        for panels in self.panels:
            found += panels.weight.data_ptr(), panels.bias.data_ptr()
        return tuple(found)

    def sizes(self) -> tuple[int, int, int, int]:
        """D, H * E, H and the inner units."""
        return len(self.gains[0]), self.panels[1].weight.shape[1], self.heads, self.panels[-2].columns


def encoder_layer(
    x: Float[Tensor, "B S D"], weights: LayerWeights, bias: Float[Tensor, "B 1 1 S"]
) -> Float[Tensor, "B S D"] | None:
    """A whole encoder layer; `bias` as in `attend`."""
    kernels, sizes = used(), weights.sizes()
    width, inner, heads, units = sizes
    size, length, _ = x.shape
    if kernels is None or length > MOST_QUERIES or inner // heads % LANES or not takes(x, bias):
        return None
    at_once = max(1, _ROWS_AT_ONCE // length)
    out = torch.empty_like(x)
    scratch = torch.empty(scratch_size(min(size, at_once) * length, width, inner, units))
    kernels.encoder_layer(
        out.data_ptr(),
        x.data_ptr(),
        scratch.data_ptr(),
        weights.addresses(),
        bias.data_ptr(),
        sizes,
        (size, length, at_once),
        weights.epsilon,
        weights.pre,
    )
    return out


def decoder_layer(
    x: Float[Tensor, "N W D"],
    weights: LayerWeights,
    past: tuple[Float[Tensor, "B H C E"], Float[Tensor, "B H C E"]],
    filled: int,
    own: Float[Tensor, "B 1 K C"],
    memory: tuple[Float[Tensor, "N H P E"], Float[Tensor, "N H P E"]],
    bias: Float[Tensor, "N 1 1 S"],
) -> Float[Tensor, "N W D"] | None:
    """One position of a whole decoder layer; `past`, of which so many places are filled then, and `own` as in `attend`.

    So are `memory` and `bias`, what the encoder has written.
    """
    kernels, sizes = used(), weights.sizes()
    width, inner, heads, units = sizes
    size, each, _ = x.shape
    most = max(each, own.shape[2])
    if kernels is None or most > MOST_QUERIES or inner // heads % LANES or not takes(x, *past, own, *memory, bias):
        return None
    at_once = max(1, _ROWS_AT_ONCE // each)
    out, scratch = torch.empty_like(x), torch.empty(scratch_size(min(size, at_once) * each, width, inner, units))
    kernels.decoder_layer(
        out.data_ptr(),
        x.data_ptr(),
        scratch.data_ptr(),
        weights.addresses(),
        (past[0].data_ptr(), past[1].data_ptr(), own.data_ptr()),
        (memory[0].data_ptr(), memory[1].data_ptr(), bias.data_ptr()),
        sizes,
        (len(own), own.shape[2], own.shape[3], filled),
        (size, each, memory[0].shape[2], bias.shape[3], at_once),
        weights.epsilon,
        weights.pre,
    )
    return out


def takes(*tensors: Tensor) -> bool:
    """Whether these are numbers as the loops expect them, side by side, and no gradient is wanted."""
    for part in tensors:  # and not all(...), which takes three times as long: this is asked thousands of times a second
        if not (part.is_cpu and part.dtype is torch.float32 and part.is_contiguous()):
            return False
    return not torch.is_grad_enabled()
