"""Interface of every architecture. Search, loss and scoring use this file and no other of this folder.

Letters in shapes: B batch, S source length, T target length, D width, V vocabulary, L layers, H heads. During search,
N sentences have W hypotheses each: R = N * W rows, and row r belongs to sentence r // W. The batch is axis 0 of every
tensor in a `Memory` (N rows) and in a state. A state is an argument and a result, never an attribute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Tree = TypeVar("Tree")


class Memory(NamedTuple):
    """The encoder's output, constant during decoding."""

    states: Float[Tensor, "B S D"]
    """Hidden states, zero at padding."""
    mask: Bool[Tensor, "B S"]
    """True at real tokens."""
    keys: tuple[Tensor, ...] = ()
    """Projections for the cross-attention, computed once: opaque to all but the architecture."""


class Decoded(NamedTuple):
    """Teacher-forced decoding of every position at once."""

    hidden: Float[Tensor, "B T D"]
    attention: Float[Tensor, "B L H T S"] | None
    """Cross-attention weights of every layer and head (a recurrent decoder has one layer of attention); they sum
    to 1 over the real source tokens."""


class Stepped(NamedTuple):
    """Decoding of one position."""

    hidden: Float[Tensor, "R D"]
    state: Any
    attention: Float[Tensor, "R S"] | None
    """Cross-attention weights of the last layer, mean over heads."""


def select_rows(tree: Tree, rows: Int[Tensor, " N"]) -> Tree:
    """The tree (tensors, None, tuples, named tuples) with these rows of every tensor; rows may repeat."""
    return _mapped(tree, lambda tensor: tensor.index_select(0, rows))


def keep_rows(tree: Tree, rows: Int[Tensor, " N"]) -> Tree:
    """Like `select_rows`, but in place where every row stays or fills the gap of one that is left out.

    Consumes the tree. None of its tensors may be a parameter or an expanded tensor. Rows on the host cost no wait for a
    GPU.
    """
    origins = rows.tolist()
    gaps = [place for place, origin in enumerate(origins) if place != origin]
    movers = [origins[place] for place in gaps]
    if any(mover < len(origins) for mover in movers):
        return _mapped(tree, lambda tensor: tensor.index_select(0, rows.to(tensor.device)))
    if gaps:
        tensors = list(_leaves(tree))
        # One call for all rows: for a few small rows, calls take longer than copies.
        torch._foreach_copy_(
            [tensor[gap] for tensor in tensors for gap in gaps],
            [tensor[mover] for tensor in tensors for mover in movers],
        )
    return _mapped(tree, lambda tensor: tensor[: len(rows)])


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for part in tree:
            yield from _leaves(part)


def _mapped(tree: Tree, change: Callable[[Tensor], Tensor]) -> Tree:
    if isinstance(tree, Tensor):
        return change(tree)  # type: ignore[return-value]
    if isinstance(tree, tuple):
        parts = [_mapped(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


class Seq2SeqModel(nn.Module, ABC):
    """An encoder-decoder with cross-attention."""

    output: nn.Linear
    """Projection D -> V (no bias where tied). Loss and search apply it: training never holds a B x T x V tensor."""

    recompute = False
    """Whether layers recompute their activations in the backward pass to save memory (Chen et al. 2016)."""

    @abstractmethod
    def encode(self, source: Int[Tensor, "B S"]) -> Memory:
        """Encode padded source ids (EOS at the end, PAD after it).

        Returns:
            hidden states [B S D] and their mask [B S], for `decode` and `start`.
        """

    @abstractmethod
    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        """Teacher forcing: `target_in` begins with BOS; position t sees target_in[:, : t + 1] only."""

    @abstractmethod
    def start(self, memory: Memory) -> Any:
        """The decoder's state before the first token: R = B rows, one hypothesis a sentence.

        Its form is known to the architecture alone; it goes to `step` and `select`, which return the next one.
        """

    @abstractmethod
    def step(self, tokens: Int[Tensor, " R"], memory: Memory, state: Any, *, with_attention: bool = False) -> Stepped:
        """Decode one position: takes the last tokens, returns the hidden states that predict the next ones.

        `tokens` and `state` have R = N * W rows over the N rows of `memory`. Consumes the state: the next state may
        reuse its buffers.
        """

    def select(self, state: Any, rows: Int[Tensor, "N W"]) -> Any:
        """The state of the selected hypotheses: `rows[n, w]` is the row that hypothesis w of sentence n continues.

        The hypotheses of a sentence come from one old sentence, and every old sentence is taken at most once. If none
        is left out, the sentences keep their order. W may differ from the old one. Consumes the state. The memory is
        selected separately when sentences are left out.
        """
        return select_rows(state, rows.flatten())

    def logits(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next token in fp32, unnormalised log-probabilities. The caller may write into it."""
        logits: Tensor = self.output(hidden)
        return logits.float()

    @property
    def max_source_length(self) -> int | None:
        """Longest source in tokens (EOS included) that the model can read; None if there is no limit."""
        return None

    @property
    def max_target_length(self) -> int | None:
        """Longest target in tokens (EOS included) that the model can write; None if there is no limit."""
        return None

    def forward(self, source: Int[Tensor, "B S"], target_in: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Hidden states of every target position: `decode(target_in, encode(source)).hidden`."""
        return self.decode(target_in, self.encode(source)).hidden


def log_probabilities(model: Seq2SeqModel, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
    """Log of the model's next-token distribution, in fp32."""
    return torch.log_softmax(model.logits(hidden), dim=-1)
