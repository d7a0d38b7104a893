"""Word alignments from the cross-attention of a model under forced decoding.

Weights are summed over the pieces of a source word and averaged over those of a target word; each target word is linked
to the source word with the highest weight. The weights of a target piece are those of the step that writes it, or
(`shift`) of the next step, at which the piece is the input of the decoder (Chen et al. 2020, "Accurate Word Alignment
Induction from Neural Machine Translation").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq import console
from seq2seq.alignment.matrix import AttentionMatrix
from seq2seq.alignment.words import Segmenter, Segments
from seq2seq.config import DecodingSettings
from seq2seq.decoding.engine import inference
from seq2seq.decoding.text_batches import batches_by_length, padded
from seq2seq.decoding.unknown_words import no_attention_error
from seq2seq.errors import ResourceError, UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, SPECIAL_TOKENS
from seq2seq.tokenizers.pair import TokenizerPair

Alignment = tuple[tuple[int, int], ...]
"""Sorted links (source word, target word), counted from 0."""

_MAX_POSITIONS = 2**20
"""Maximum target times source positions of a batch; there are about ten weights (layers x heads) for each."""


class AlignmentOptions(NamedTuple):
    """Attention weights that are read."""

    layer: int | None = None
    """Decoder layer, counted from 1; None is the mean of all, which is as good as the best layer."""
    head: int | None = None
    """Head, counted from 1; None is the mean of all."""
    shift: bool = False
    """Use the step after the one that writes a piece."""


class PairAttention(NamedTuple):
    """Cross-attention weights of all layers and heads for a pair of texts."""

    source: Segments
    target: Segments
    weights: Float[Tensor, "L H T S"]
    """Row t are the weights of the step that writes target piece t, the last row those of the end mark; the last column
    is the source's end mark. Rows sum to 1."""

    def chosen(self, options: AlignmentOptions) -> Float[Tensor, "T S"]:
        """The weights of the layer and head of `options`, or means.

        With `shift`, the row of a piece is that of the next step; the end mark keeps its own.

        Raises:
            UsageError: an unknown layer or head.
        """
        weights = _one_or_mean(_one_or_mean(self.weights, options.layer, "layer"), options.head, "head")
        return torch.cat([weights[1:], weights[-1:]]) if options.shift else weights

    def matrix(self, options: AlignmentOptions, *, words: bool) -> AttentionMatrix:
        """The chosen weights over pieces or words, with the end marks last on both sides. Rows sum to 1."""
        weights, end = self.chosen(options), SPECIAL_TOKENS[EOS]
        if not words:
            return AttentionMatrix([*self.source.pieces, end], [*self.target.pieces, end], weights)
        rows, columns = _with_end(_parts(self.target.shares)), _with_end(self.source.shares)
        source, target = (side.words[: side.shares.shape[1]] for side in (self.source, self.target))
        return AttentionMatrix([*source, end], [*target, end], rows.T @ weights @ columns)

    def links(self, options: AlignmentOptions) -> Alignment:
        """Each target word with the source word of the highest weight."""
        if not self.source.words or not self.target.words:
            return ()
        weights = self.matrix(options, words=True).weights[:-1, :-1]
        most, best = weights.max(dim=1)
        links = zip(best.tolist(), range(len(best)), most.tolist(), strict=True)
        # Words beyond the length limit have no attention.
        return tuple(sorted((i, j) for i, j, weight in links if weight > 0))


class WordAligner:
    """Aligns pairs of texts with a model and its tokenizers. The model is in eval mode during a call only."""

    def __init__(
        self, model: Seq2SeqModel, tokenizers: TokenizerPair, settings: DecodingSettings, device: torch.device
    ) -> None:
        self.model, self.settings, self.device = model, settings, device
        self._source = Segmenter(tokenizers.source)
        self._target = self._source if tokenizers.joint else Segmenter(tokenizers.target)

    def align(
        self, pairs: Sequence[tuple[str, str]], options: AlignmentOptions | None = None, *, start: int = 0
    ) -> list[Alignment]:
        """The links of each (source, target) pair; none if a side is blank.

        Words are separated by ASCII white space. `start` is the number of pairs before these, for warnings. Raises as
        `attention`, and `UsageError` for an unknown layer or head.
        """
        alignments: list[Alignment] = [()] * len(pairs)
        for index, attention in self._attend(pairs, start):
            alignments[index] = attention.links(options or AlignmentOptions())
        return alignments

    def align_sentences(self, texts: Sequence[Sequence[tuple[str, str]]]) -> list[Alignment]:
        """The links of texts that are given as pairs of sentences; their words are numbered through. Raises as `align`.

        A model of sentences aligns several at once badly, and a long text beyond its limits not at all.
        """
        pairs = [pair for text in texts for pair in text]
        aligned = {
            index: (found.links(AlignmentOptions()), len(found.source.words), len(found.target.words))
            for index, found in self._attend(pairs)
        }
        sentences = map(aligned.__getitem__, range(len(pairs)))
        alignments: list[Alignment] = []
        for text in texts:
            links: list[tuple[int, int]] = []
            before = other_before = 0
            for found, words, other_words in islice(sentences, len(text)):
                links += [(before + i, other_before + j) for i, j in found]
                before += words
                other_before += other_words
            alignments.append(tuple(links))
        return alignments

    def attention(self, pairs: Sequence[tuple[str, str]]) -> list[PairAttention]:
        """The weights of each (source, target) pair, on the CPU. A blank text is an end mark alone.

        Texts beyond the model's limits, or beyond `decoding.max_source_tokens`, are truncated with a warning.

        Raises:
            UsageError: the model has no attention.
            ResourceError: out of memory.
        """
        attention = dict(self._attend(pairs))
        return [attention[index] for index in range(len(pairs))]

    def within_limits(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The pairs whose texts `attention` does not truncate."""
        sources = self._source.segment([source for source, _ in pairs], self._limit(self.model.max_source_length))
        targets = self._target.segment([target for _, target in pairs], self._limit(self.model.max_target_length))
        return [pair for pair, *sides in zip(pairs, sources, targets, strict=True) if not any(s.cut for s in sides)]

    def _attend(self, pairs: Sequence[tuple[str, str]], start: int = 0) -> Iterator[tuple[int, PairAttention]]:
        source, target = self.model.max_source_length, self.model.max_target_length
        sources = self._segments(self._source, [pair[0] for pair in pairs], source, "source", start)
        targets = self._segments(self._target, [pair[1] for pair in pairs], target, "target", start)
        lengths = [max(len(s.ids), len(t.ids)) + 1 for s, t in zip(sources, targets, strict=True)]
        for batch in batches_by_length(lengths, self.settings.batch_tokens):
            longest = lengths[batch[0]]
            size = max(1, _MAX_POSITIONS // longest**2)
            for begin in range(0, len(batch), size):
                some = batch[begin : begin + size]
                weights = self._weights([sources[i].ids for i in some], [targets[i].ids for i in some])
                for row, i in enumerate(some):
                    rows, columns = len(targets[i].ids) + 1, len(sources[i].ids) + 1
                    yield i, PairAttention(sources[i], targets[i], weights[row, :, :, :rows, :columns])

    def _segments(
        self, segmenter: Segmenter, texts: Sequence[str], longest: int | None, side: str, start: int
    ) -> list[Segments]:
        limit = self._limit(longest)
        segments = segmenter.segment(texts, limit)
        for number, found in enumerate(segments, start=start + 1):
            if found.cut:
                console.warn(f"{side} {number}: more than {limit} tokens; words beyond them are not aligned")
        return segments

    def _limit(self, longest: int | None) -> int:
        limit = self.settings.max_source_tokens
        return limit if longest is None else max(1, min(limit, longest - 1))

    def _weights(self, sources: list[list[int]], targets: list[list[int]]) -> Float[Tensor, "B L H T S"]:
        try:
            with inference(self.model, self.device):
                memory = self.model.encode(padded([[*row, EOS] for row in sources], self.device))
                target_in = padded([[BOS, *row] for row in targets], self.device)
                weights = self.model.decode(target_in, memory, with_attention=True).attention
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"out of memory with the attention of {len(sources)} pairs at once",
                hint=f"decoding.batch_tokens={max(1, self.settings.batch_tokens // 2)}",
                code="memory.translating",
            ) from error
        if weights is None:
            raise no_attention_error("this model has no attention to show")
        return weights.float().cpu()


def pharaoh(alignment: Alignment) -> str:
    """An alignment in the Pharaoh format, e.g. `0-0 1-2`: source word, target word."""
    return " ".join(f"{i}-{j}" for i, j in alignment)


def _one_or_mean(weights: Tensor, number: int | None, name: str) -> Tensor:
    if number is None:
        return weights.mean(dim=0)
    count = len(weights)
    if not 1 <= number <= count:
        what = f"{count} {name}s" if count > 1 else f"one {name}"
        raise UsageError(
            f"no {name} {number}: the model has {what} of attention",
            where=f"--{name}",
            hint=f"--{name} 1{f' to {count}' if count > 1 else ''}, or mean",
            code="usage.picture",
        )
    return weights[number - 1]


def _parts(shares: Float[Tensor, "P W"]) -> Float[Tensor, "P W"]:
    """Share of each piece in each word: columns sum to 1, or to 0 for a word without pieces."""
    return shares / shares.sum(dim=0).clamp_min(1e-9)


def _with_end(shares: Float[Tensor, "P W"]) -> Float[Tensor, "P+1 W+1"]:
    """The shares with the end mark as another piece and word."""
    wider = shares.new_zeros(shares.shape[0] + 1, shares.shape[1] + 1)
    wider[:-1, :-1] = shares
    wider[-1, -1] = 1.0
    return wider
