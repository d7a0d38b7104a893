"""KV cache of the Transformer decoder, shared by a sentence's hypotheses."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.models.attention import FEWEST_KEYS, MASK_VALUE, KeysValues
from seq2seq.models.interface import Memory, keep_rows, select_rows

SHARED_LIMIT = 8
"""Maximum number of hypotheses of a sentence that share one buffer of keys and values."""

_STEPS = 4
"""A new buffer has room for this many tokens of every hypothesis: a larger one costs time at every step, a smaller one
is copied too often."""

_MULTIPLE = 8
"""The number of places in a buffer is a multiple of this."""


class KVCache(NamedTuple):
    """State of the Transformer decoder: self-attention keys and values of every layer, in buffers with room for more.

    The K hypotheses of a sentence write into one buffer side by side, and `bias` shows each its own ancestors alone:
    when hypotheses are reordered, nothing moves but `bias`. Attending to masked places of other hypotheses costs less
    than copying keys and values at every step. A full buffer is copied into a new one without the places that no
    hypothesis sees any more. With more than `SHARED_LIMIT` hypotheses each has a buffer of its own (B = R, K = 1).

    Every step attends to whole buffers, as slices of larger ones would not be contiguous. Hence small buffers, and
    finite numbers in their empty places.
    """

    layers: tuple[KeysValues, ...]
    """[B, H, C, E] each; the first `used` of C places are filled."""
    bias: Float[Tensor, "B K C"]
    """0 where a hypothesis sees a place, `MASK_VALUE` where it does not."""
    used: int
    position: int
    """Position of the next token."""
    is_separate: bool
    """Whether each hypothesis has a buffer of its own."""

    @classmethod
    def empty(cls, memory: Memory, projected: list[KeysValues]) -> KVCache:
        """The cache before the first token, with one hypothesis a sentence.

        Width and type are those of `projected`, the keys and values of the cross-attention.
        """
        layers = tuple(KeysValues(keys[:, :, :0], values[:, :, :0]) for keys, values in projected)
        bias = memory.states.new_zeros(len(memory.mask), 1, 0)
        return cls(layers, bias, used=0, position=0, is_separate=False)

    def extend(self) -> KVCache:
        """Allocate the next K places, each visible to the hypothesis that will write it. Consumes the cache."""
        fan, end = self.bias.shape[1], self.used + self.bias.shape[1]
        cache = self if end <= self.bias.shape[2] else self._reallocate()
        cache.bias[:, :, cache.used : cache.used + fan].diagonal(dim1=1, dim2=2).zero_()
        return cache._replace(used=cache.used + fan, position=cache.position + 1)

    def select(self, rows: Int[Tensor, "N W"]) -> KVCache:
        """The cache of these hypotheses, by their rows in B x K; see `Seq2SeqModel.select`."""
        fan = self.bias.shape[1]
        bias = self.bias.flatten(0, 1).index_select(0, rows.flatten())
        if self.is_separate or (fan == 1 and rows.shape[1] > SHARED_LIMIT):
            return self._replace(layers=select_rows(self.layers, rows.flatten()), bias=bias[:, None], is_separate=True)
        cache = self._replace(bias=bias.view(*rows.shape, -1))
        if len(rows) == len(self.bias):
            return cache
        return cache._replace(layers=keep_rows(self.layers, rows[:, 0] // fan))

    def _reallocate(self) -> KVCache:
        """Copy the places that are visible to any hypothesis into new buffers."""
        seen = (self.bias[:, :, : self.used] == 0).any(dim=1)
        kept, order = _seen_first(seen)
        count, fan = self.bias.shape[0], self.bias.shape[1]
        room = max(FEWEST_KEYS, -(-(kept + fan * _STEPS) // _MULTIPLE) * _MULTIPLE)
        bias = torch.full((count, fan, room), MASK_VALUE, device=self.bias.device, dtype=self.bias.dtype)
        if not kept:
            layers = tuple(
                KeysValues(*(part.new_zeros(*part.shape[:2], room, part.shape[3]) for part in layer))
                for layer in self.layers
            )
            return self._replace(layers=layers, bias=bias)
        bias[:, :, :kept] = self.bias.gather(2, order[:, None].expand(-1, fan, -1))
        # Empty places get a copy of the first place: any finite numbers do.
        order = torch.cat([order, order[:, :1].expand(-1, room - kept)], dim=1)
        heads, old_room = self.layers[0].keys.shape[1:3]
        firsts = torch.arange(count * heads, device=order.device).view(count, heads, 1) * old_room
        places = (firsts + order[:, None]).flatten()

        def copied(part: Float[Tensor, "B H C E"]) -> Float[Tensor, "N H C2 E"]:
            rows = F.embedding(places, part.flatten(0, 2))  # index_select takes a third longer
            return rows.view(count, heads, room, part.shape[3])

        layers = tuple(KeysValues(copied(layer.keys), copied(layer.values)) for layer in self.layers)
        return self._replace(layers=layers, bias=bias, used=kept)


def _seen_first(seen: Bool[Tensor, "N C"]) -> tuple[int, Int[Tensor, "N P"]]:
    """The largest number P of places that a row sees, and P places of every row: first those that it sees, in order."""
    if not seen.shape[1]:
        return 0, torch.zeros(len(seen), 0, dtype=torch.long, device=seen.device)
    most = int(seen.sum(dim=1).max())
    return most, seen.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
