"""Attention heads widened with zeros to a width that the loops know."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seq2seq.kernels import LANES
from seq2seq.models.attention import MultiHeadAttention
from seq2seq.models.linear import Linear

Attention = TypeVar("Attention", bound=MultiHeadAttention)


def padded_heads(attention: Attention) -> Attention:
    """The attention with heads of the next multiple of `LANES` in width E; unchanged where they have one.

    What is added to queries, keys and values is 0. Queries grow by as much as the sqrt(E) that divides their products
    with the keys, so the weights stay what they are, up to rounding.
    """
    heads, width = attention.num_heads, attention.head_size
    missing = -width % LANES
    if not missing:
        return attention
    padded = copy.copy(attention)
    padded.head_size, padded.inner = width + missing, heads * (width + missing)
    grown = (padded.head_size / width) ** 0.5

    def projection(name: str, layer: Linear) -> Linear:
        # [parts, heads, width] of the outputs; queries are the first part, where there are any.
        weight, bias = (part.detach().view(-1, heads, width, *part.shape[1:]) for part in (layer.weight, layer.bias))
        if name != "key_value":
            weight, bias = (torch.cat((part[:1] * grown, part[1:])) for part in (weight, bias))
        return _changed(layer, F.pad(weight, (0, 0, 0, missing)).flatten(0, 2), F.pad(bias, (0, missing)).flatten())

    def output(layer: Linear) -> Linear:
        weight = layer.weight.detach().view(-1, heads, width)
        return _changed(layer, F.pad(weight, (0, missing)).flatten(1), layer.bias)

    padded._modules = {
        name: (output(child) if name == "out" else projection(name, child)) if isinstance(child, Linear) else child
        for name, child in attention._modules.items()
    }
    return padded


def _changed(layer: Linear, weight: Tensor, bias: Tensor) -> Linear:
    """A copy of the layer with other parameters."""
    changed = copy.copy(layer)
    changed.out_features, changed.in_features = weight.shape
    changed._parameters = {
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": nn.Parameter(bias.detach(), requires_grad=False),
    }
    return changed
