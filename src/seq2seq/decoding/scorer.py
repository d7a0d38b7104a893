"""Forced decoding: log-probabilities of given texts, encoder states, and the direction that a model translates in."""

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
from seq2seq.decoding.segmentation import is_blank
from seq2seq.decoding.text_batches import batches_by_length, padded, visible_ids
from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.special_tokens import BOS, EOS
from seq2seq.tokenizers.pair import TokenizerPair


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


class Scorer:
    """Forced decoding with one model and its tokenizers. Texts beyond the model's limit are cut, with a warning.

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


_POSITIONS_AT_ONCE = 2048


def target_token_scores(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], targets: Sequence[Sequence[int]]
) -> list[tuple[float, ...]]:
    """Natural log of P(token | source, tokens before it) for each target, the last one of EOS.

    `targets` hold neither BOS nor EOS. The same figures as the search's. Only some positions at a time are projected to
    the vocabulary.
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


def target_log_probabilities(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], targets: Sequence[Sequence[int]]
) -> Float[Tensor, " B"]:
    """Natural log of P(target, EOS | source) for each pair, as float64 on the CPU: sums of `target_token_scores`."""
    sums = [sum(scores) for scores in target_token_scores(model, source, targets)]
    return torch.tensor(sums, dtype=torch.float64)


_PAIRS = 20
_LONGEST = 300
"""Characters of a text that is looked at."""
_FEWEST_TOKENS = 20
_CLEAR = 1.0
"""Nats a token; trained models differ by six to eight, the same text on both sides by none."""


def writes_target(scorer: Scorer, pairs: Iterable[tuple[str, str]]) -> bool | None:
    """Whether the model makes targets of sources (True) or sources of targets (False); None where that is not clear.

    It is the direction in which the first pairs are likelier for each token written.
    """
    usable = (pair for pair in pairs if all(not is_blank(text) and len(text) <= _LONGEST for text in pair))
    some = list(islice(usable, _PAIRS))
    forward, backward = scorer.score(some), scorer.score([(target, source) for source, target in some])
    lengths = [sum(item.length for item in found) for found in (forward, backward)]
    if min(lengths) < _FEWEST_TOKENS:
        return None
    means = [
        sum(item.log_probability for item in found) / length
        for found, length in zip((forward, backward), lengths, strict=True)
    ]
    difference = means[0] - means[1]
    return difference > 0 if abs(difference) > _CLEAR else None
