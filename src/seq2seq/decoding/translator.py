"""Text in, text out, line for line: tokenizer -> batches -> engine -> text in the old order."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import NamedTuple

import torch

from seq2seq.config import DecodingSettings
from seq2seq.decoding.glossary import Glossary
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence, Words
from seq2seq.decoding.mbr import MinimumRisk, Risk
from seq2seq.decoding.pool import Crew, Job, Kept, Pool, open_pool
from seq2seq.decoding.scorer import Scorer
from seq2seq.decoding.segmentation import join_sentences, single_line, whole_words
from seq2seq.decoding.text_batches import Line, Part, Split, fill_batches, read_parts, windows
from seq2seq.decoding.unknown_words import replace_unknowns
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokenizers.pair import TokenizerPair

# Those who work side by side take so much of their even share of what is left of a text at a time, to end together.
_SHARE = 0.75
# Calls for a short text of an engine that makes its own batches: text is made of some while it computes others.
_CALLS = 4


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
    token_scores: tuple[float, ...] | None = None
    """On request: log P of each piece and of the end mark; of several parts one after the other."""
    cut: bool = False
    """True where the maximum length put the end."""


class TranslationOptions(NamedTuple):
    """How to translate; the same for all lines of a call."""

    search: SearchOptions
    split: Split | None = None
    """How a paragraph (a line) is split into the sentences that are translated one by one and joined again."""
    glossary: Glossary | None = None
    """What it says of a line occurs in the translation."""
    risk: Risk | None = None
    """Of many samples take the one most like all others, instead of the likeliest."""
    replace_unknown: bool = False
    """Put the source word with most attention in the place of an unknown one."""


def search_options(settings: DecodingSettings) -> SearchOptions:
    """The search that a run's settings ask for."""
    return SearchOptions(
        beam_size=settings.beam_size,
        length_penalty=settings.length_penalty,
        max_length_ratio=settings.max_length_ratio,
        max_length_offset=settings.max_length_offset,
        min_length_ratio=settings.min_length_ratio,
    )


class _Window:
    """Lines on their way through the pool."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.jobs: deque[tuple[list[Part], Job]] = deque()
        self.found: dict[tuple[int, int], list[Translation]] = {}


class Translator:
    """An engine with tokenizers and settings: `translate`, `stream` and `windows`.

    Processes that translate side by side are kept for the next text, until `close` or the translator's end.
    `scorer` looks at the engine's own model, where it has one. `outputs_cut` counts the lines whose best output met
    the maximum length, since the translator was made.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizers: TokenizerPair,
        settings: DecodingSettings,
        *,
        scorer: Scorer | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.engine, self.tokenizers, self.settings = engine, tokenizers, settings
        self.crew = crew or Crew()
        self.outputs_cut = 0
        self._words: Words | None = None
        self._inspector = scorer
        self._kept = Kept(engine, self.crew)
        weakref.finalize(self, self._kept.close)

    @property
    def scorer(self) -> Scorer:
        """Scores, states and attention. Raises `UsageError` where the engine hides its model."""
        if self._inspector is None:
            raise UsageError(
                "this engine does not show its model",
                hint="give the run itself, not an export of it; to `translate`, --engine native",
                code="export.unsupported",
            )
        return self._inspector

    @property
    def model(self) -> Seq2SeqModel:
        """The engine's own model. Raises `UsageError` where it hides it."""
        return self.scorer.model

    @property
    def device(self) -> torch.device:
        """Where the model lies. Raises `UsageError` where the engine hides it."""
        return self.scorer.device

    def close(self) -> None:
        """End the processes that wait for more text; the translator can still be used."""
        self._kept.close()

    def translate(
        self, texts: Sequence[str], *, beam_size: int | None = None, length_penalty: float | None = None
    ) -> list[str]:
        """The best translation of each text. Raises `UsageError` for impossible settings."""
        changes = {"beam_size": beam_size, "length_penalty": length_penalty}
        settings = self.settings.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return [found[0].text for found in self.stream(texts, TranslationOptions(search_options(settings)))]

    def stream(
        self, lines: Iterable[str | Line], options: TranslationOptions | None = None
    ) -> Iterator[list[Translation]]:
        """For each line, in order, its translations, best first (an empty one for a blank line).

        A line that is longer than the model reads is translated in parts, with a warning; its k-th translation joins
        the k-th of each part.

        Raises:
            UsageError: impossible settings.
            ResourceError: memory ran out.
            WorkerError: a process that translates died.
        """
        return chain.from_iterable(self.windows(lines, options))

    def windows(
        self, lines: Iterable[str | Line], options: TranslationOptions | None = None, *, number: int = 0
    ) -> Iterator[list[list[Translation]]]:
        """The same for some `crew.lines` at a time; `number` is that of the first, counted from 0.

        Where a window begins follows from the lines and the crew alone. The next one is read while one is translated.
        """
        options = options or TranslationOptions(search_options(self.settings))
        typed = (Line(line) if isinstance(line, str) else line for line in lines)
        ready = windows(typed, self.crew.lines)
        first = next(ready, None)
        if first is None:
            return
        with self._pool(options, sum(len(line.text) for line in first)) as pool:
            waiting: deque[_Window] = deque()
            for window in chain([first], ready):
                waiting.append(self._begin(pool, window, number, options))
                number += len(window)
                if len(waiting) > pool.ahead:
                    yield self._finish(waiting.popleft(), options)
            while waiting:
                yield self._finish(waiting.popleft(), options)

    def _pool(self, options: TranslationOptions, characters: int) -> AbstractContextManager[Pool]:
        if options.risk is None:
            return self._kept.open(characters)
        return open_pool(MinimumRisk(self.engine, self.tokenizers.target, options.risk), self.crew, characters)

    def _begin(self, pool: Pool, lines: Sequence[Line], number: int, options: TranslationOptions) -> _Window:
        """Hand the parts of these lines to the pool, `number` that of the first line."""
        limit = self.settings.max_source_tokens
        if self.engine.max_source_length is not None:
            limit = max(1, min(limit, self.engine.max_source_length - 1))
        parts = read_parts(lines, number, self.tokenizers.source.encode, limit, options.split)
        window = _Window(len(lines))
        search = options.search._replace(with_attention=options.search.with_attention or options.replace_unknown)
        if options.glossary or any(line.prefix for line in lines):
            self._words = self._words or whole_words(self.tokenizers.target)
            search = search._replace(words=self._words)
        most, is_last = self.crew.sentences, len(lines) < self.crew.lines
        if most:
            batches = fill_batches(parts, len(lines), most * limit, min(most, -(-len(lines) // _CALLS)))
        else:
            limits = self.settings.batch_tokens, self.settings.batch_sentences
            shares = _SHARE / pool.parallel if pool.parallel > 1 and is_last else 0.0
            batches = fill_batches(parts, len(lines), *limits, shares)
        for batch in batches:
            prefixes = self._prefixes(lines, batch)
            sentences = [
                Sentence(
                    part.ids,
                    prefix=tuple(prefix),
                    phrases=options.glossary.phrases(part.text) if options.glossary else (),
                    key=(number + part.line, part.number),
                )
                for part, prefix in zip(batch, prefixes, strict=True)
            ]
            window.jobs.append((batch, pool.submit(sentences, search)))
        return window

    def _prefixes(self, lines: Sequence[Line], batch: Sequence[Part]) -> list[list[int]]:
        """Only the first part of a line begins with its prefix."""
        texts = ["" if part.number else lines[part.line].prefix.strip() for part in batch]
        return self.tokenizers.target.encode(texts) if any(texts) else [[]] * len(batch)

    def _finish(self, window: _Window, options: TranslationOptions) -> list[list[Translation]]:
        """The translations of a window's lines, as soon as they are there."""
        while window.jobs:
            batch, job = window.jobs.popleft()
            for part, hypotheses in zip(batch, job.result(), strict=True):
                window.found[part.line, part.number] = self._texts(part, hypotheses, options)
        lines = []
        for place in range(window.lines):
            parts: list[list[Translation]] = []
            while found := window.found.pop((place, len(parts)), None):
                parts.append(found)
            self.outputs_cut += any(found[0].cut for found in parts)
            lines.append(_joined(parts, options.search.length_penalty))
        return lines

    def _texts(self, part: Part, found: Sequence[Hypothesis], options: TranslationOptions) -> list[Translation]:
        target = self.tokenizers.target
        if options.replace_unknown:
            texts = [replace_unknowns(self.tokenizers, part.text, item.tokens, item.attention) for item in found]
        else:
            texts = target.decode([item.tokens for item in found])
        return [
            Translation(
                single_line(text),
                item.score,
                item.log_probability,
                target.pieces(item.tokens),
                item.token_scores,
                item.cut,
            )
            for text, item in zip(texts, found, strict=True)
        ]


def _joined(parts: Sequence[Sequence[Translation]], alpha: float) -> list[Translation]:
    """The k-th translations of all parts as one, scored as one; an empty one for no parts."""
    if not parts:
        return [Translation("", 0.0, 0.0, [])]
    if len(parts) == 1:
        return list(parts[0])
    translations = []
    for rank in range(max(len(found) for found in parts)):
        chosen = [found[min(rank, len(found) - 1)] for found in parts]
        total = sum(item.log_probability for item in chosen)
        length = sum(len(item.pieces) + 1 for item in chosen)
        scores = [item.token_scores for item in chosen if item.token_scores is not None]
        translations.append(
            Translation(
                join_sentences([item.text for item in chosen]),
                total / length**alpha,
                total,
                [piece for item in chosen for piece in item.pieces],
                tuple(chain.from_iterable(scores)) if scores else None,
                any(item.cut for item in chosen),
            )
        )
    return translations
