"""Models and tokenizers small enough to enumerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.decoding.beam_search import search
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped, select_rows
from seq2seq.special_tokens import EOS, PAD, UNK
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair


class MarkovModel(Seq2SeqModel):
    """The next token depends on the last one alone: `table[last]` are its logits."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.output = nn.Linear(len(table), len(table), bias=False)
        self.output.weight.data = torch.eye(len(table))
        self.register_buffer("table", table)

    def encode(self, source: Tensor) -> Memory:
        mask = source != PAD
        return Memory(mask[:, :, None].float(), mask)

    def decode(self, target_in: Tensor, memory: Memory, *, with_attention: bool = False) -> Decoded:
        return Decoded(self.table[target_in], None)

    def start(self, memory: Memory) -> Any:
        return ()

    def step(self, tokens: Tensor, memory: Memory, state: Any, *, with_attention: bool = False) -> Stepped:
        return Stepped(self.table[tokens], (), None)


class _State(NamedTuple):
    hidden: Tensor
    written: tuple[Tensor, ...]


class RecurrentModel(Seq2SeqModel):
    """The next token depends on the source and on everything written; attention is a plain dot product."""

    def __init__(self, size: int, *, seed: int, width: int = 6, limit: int | None = None) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=draws))

        self.source, self.target, self.inner = normal(size, width), normal(size, width), normal(width, width)
        self.output = nn.Linear(width, size, bias=False)
        self.output.weight = normal(size, width)
        self.limit = limit
        self.rows_stepped = 0

    @property
    def max_target_length(self) -> int | None:
        return self.limit

    def encode(self, source: Tensor) -> Memory:
        mask = source != PAD
        states = self.source[source] * mask[:, :, None]
        return Memory(states, mask, (torch.tanh(states),))

    def start(self, memory: Memory) -> Any:
        return _State(memory.states.sum(dim=1).tanh(), (memory.states[:, 0],))

    def step(self, tokens: Tensor, memory: Memory, state: Any, *, with_attention: bool = False) -> Stepped:
        self.rows_stepped += len(tokens)
        memory = select_rows(memory, torch.arange(len(tokens)) // (len(tokens) // len(memory.mask)))
        hidden = torch.tanh(state.hidden @ self.inner + self.target[tokens])
        affinity = (memory.keys[0] @ hidden[:, :, None])[:, :, 0].masked_fill(~memory.mask, -torch.inf)
        weights = affinity.softmax(dim=1)
        context = (weights[:, None] @ memory.states)[:, 0]
        return Stepped(hidden + context, _State(hidden, (context,)), weights if with_attention else None)

    def decode(self, target_in: Tensor, memory: Memory, *, with_attention: bool = False) -> Decoded:
        state, steps = self.start(memory), []
        for place in range(target_in.shape[1]):
            steps.append(self.step(target_in[:, place], memory, state, with_attention=with_attention))
            state = steps[-1].state
        hidden = torch.stack([step.hidden for step in steps], dim=1)
        if not with_attention:
            return Decoded(hidden, None)
        return Decoded(hidden, torch.stack([step.attention for step in steps], dim=1)[:, None, None])


def find(
    model: Seq2SeqModel,
    source: Tensor,
    *,
    limit: int = 8,
    keys: Sequence[tuple[int, ...]] | None = None,
    prefixes: Sequence[tuple[int, ...]] | None = None,
    **options: Any,
) -> list[list[Hypothesis]]:
    """Search for padded rows; `limit` is the longest output with EOS, unless `options` speak of lengths."""
    keys = keys or [(row,) for row in range(len(source))]
    prefixes = prefixes or [()] * len(source)
    ids = [[token for token in row if token not in (EOS, PAD)] for row in source.tolist()]
    sentences = [Sentence(*parts) for parts in zip(ids, prefixes, [()] * len(ids), keys, strict=True)]
    given = {"max_length_ratio": 0.0, "max_length_offset": limit - 1, **options}
    return search(model.eval(), source, sentences, SearchOptions(**given))


def random_source(count: int, size: int, seed: int, longest: int = 6) -> Tensor:
    """Padded rows of random tokens with EOS."""
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=draws)
    source = torch.randint(UNK, size, (count, longest + 1), generator=draws)
    places = torch.arange(longest + 1)
    source[places[None] == lengths[:, None]] = EOS
    source[places[None] > lengths[:, None]] = PAD
    return source


class LetterTokenizer(Tokenizer):
    """One token for each character of an alphabet; all else is UNK, written as ⁇ and read as UNK."""

    kind, suffix = "letters", ".txt"

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet

    @property
    def size(self) -> int:
        return 4 + len(self.alphabet)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[4 + self.alphabet.index(c) if c in self.alphabet else UNK for c in text] for text in texts]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return ["⁇" if i == UNK else self.alphabet[i - 4] for i in ids]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(self.pieces(row)) for row in ids]

    def with_tags(self, tags: Sequence[str]) -> LetterTokenizer:
        raise NotImplementedError

    def extended(self, texts: Sequence[str], most: int) -> LetterTokenizer:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        return self.alphabet.encode()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> LetterTokenizer:
        return cls(content.decode())


def letters(alphabet: str = "abcdefghij") -> TokenizerPair:
    """Both sides with one alphabet."""
    tokenizer = LetterTokenizer(alphabet)
    return TokenizerPair(tokenizer, tokenizer)
