"""What a Transformer's decoder remembers of the tokens that it has read: keys and values, and who sees which."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.models.attention import HIDDEN, NARROWEST, Past
from seq2seq.models.interface import Memory, keep_rows, select_rows

SHARED_LIMIT = 8
"""Up to so many hypotheses of a sentence share one buffer of keys and values."""

_STEPS = 4
"""Room is made for at least so many tokens of every hypothesis: more is looked at in vain, less is copied too often."""

_ROUND = 8
"""Buffers have a multiple of so many places."""


class TransformerState(NamedTuple):
    """Self-attention keys and values of every decoder layer, in buffers that have room for more.

    The K hypotheses of a sentence write theirs side by side, and each sees its own line of ancestors alone: when
    hypotheses are reordered nothing moves but `bias`. Looking at what others have written costs less than copying one's
    own at every step. Whenever a buffer is full, what nobody sees any more is left out of the next one.
    With more than `SHARED_LIMIT` hypotheses each has a buffer of its own (B = R, K = 1).

    Every step looks at whole buffers, as parts of larger ones would be far apart in memory. Hence small rooms, and
    finite numbers in their empty places.
    """

    layers: tuple[Past, ...]
    """[B, H, C, E] each, of which the first `used` of C places are filled."""
    bias: Float[Tensor, "B K C"]
    """0 where a hypothesis sees a place, `HIDDEN` where it does not."""
    used: int
    position: int
    """Of the next token."""
    apart: bool
    """Whether each hypothesis has a buffer of its own."""

    @classmethod
    def empty(cls, memory: Memory, projected: list[Past]) -> TransformerState:
        """Before the first token, one hypothesis a sentence; the layers' `projected` memory lends width and type."""
        nothing = tuple(Past(keys[:, :, :0], values[:, :, :0]) for keys, values in projected)
        return cls(nothing, memory.states.new_zeros(len(memory.mask), 1, 0), used=0, position=0, apart=False)

    def grown(self) -> TransformerState:
        """With the next K places taken, each seen by the hypothesis that will write it. Uses the state up."""
        fan, end = self.bias.shape[1], self.used + self.bias.shape[1]
        state = self if end <= self.bias.shape[2] else self._moved()
        state.bias[:, :, state.used : state.used + fan].diagonal(dim1=1, dim2=2).zero_()
        return state._replace(used=state.used + fan, position=state.position + 1)

    def select(self, rows: Int[Tensor, "N W"]) -> TransformerState:
        """These hypotheses of these sentences, by their places in B x K; see `Seq2SeqModel.select`."""
        fan = self.bias.shape[1]
        if self.apart or (fan == 1 and rows.shape[1] > SHARED_LIMIT):
            layers, bias = select_rows(self.layers, rows.flatten()), self.bias.flatten(0, 1)[rows.flatten()]
            return self._replace(layers=layers, bias=bias[:, None], apart=True)
        state = self._replace(bias=self.bias.flatten(0, 1)[rows])
        if len(rows) == len(self.bias):
            return state
        return state._replace(layers=keep_rows(self.layers, rows[:, 0] // fan))

    def _moved(self) -> TransformerState:
        """In new buffers with some room; without what no hypothesis sees."""
        seen = (self.bias[:, :, : self.used] == 0).any(dim=1)
        kept, order = _first(seen)
        count, fan = self.bias.shape[0], self.bias.shape[1]
        wider = max(NARROWEST, -(-(kept + fan * _STEPS) // _ROUND) * _ROUND)
        bias = torch.full((count, fan, wider), HIDDEN, device=self.bias.device, dtype=self.bias.dtype)
        if not kept:
            layers = tuple(
                Past(*(part.new_zeros(*part.shape[:2], wider, part.shape[3]) for part in layer))
                for layer in self.layers
            )
            return self._replace(layers=layers, bias=bias)
        bias[:, :, :kept] = self.bias.gather(2, order[:, None].expand(-1, fan, -1))
        # Empty places are filled with what the first place holds: any finite numbers do.
        order = torch.cat([order, order[:, :1].expand(-1, wider - kept)], dim=1)
        heads, room = self.layers[0].keys.shape[1:3]
        firsts = torch.arange(count * heads, device=order.device).view(count, heads, 1) * room
        places = (firsts + order[:, None]).flatten()

        def moved(part: Float[Tensor, "B H C E"]) -> Float[Tensor, "N H C2 E"]:
            rows = F.embedding(places, part.flatten(0, 2))  # index_select takes a third longer
            return rows.view(count, heads, wider, part.shape[3])

        layers = tuple(Past(moved(layer.keys), moved(layer.values)) for layer in self.layers)
        return self._replace(layers=layers, bias=bias, used=kept)


def _first(seen: Bool[Tensor, "N C"]) -> tuple[int, Int[Tensor, "N P"]]:
    """The places that are seen, in order, filled up with others to the most that any row has."""
    if not seen.shape[1]:
        return 0, torch.zeros(len(seen), 0, dtype=torch.long, device=seen.device)
    most = int(seen.sum(dim=1).max())
    return most, seen.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
