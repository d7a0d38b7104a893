"""A run that is served: its languages, and the translation of sentences in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from seq2seq.alignment.word_alignment import AlignmentOptions, WordAligner
from seq2seq.decoding.segmentation import split_sentences, split_to_fit
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translation import Translation
from seq2seq.decoding.translator import TranslationOptions
from seq2seq.errors import UsageError
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.serving.batcher import Batcher, RequestOptions, Text
from seq2seq.serving.limits import Limits
from seq2seq.serving.requested_text import RequestedText, read_html, read_text

_ROUND_TOKENS = 4096
"""Tokens of a round: some tenths of a second, after which the next requests have their turn."""


class Scored(NamedTuple):
    """A translation of a sentence, with its score and log probability; None for a sentence that was copied."""

    text: str
    score: float | None
    log_probability: float | None


class Attention(NamedTuple):
    """Attention between words: row j are the weights of the source words for target word j; ends are left out."""

    source: list[str]
    target: list[str]
    weights: list[list[float]]

    def links(self) -> list[tuple[int, int]]:
        """Each target word with the source word of the highest weight."""
        return [(max(range(len(row)), key=row.__getitem__), number) for number, row in enumerate(self.weights) if row]


class Translated(NamedTuple):
    """The translations of a sentence, best first."""

    translations: list[Scored]
    attention: Attention | None = None
    """Of the best one; None if it was not asked for, or there is none."""

    @classmethod
    def copied(cls, text: str) -> Translated:
        """A sentence that stays as it is."""
        return cls([Scored(text, None, None)])


class Direction(NamedTuple):
    """A pair of languages that a run translates."""

    source: str
    target: str
    run: ServedRun
    tag: str
    """The target tag and a space that begin each source sentence; empty for a run of one target language."""

    @property
    def name(self) -> str:
        """Such as `en-de`."""
        return f"{self.source}-{self.target}"


class ServedRun:
    """A loaded run behind a batcher.

    Args:
        loaded: the run. Its own translator is not used further.
        options: search, glossary and kept text of every translation.
        limits: the server's.
    """

    def __init__(self, loaded: LoadedRun, options: TranslationOptions, limits: Limits) -> None:
        self.loaded, self.options = loaded, options
        own = loaded.translator
        parallelism = own.parallelism._replace(always_fork=own.parallelism.processes > 1, many_texts=True)
        self.translator = own.replaced(parallelism=parallelism)
        self._aligner: WordAligner | None = None
        with suppress(UsageError):  # an export
            self._aligner = loaded.aligner()
        longest = own.engine.max_source_length
        self._longest = min(own.settings.max_source_tokens, max(2, longest) - 1 if longest else 1 << 30)
        self.batcher = Batcher(self._translate, max_tokens=_ROUND_TOKENS, max_waiting=limits.waiting)

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.loaded.directory.path.name

    def directions(self) -> list[Direction]:
        """The pairs of languages: one for each target tag, else the languages of the data."""
        data, tags = self.loaded.config.data, self.loaded.target_tags
        if not tags.tags:
            return [Direction(data.source_language, data.target_language, self, "")]
        return [Direction(data.source_language, tags.language(tag), self, f"{tag} ") for tag in tags.tags]

    def warm_up(self) -> None:
        """Translate a text, which loads compiled code and forks the worker processes.

        To be called before other threads exist, which a fork would not copy.
        """
        self._translate(["."], RequestOptions())

    def start(self) -> None:
        """See `Batcher.start`."""
        self.batcher.start()

    def close(self) -> None:
        """End the batcher's thread and the worker processes."""
        self.batcher.close()
        self.translator.close()

    def read(self, text: str, tag: str, *, is_html: bool) -> RequestedText:
        """The sentences of a text, none longer than the model reads."""
        split = partial(self._split, tag)
        if not is_html:
            return read_text(text, split)
        language = self.loaded.target_tags.language(tag) or self.loaded.config.data.target_language
        return read_html(text, split, inline_tags=self.loaded.aligns_words(language))

    def admit(self) -> None:
        """See `Batcher.admit`."""
        self.batcher.admit()

    def submit(self, sentences: Sequence[str], tag: str, wanted: RequestOptions) -> Future[list[Translated]]:
        """See `Batcher.submit`."""
        texts = [tag + sentence for sentence in sentences]
        return self.batcher.submit(list(map(Text, texts, self._lengths(texts))), wanted)

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) + 1 for ids in self.translator.tokenizers.source.encode(list(texts))]

    def _split(self, tag: str, line: str) -> list[str]:
        sentences = split_sentences(line, self.loaded.config.data.source_language)
        room = self._longest - (self._lengths([tag])[0] if tag else 0)
        fitting: list[str] = []
        for sentence, length in zip(sentences, self._lengths(sentences), strict=True):
            fitting += [sentence] if length <= room + 1 else split_to_fit(sentence, max(1, room), self._lengths)
        return fitting

    def _translate(self, texts: list[str], wanted: RequestOptions) -> list[Translated]:
        """The results of sentences, which have their tags."""
        lines = [Line(text) for text in texts]
        found = list(self.translator.stream(lines, self.options.with_n_best(wanted.n_best)))
        attention = self._attention(texts, [items[0] for items in found]) if wanted.attention else [None] * len(texts)
        return [
            Translated([Scored(item.text, *map(_finite, (item.score, item.log_probability))) for item in items], each)
            for items, each in zip(found, attention, strict=True)
        ]

    def _attention(self, texts: Sequence[str], best: Sequence[Translation]) -> list[Attention | None]:
        aligner = self._aligner
        if aligner is None:
            return [None] * len(texts)
        try:
            # One pair at a time: oneDNN keeps code for every shape, of which batches have thousands (a gigabyte).
            found = [aligner.attention([(text, item.text)])[0] for text, item in zip(texts, best, strict=True)]
        except UsageError:  # a model without attention
            self._aligner = None
            return [None] * len(texts)
        rows: list[Attention | None] = []
        for pair, item in zip(found, best, strict=True):
            matrix = pair.matrix(AlignmentOptions(), words=True)
            weights = [[round(weight, 3) for weight in row] for row in matrix.weights[:-1, :-1].tolist()]
            shown = Attention(matrix.source_pieces[:-1], matrix.target_pieces[:-1], weights)
            rows.append(shown if item.pieces and weights and shown.source else None)
        return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
