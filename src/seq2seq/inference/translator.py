"""Text in, text out, line for line: tokenizer -> batches -> search -> text in the old order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq import console
from seq2seq.config import DecodingSettings
from seq2seq.data.tokenizer import TokenizerPair
from seq2seq.errors import ResourceError, UsageError
from seq2seq.inference.alignment import AttentionMatrix
from seq2seq.inference.reading import read_lines, visible_ids, windows
from seq2seq.inference.scoring import batches_by_length, padded, target_log_probabilities
from seq2seq.inference.search import Hypothesis, Sampling, search
from seq2seq.inference.text import single_line
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokens import BOS, EOS, SPECIAL_TOKENS


class Translation(NamedTuple):
    """One translation of one line."""

    text: str
    """One line: line breaks that the model writes become spaces."""
    score: float
    """log_probability / length^alpha, where length counts the end mark."""
    log_probability: float
    """Natural log of P(target | source)."""
    pieces: list[str]
    """Subword pieces of the text."""


class Encoded(NamedTuple):
    """The encoder's view of some texts, for use downstream."""

    states: Float[Tensor, "B S D"]
    """Zero at padding; the last real position of each row is the end mark."""
    mask: Bool[Tensor, "B S"]
    """True at real tokens."""


class Translator:
    """A model with its tokenizers and settings: `translate`, `stream`, `score`, `encode` and `attention`.

    The model is put in eval mode for each call, and back. `outputs_cut` counts the lines whose best output
    met the maximum length, `lines_split` those that were too long to read at once, since the translator was
    made.
    """

    def __init__(
        self, model: Seq2SeqModel, tokenizers: TokenizerPair, settings: DecodingSettings, device: torch.device
    ) -> None:
        self.model, self.tokenizers, self.settings, self.device = model, tokenizers, settings, device
        self.outputs_cut = 0
        self.lines_split = 0

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
    ) -> list[str]:
        """The best translation of each text. Raises `UsageError` for impossible settings."""
        changes = {"beam_size": beam_size, "length_penalty": length_penalty}
        settings = self.settings.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return [found[0].text for found in self.stream(texts, settings=settings, sampling=sampling)]

    def stream(
        self,
        lines: Iterable[str],
        *,
        settings: DecodingSettings | None = None,
        n_best: int = 1,
        sampling: Sampling | None = None,
    ) -> Iterator[list[Translation]]:
        """For each line, in order, its `n_best` translations (an empty one for a blank line).

        A line that is longer than the model reads is translated in parts, with a warning; its k-th
        translation joins the k-th of each part. Raises `UsageError` for impossible settings, `ResourceError`
        where memory runs out.
        """
        settings = settings or self.settings
        number = 0
        for window in windows(lines):
            yield from self._window(window, number, settings, n_best, sampling)
            number += len(window)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Natural log of P(target | source) for each (source, target), the end mark included.

        Texts beyond the model's own limit are cut, with a warning.
        """
        longest_source, longest_target = self.model.max_source_length, self.model.max_target_length
        sources = self._cut(visible_ids(self.tokenizers.source.encode, [s for s, _ in pairs]), longest_source, "source")
        targets = self._cut(visible_ids(self.tokenizers.target.encode, [t for _, t in pairs]), longest_target, "target")
        scores = [0.0] * len(pairs)
        lengths = [max(len(source), len(target)) + 1 for source, target in zip(sources, targets, strict=True)]
        with _inference(self.model, self.device):
            for batch in batches_by_length(lengths, self.settings.batch_tokens):
                source = self._source([sources[i] for i in batch])
                found = target_log_probabilities(self.model, source, [targets[i] for i in batch])
                for index, value in zip(batch, found.tolist(), strict=True):
                    scores[index] = value
        return scores

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The encoder's states and mask, one row for each text, on the translator's device.

        A blank text is an end mark alone. Texts beyond the model's own limit are cut, with a warning.
        """
        rows = self._cut(visible_ids(self.tokenizers.source.encode, texts), self.model.max_source_length, "text")
        if not rows:
            return Encoded(torch.zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.bool))
        longest = max(len(row) for row in rows) + 1
        states: Tensor | None = None
        mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=self.device)
        with _inference(self.model, self.device):
            for batch in batches_by_length([len(row) + 1 for row in rows], self.settings.batch_tokens):
                memory = self.model.encode(self._source([rows[i] for i in batch]))
                places, length = torch.tensor(batch, device=self.device), memory.states.shape[1]
                if states is None:
                    states = memory.states.new_zeros(len(rows), longest, memory.states.shape[2])
                states[places, :length] = memory.states
                mask[places, :length] = memory.mask
        assert states is not None
        return Encoded(states, mask)

    def attention(self, source: str, target: str | None = None) -> AttentionMatrix:
        """What the decoder attends to while it writes `target` (by default its own best translation).

        Rows are target pieces, columns source pieces, both with the end mark last. Raises `UsageError` for a
        model without attention.
        """
        sources = self._cut(
            visible_ids(self.tokenizers.source.encode, [source]), self.model.max_source_length, "source"
        )
        given = [""] if target is None else [target]
        targets = self._cut(visible_ids(self.tokenizers.target.encode, given), self.model.max_target_length, "target")
        with _inference(self.model, self.device):
            if target is None and sources[0]:
                targets = [self._search(sources, self.settings, 1, None, [(0, 0)])[0][0].tokens]
            memory = self.model.encode(self._source(sources))
            target_in = padded([[BOS, *targets[0]]], self.device)
            weights = self.model.decode(target_in, memory, with_attention=True).attention
        if weights is None:
            raise UsageError(
                "this model has no attention to show",
                hint="train a transformer, or a gru with model.attention: additive",
            )
        end = SPECIAL_TOKENS[EOS]
        return AttentionMatrix(
            [*self.tokenizers.source.pieces(sources[0]), end],
            [*self.tokenizers.target.pieces(targets[0]), end],
            weights[0].float().cpu(),
        )

    def _window(
        self,
        window: Sequence[str],
        number: int,
        settings: DecodingSettings,
        n_best: int,
        sampling: Sampling | None,
    ) -> list[list[Translation]]:
        """Translations of the lines from `number` (counted from 0) on."""
        limit = settings.max_source_tokens
        if self.model.max_source_length is not None:
            limit = max(1, min(limit, self.model.max_source_length - 1))
        lines = read_lines(window, number, self.tokenizers.source.encode, limit)
        self.lines_split += sum(len(parts) > 1 for parts in lines)
        jobs = [(place, part) for place, parts in enumerate(lines) for part in range(len(parts))]
        rows = [lines[place][part] for place, part in jobs]
        found: dict[tuple[int, int], list[Hypothesis]] = {}
        with _inference(self.model, self.device):
            for batch in batches_by_length([len(row) + 1 for row in rows], settings.batch_tokens):
                keys = [(number + jobs[i][0], jobs[i][1]) for i in batch]
                results = self._search([rows[i] for i in batch], settings, n_best, sampling, keys)
                found.update((jobs[i], result) for i, result in zip(batch, results, strict=True))
        translations = []
        for place, parts in enumerate(lines):
            results = [found[place, part] for part in range(len(parts))]
            self.outputs_cut += any(result[0].cut for result in results)
            translations.append(self._joined(results, settings.length_penalty))
        return translations

    def _search(
        self,
        rows: list[list[int]],
        settings: DecodingSettings,
        n_best: int,
        sampling: Sampling | None,
        keys: list[tuple[int, int]],
    ) -> list[list[Hypothesis]]:
        ratio, offset = settings.max_length_ratio, settings.max_length_offset
        try:
            return search(
                self.model,
                self._source(rows),
                beam_size=settings.beam_size,
                length_penalty=settings.length_penalty,
                max_lengths=torch.tensor([int(ratio * len(row)) + offset + 1 for row in rows]),
                n_best=n_best,
                sampling=sampling,
                sentence_keys=keys,
            )
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"out of memory with {len(rows)} lines at once and beam size {settings.beam_size}",
                hint=f"decoding.batch_tokens={max(1, settings.batch_tokens // 2)}",
            ) from error

    def _joined(self, parts: Sequence[Sequence[Hypothesis]], alpha: float) -> list[Translation]:
        """The k-th hypotheses of all parts as one translation, scored as one; an empty one for no parts."""
        if not parts:
            return [Translation("", 0.0, 0.0, [])]
        translations = []
        for rank in range(max(len(found) for found in parts)):
            chosen = [found[min(rank, len(found) - 1)] for found in parts]
            texts = self.tokenizers.target.decode([hypothesis.tokens for hypothesis in chosen])
            total = sum(hypothesis.log_probability for hypothesis in chosen)
            length = sum(len(hypothesis.tokens) + 1 for hypothesis in chosen)
            pieces = [piece for h in chosen for piece in self.tokenizers.target.pieces(h.tokens)]
            text = " ".join(text for text in map(single_line, texts) if text)
            translations.append(Translation(text, total / length**alpha, total, pieces))
        return translations

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


@contextmanager
def _inference(model: Seq2SeqModel, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradients, full precision; training goes on as it was afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        model.train(was_training)
