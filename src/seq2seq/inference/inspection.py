"""What a model makes of given text: its probability, the encoder's states, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq import console
from seq2seq.config import DecodingSettings
from seq2seq.data.tokenizer import TokenizerPair
from seq2seq.inference.alignment.matrix import AttentionMatrix
from seq2seq.inference.alignment.word_alignment import AlignmentOptions, WordAligner
from seq2seq.inference.engine import inference
from seq2seq.inference.search.scoring import batches_by_length, padded, target_token_scores
from seq2seq.inference.text.reading import visible_ids
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokens import EOS


class Encoded(NamedTuple):
    """The encoder's view of some texts, for use downstream."""

    states: Float[Tensor, "B S D"]
    """Zero at padding; the last real position of each row is the end mark."""
    mask: Bool[Tensor, "B S"]
    """True at real tokens."""


class Scored(NamedTuple):
    """The probability of one target text, given its source."""

    log_probability: float
    """Natural log of P(target | source), the end mark included."""
    length: int
    """Target tokens, the end mark included."""
    pieces: list[str]
    """Of the target, without the end mark."""
    token_scores: tuple[float, ...]
    """log P of each piece and of the end mark; they sum to `log_probability`."""


class Inspector:
    """A model with its tokenizers, for text that is given. Texts beyond the model's limit are cut, with a warning.

    The model is put in eval mode for each call, and back.
    """

    def __init__(
        self, model: Seq2SeqModel, tokenizers: TokenizerPair, settings: DecodingSettings, device: torch.device
    ) -> None:
        self.model, self.tokenizers, self.settings, self.device = model, tokenizers, settings, device

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Scored]:
        """How likely the model finds each (source, target)."""
        longest_source, longest_target = self.model.max_source_length, self.model.max_target_length
        sources = self._cut(visible_ids(self.tokenizers.source.encode, [s for s, _ in pairs]), longest_source, "source")
        targets = self._cut(visible_ids(self.tokenizers.target.encode, [t for _, t in pairs]), longest_target, "target")
        scores = [Scored(0.0, 0, [], ())] * len(pairs)
        lengths = [max(len(source), len(target)) + 1 for source, target in zip(sources, targets, strict=True)]
        with inference(self.model, self.device):
            for batch in batches_by_length(lengths, self.settings.batch_tokens):
                source = self._source([sources[i] for i in batch])
                found = target_token_scores(self.model, source, [targets[i] for i in batch])
                for index, values in zip(batch, found, strict=True):
                    pieces = self.tokenizers.target.pieces(targets[index])
                    scores[index] = Scored(sum(values), len(values), pieces, values)
        return scores

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The encoder's states and mask, one row for each text, on the model's device.

        A blank text is an end mark alone.
        """
        rows = self._cut(visible_ids(self.tokenizers.source.encode, texts), self.model.max_source_length, "text")
        if not rows:
            return Encoded(torch.zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.bool))
        longest = max(len(row) for row in rows) + 1
        states: Tensor | None = None
        mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=self.device)
        with inference(self.model, self.device):
            for batch in batches_by_length([len(row) + 1 for row in rows], self.settings.batch_tokens):
                memory = self.model.encode(self._source([rows[i] for i in batch]))
                places, length = torch.tensor(batch, device=self.device), memory.states.shape[1]
                if states is None:
                    states = memory.states.new_zeros(len(rows), longest, memory.states.shape[2])
                states[places, :length] = memory.states
                mask[places, :length] = memory.mask
        assert states is not None
        return Encoded(states, mask)

    def attention(self, source: str, target: str) -> AttentionMatrix:
        """What the decoder attends to while it writes `target`, in the layer that aligns best.

        Rows are target pieces, columns source pieces, both with the end mark last. Raises `UsageError` for a model
        without attention.
        """
        aligner = WordAligner(self.model, self.tokenizers, self.settings, self.device)
        return aligner.attention([(source, target)])[0].matrix(AlignmentOptions(), words=False)

    def _cut(self, rows: list[list[int]], limit: int | None, name: str) -> list[list[int]]:
        """Rows that leave room for the end mark within the model's limit."""
        if limit is None:
            return rows
        for number, row in enumerate(rows, start=1):
            if len(row) >= limit:
                console.warn(f"{name} {number}: {len(row)} tokens, cut to the {limit - 1} that the model can take")
        return [row[: limit - 1] for row in rows]

    def _source(self, rows: Sequence[Sequence[int]]) -> Int[Tensor, "B S"]:
        return padded([[*row, EOS] for row in rows], self.device)
