"""Ensemble of models: the mean of their probabilities (Sutskever et al. 2014).

    P(y_t | ...) = 1/M * sum over m of P_m(y_t | ...)

The members may have different architectures, but need the same vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.errors import UsageError
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped, log_probabilities
from seq2seq.tokenizers.pair import TokenizerPair


class EnsembleModel(Seq2SeqModel):
    """A model made of several.

    `Memory.states` and hidden states are those of the members, concatenated; `Memory.keys` are the members' memories,
    and a state is a tuple of their states. Attention is the mean over the members that have attention, each averaged
    over the heads of its last layer. An ensemble has `logits`, but no `output` of its own.
    """

    def __init__(self, members: Sequence[Seq2SeqModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def max_source_length(self) -> int | None:
        return _least([member.max_source_length for member in self._models()])

    @property
    def max_target_length(self) -> int | None:
        return _least([member.max_target_length for member in self._models()])

    def encode(self, source: Int[Tensor, "B S"]) -> Memory:
        memories = [member.encode(source) for member in self._models()]
        keys: Any = tuple(memories)
        return Memory(torch.cat([memory.states for memory in memories], dim=2), memories[0].mask, keys)

    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        decoded = [
            member.decode(target_in, part, with_attention=with_attention)
            for member, part in zip(self._models(), _parts(memory), strict=True)
        ]
        weights = [part.attention[:, -1:].mean(dim=2, keepdim=True) for part in decoded if part.attention is not None]
        return Decoded(torch.cat([part.hidden for part in decoded], dim=2), _mean(weights))

    def start(self, memory: Memory) -> tuple[Any, ...]:
        return tuple(member.start(part) for member, part in zip(self._models(), _parts(memory), strict=True))

    def step(
        self, tokens: Int[Tensor, " R"], memory: Memory, state: tuple[Any, ...], *, with_attention: bool = False
    ) -> Stepped:
        steps = [
            member.step(tokens, part, own, with_attention=with_attention)
            for member, part, own in zip(self._models(), _parts(memory), state, strict=True)
        ]
        weights = [part.attention for part in steps if part.attention is not None]
        hidden = torch.cat([part.hidden for part in steps], dim=1)
        return Stepped(hidden, tuple(part.state for part in steps), _mean(weights))

    def select(self, state: tuple[Any, ...], rows: Int[Tensor, "N W"]) -> tuple[Any, ...]:
        return tuple(member.select(own, rows) for member, own in zip(self._models(), state, strict=True))

    def logits(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Log of the mean probability of each token."""
        widths = [member.output.in_features for member in self._models()]
        total: Tensor | None = None
        for member, part in zip(self._models(), torch.split(hidden, widths, dim=-1), strict=True):
            found = log_probabilities(member, part)
            total = found if total is None else torch.logaddexp(total, found)
        assert total is not None
        return total - math.log(len(widths))

    def _models(self) -> list[Seq2SeqModel]:
        return [member for member in self.members if isinstance(member, Seq2SeqModel)]


def check_vocabularies(runs: Sequence[tuple[str, TokenizerPair]]) -> None:
    """Check that runs, given by name and tokenizers, have the same vocabulary.

    Raises:
        UsageError: the tokenizers of one differ from those of the first.
    """
    (first, expected), *others = runs
    for name, tokenizers in others:
        if tokenizers.fingerprint != expected.fingerprint:
            raise UsageError(
                f"{name} has another vocabulary than {first}: they cannot be ensembled",
                hint=f"train it with the tokenizer of {first}: tokenizer.source_model, or training.init_from",
                code="search.ensemble",
            )


def _parts(memory: Memory) -> Sequence[Any]:
    return memory.keys


def _least(lengths: Sequence[int | None]) -> int | None:
    return min((length for length in lengths if length is not None), default=None)


def _mean(weights: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(weights)).mean(dim=0) if weights else None
