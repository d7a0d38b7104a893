"""Forced decoding: log-probabilities of given translations, encoder states, and the direction of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq import console
from seq2seq.config import DecodingSettings
from seq2seq.decoding.engine import inference
from seq2seq.decoding.text_batches import batches_by_length, encode_texts, padded
from seq2seq.fixed_text import is_blank
from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.special_tokens import BOS, EOS
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair


class EncodedTexts(NamedTuple):
    """Encoder states of texts."""

    states: Float[Tensor, "B S D"]
    """Zero at padding; the last token of each row is the end mark."""
    mask: Bool[Tensor, "B S"]
    """True at tokens, False at padding."""


class TargetScore(NamedTuple):
    """Log-probability of a target text, given its source."""

    log_probability: float
    """Natural log of P(target | source), the end mark included."""
    length: int
    """Target tokens, the end mark included."""
    pieces: list[str]
    """Subword pieces of the target, without the end mark."""
    token_scores: tuple[float, ...]
    """log P of each piece and of the end mark; they sum to `log_probability`."""


class Scorer:
    """Forced decoding with a model and its tokenizers.

    Texts that are too long for the model are truncated, with a warning. The model is in eval mode during a call only.
    """

    def __init__(
        self, model: Seq2SeqModel, tokenizers: TokenizerPair, settings: DecodingSettings, device: torch.device
    ) -> None:
        self.model, self.tokenizers, self.settings, self.device = model, tokenizers, settings, device

    def score(self, pairs: Sequence[tuple[str, str]], *, start: int = 0) -> list[TargetScore]:
        """The log-probability of the target of each (source, target) pair; a blank target is an end mark alone.

        `start` is the number of pairs before these, for warnings.
        """
        source, target = self.tokenizers
        sources = self._encode(source, [text for text, _ in pairs], self.model.max_source_length, "source", start)
        targets = self._encode(target, [text for _, text in pairs], self.model.max_target_length, "target", start)
        scores = [TargetScore(0.0, 0, [], ())] * len(pairs)
        lengths = [max(len(source), len(target)) + 1 for source, target in zip(sources, targets, strict=True)]
        with inference(self.model, self.device):
            for batch in batches_by_length(lengths, self.settings.batch_tokens):
                source_ids = self._padded([sources[i] for i in batch])
                token_scores = target_token_scores(self.model, source_ids, [targets[i] for i in batch])
                for index, values in zip(batch, token_scores, strict=True):
                    pieces = target.pieces(targets[index])
                    scores[index] = TargetScore(sum(values), len(values), pieces, values)
        return scores

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Encoder states and mask, a row for each text, on the model's device; a blank text is an end mark alone."""
        rows = self._encode(self.tokenizers.source, texts, self.model.max_source_length, "text")
        if not rows:
            blank = self.encode([""])
            return EncodedTexts(blank.states[:0, :0], blank.mask[:0, :0])
        longest = max(len(row) for row in rows) + 1
        states: Tensor | None = None
        mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=self.device)
        with inference(self.model, self.device):
            for batch in batches_by_length([len(row) + 1 for row in rows], self.settings.batch_tokens):
                memory = self.model.encode(self._padded([rows[i] for i in batch]))
                indices, length = torch.tensor(batch, device=self.device), memory.states.shape[1]
                if states is None:
                    states = memory.states.new_zeros(len(rows), longest, memory.states.shape[2])
                states[indices, :length] = memory.states
                mask[indices, :length] = memory.mask
        assert states is not None
        return EncodedTexts(states, mask)

    @staticmethod
    def _encode(
        tokenizer: Tokenizer, texts: Sequence[str], limit: int | None, name: str, start: int = 0
    ) -> list[list[int]]:
        """Token ids of the texts, truncated to the model's limit, which counts the end mark."""
        rows = encode_texts(tokenizer.encode, texts)
        if limit is None:
            return rows
        for number, row in enumerate(rows, start=start + 1):
            if len(row) >= limit:
                console.warn(f"{name} {number}: {len(row)} tokens, cut to the {limit - 1} that the model can take")
        return [row[: limit - 1] for row in rows]

    def _padded(self, rows: Sequence[Sequence[int]]) -> Int[Tensor, "B S"]:
        return padded([[*row, EOS] for row in rows], self.device)


_POSITIONS_AT_ONCE = 2048
"""Positions projected to the vocabulary at a time, which bounds the memory."""


def target_token_scores(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], targets: Sequence[Sequence[int]]
) -> list[tuple[float, ...]]:
    """Natural log of P(token | source, tokens before it) for each target, EOS last, as the search computes them.

    `targets` hold neither BOS nor EOS.
    """
    target_in = padded([[BOS, *target] for target in targets], source.device)
    target_out = padded([[*target, EOS] for target in targets], source.device)
    hidden = model(source, target_in)
    lengths = [len(target) + 1 for target in targets]
    columns = torch.arange(target_out.shape[1], device=source.device)
    real = columns < torch.tensor(lengths, device=source.device)[:, None]
    hidden, tokens = hidden[real], target_out[real]
    parts = []
    for begin in range(0, len(tokens), _POSITIONS_AT_ONCE):
        some = slice(begin, begin + _POSITIONS_AT_ONCE)
        scores = log_probabilities(model, hidden[some])
        parts.append(scores.gather(1, tokens[some, None])[:, 0].cpu().double())
    return [tuple(scores.tolist()) for scores in torch.split(torch.cat(parts), lengths)]


_PAIRS, _MAX_CHARACTERS, _MIN_TOKENS = 20, 300, 20
_CLEAR = 1.0
"""Nats per token; the directions of trained models differ by six to eight, those of equal texts by none."""


def translates_forward(scorer: Scorer, pairs: Iterable[tuple[str, str]]) -> bool | None:
    """Whether the model translates sources to targets (True) or targets to sources (False); None if it is not clear.

    It is the direction in which the log-probability per token of the first short pairs is higher.
    """
    short = (pair for pair in pairs if all(not is_blank(text) and len(text) <= _MAX_CHARACTERS for text in pair))
    forward = list(islice(short, _PAIRS))
    means = []
    for direction in (forward, [(target, source) for source, target in forward]):
        scores = scorer.score(direction)
        tokens = sum(score.length for score in scores)
        if tokens < _MIN_TOKENS:
            return None
        means.append(sum(score.log_probability for score in scores) / tokens)
    difference = means[0] - means[1]
    return difference > 0 if abs(difference) > _CLEAR else None
