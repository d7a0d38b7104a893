"""Translator of text, line for line: tokenizer, batches, engine, and text again in the order of the lines."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch

from seq2seq.config import DecodingSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.forced_decoding import Scorer, TargetScore
from seq2seq.decoding.glossary import Glossary, read_glossary
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence, WordTokens
from seq2seq.decoding.kept_text import KeptText
from seq2seq.decoding.mbr import MBREngine, MBROptions
from seq2seq.decoding.segmentation import WORD, readable, single_line, word_tokens
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.decoding.text_batches import Line, More, Split, encode_chunk, make_batches, split_chunks
from seq2seq.decoding.translation import Translation, distinct, join
from seq2seq.decoding.truecasing import Truecaser
from seq2seq.decoding.unknown_words import replace_unknowns
from seq2seq.decoding.workers import Job, Parallelism, PoolCache, SearchPool, map_parts, open_pool
from seq2seq.errors import UsageError
from seq2seq.fixed_text import is_blank
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokenizers.pair import TokenizerPair

_SHARE = 0.75
"""Part of a worker's even share of the rest in batches near the end of a text, so that all workers end together."""
_MIN_CALLS = 4
"""Calls for a short text of an engine that makes its own batches, so that detokenization and search overlap."""


class TranslationOptions(NamedTuple):
    """Options of a translation; the same for all lines of a call."""

    search: SearchOptions
    split: Split | None = None
    """Splits a paragraph (a line) into sentences, which are translated one by one and joined again."""
    glossary: Glossary | None = None
    """Phrases that the translations must hold."""
    mbr: MBROptions | None = None
    """Minimum Bayes risk decoding of samples in place of a search."""
    replace_unknown: bool = False
    """Replace an unknown word by the source word with the most attention."""
    keep: tuple[str, ...] = ()
    """Text that is kept, as `decoding.keep`."""

    def with_n_best(self, n_best: int) -> TranslationOptions:
        """The same for `n_best` translations of each sentence, with a beam that is wide enough."""
        return self._replace(search=self.search._replace(n_best=n_best, beam_size=max(self.search.beam_size, n_best)))


def translation_options(
    settings: DecodingSettings,
    *,
    beam_size: int | None = None,
    n_best: int = 1,
    length_penalty: float | None = None,
    min_length_ratio: float | None = None,
    max_length_ratio: float | None = None,
    max_length: int | None = None,
    diversity: float = 0.0,
    sampling: Sampling | None = None,
    keep: Sequence[str] | None = None,
) -> TranslationOptions:
    """The translation options of a run's settings, with the given ones in place of them.

    Args:
        n_best: number of translations of a sentence; widens the beam.
        max_length: longest output in tokens, however long the source is, in place of a ratio.
    """
    ratio = settings.max_length_ratio if max_length_ratio is None else max_length_ratio
    search = SearchOptions(
        beam_size=settings.beam_size if beam_size is None else beam_size,
        length_penalty=settings.length_penalty if length_penalty is None else length_penalty,
        max_length_ratio=ratio if max_length is None else 0.0,
        max_length_offset=settings.max_length_offset if max_length is None else max_length,
        min_length_ratio=settings.min_length_ratio if min_length_ratio is None else min_length_ratio,
        sampling=sampling,
        diversity=diversity,
    )
    kinds = tuple(settings.keep if keep is None else keep)
    options = TranslationOptions(search, replace_unknown=settings.replace_unknown, keep=kinds)
    return options if n_best == 1 else options.with_n_best(n_best)


class _Chunk(NamedTuple):
    """Lines whose batches are in the pool."""

    start: int
    """Number of the first line, counted from 0."""
    lines: list[Line]
    batches: deque[tuple[list[Sentence], Job[list[list[Hypothesis]]]]]
    kept: KeptText
    search: SearchOptions

    def line(self, sentence: Sentence) -> Line:
        """The line of a sentence."""
        return self.lines[sentence.key[0] - self.start]


class Translator:
    """An engine with tokenizers and settings.

    Worker processes are kept for the next text until `close`, or until the translator is garbage collected.

    Attributes:
        languages: ISO 639-1 codes of source and target, for their letter case.
        scorer: scores, states and attention of the engine's own model.
        tags: the target tags of the source vocabulary.
        outputs_cut: number of lines so far whose best output was cut off at the maximum length.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizers: TokenizerPair,
        settings: DecodingSettings,
        *,
        scorer: Scorer | None = None,
        parallelism: Parallelism | None = None,
        languages: tuple[str, str] = ("", ""),
    ) -> None:
        self.engine, self.tokenizers, self.settings, self.languages = engine, tokenizers, settings, languages
        self.parallelism = parallelism or Parallelism()
        self.outputs_cut = 0
        self.tags = TargetTags(tuple(tokenizers.source.tags))
        self._truecaser = Truecaser(tokenizers, languages)
        self._kept: dict[tuple[tuple[str, ...], bool], KeptText] = {}
        self._scorer = scorer
        self._pools = PoolCache(engine, self.parallelism)
        weakref.finalize(self, self._pools.close)

    @property
    def scorer(self) -> Scorer:
        """The scorer. Raises `UsageError` if the engine does not give access to its model."""
        if self._scorer is None:
            raise UsageError(
                "this engine does not show its model",
                hint="give the run itself, not an export of it; to `translate`, --engine native",
                code="export.unsupported",
            )
        return self._scorer

    @property
    def model(self) -> Seq2SeqModel:
        """The engine's own model. Raises as `scorer`."""
        return self.scorer.model

    @property
    def device(self) -> torch.device:
        """The device of the model. Raises as `scorer`."""
        return self.scorer.device

    def replaced(self, *, engine: Engine | None = None, parallelism: Parallelism | None = None) -> Translator:
        """The same with another engine of the same vocabularies, or with other parallelism."""
        return Translator(
            self.engine if engine is None else engine,
            self.tokenizers,
            self.settings,
            scorer=self._scorer,
            parallelism=parallelism or self.parallelism,
            languages=self.languages,
        )

    def read_glossary(self, path: Path, *, replaces_unknown: bool = False) -> Glossary:
        """As `glossary.read_glossary`. Raises `UsageError`, too, if the engine cannot demand phrases."""
        found = read_glossary(path, self.tokenizers.target, replaces_unknown=replaces_unknown)
        if not self.engine.takes_phrases and any(entry.tokens for entry in found):
            raise UsageError(
                "an export cannot demand the phrases of a glossary",
                where="--glossary",
                hint="give the run itself, not an export of it",
                code="export.unsupported",
            )
        return found

    def close(self) -> None:
        """End the idle worker processes; the translator can still be used."""
        self._pools.close()

    def translate(self, texts: Sequence[str], *, beam_size: int | None = None) -> list[str]:
        """The best translation of each text. Raises as `stream`."""
        options = translation_options(self.settings, beam_size=beam_size)
        return [translations[0].text for translations in self.stream(texts, options)]

    def score(self, pairs: Iterable[tuple[str, str]]) -> Iterator[TargetScore]:
        """The log-probability of the target of each (source, target) pair, in order, see `Scorer.score`.

        The workers score; the pairs are read meanwhile. Raises as `scorer`, and `WorkerError` if a worker died.
        """
        scorer, size = self.scorer, self.parallelism.scored_pairs

        def parts() -> Iterator[tuple[list[tuple[str, str]], int]]:
            remaining, start = iter(pairs), 0
            while part := list(islice(remaining, size)):
                yield part, start
                start += len(part)

        def scores(part: tuple[list[tuple[str, str]], int]) -> list[TargetScore]:
            return scorer.score(part[0], start=part[1])

        return chain.from_iterable(map_parts(scores, parts(), self.parallelism))

    def stream(
        self, lines: Iterable[str | Line], options: TranslationOptions | None = None
    ) -> Iterator[list[Translation]]:
        """The translations of each line, in order, best first; a single empty one for a blank line.

        A line that is too long for the model is translated in parts, with a warning; its k-th translation joins the
        k-th of each part.

        Raises:
            UsageError: impossible settings.
            ResourceError: out of memory.
            WorkerError: a worker process died.
        """
        return chain.from_iterable(self.stream_chunks(lines, options))

    def stream_chunks(
        self,
        lines: Iterable[str | Line],
        options: TranslationOptions | None = None,
        *,
        start: int = 0,
        more: More | None = None,
    ) -> Iterator[list[list[Translation]]]:
        """As `stream`, for up to `parallelism.chunk_lines` lines at a time.

        The chunks depend on the lines and on `parallelism` alone. The next chunk is read while one is translated.

        Args:
            lines: source lines.
            options: by default the search of the translator's settings.
            start: number of the first line, counted from 0, for warnings and for the random numbers of samples.
            more: whether the next line comes in a moment. If not, the lines so far are translated before it is read.
        """
        options = options or translation_options(self.settings)
        typed = (Line(line) if isinstance(line, str) else line for line in lines)
        chunks = split_chunks(typed, self.parallelism.chunk_lines, more)
        while (first := next(chunks, None)) is not None:
            with self._pool(options, sum(len(line.text) for line in first)) as pool:
                submitted: deque[_Chunk] = deque()
                for chunk in chain([first], chunks):
                    submitted.append(self._submit(pool, chunk, start, options))
                    start += len(chunk)
                    if more is not None and not more():
                        break
                    if len(submitted) > pool.chunks_ahead:
                        yield self._finish(pool, submitted.popleft(), options)
                while submitted:
                    yield self._finish(pool, submitted.popleft(), options)

    def _pool(self, options: TranslationOptions, characters: int) -> AbstractContextManager[SearchPool]:
        if options.mbr is None:
            return self._pools.open(characters)
        return open_pool(MBREngine(self.engine, self.tokenizers.target, options.mbr), self.parallelism, characters)

    def _submit(self, pool: SearchPool, lines: list[Line], start: int, options: TranslationOptions) -> _Chunk:
        limit = self.settings.max_source_tokens
        if self.engine.max_source_length is not None:
            limit = max(1, min(limit, self.engine.max_source_length - 1))
        kept = self._kept_text(options)
        text_of = partial(self._text_of, kept=kept)
        sentences = encode_chunk(lines, start, self.tokenizers.source.encode, limit, options.split, self.tags, text_of)
        search = options.search._replace(with_attention=options.search.with_attention or options.replace_unknown)
        if options.glossary or any(line.prefix for line in lines):
            search = search._replace(words=self._word_tokens)
        full = sum(not is_blank(line.text) for line in lines)
        if size := self.parallelism.call_sentences:
            batches = make_batches(sentences, full, size * limit, min(size, -(-full // _MIN_CALLS)))
        else:
            is_last = full < self.parallelism.chunk_lines
            share = _SHARE / pool.size if pool.size > 1 and is_last else 0.0
            settings = self.settings
            batches = make_batches(sentences, full, settings.batch_tokens, settings.batch_sentences, share)
        chunk = _Chunk(start, lines, deque(), kept, search)
        for batch in batches:
            demanding = self._with_demands(batch, chunk, options.glossary)
            chunk.batches.append((batch, pool.submit(demanding, search)))
        return chunk

    def _with_demands(self, batch: list[Sentence], chunk: _Chunk, glossary: Glossary | None) -> list[Sentence]:
        """The sentences with the phrases of the glossary, and with the prefix of the line if they are its first."""
        firsts = (None if sentence.key[1] else chunk.line(sentence) for sentence in batch)
        texts = [line.prefix.strip() if line else "" for line in firsts]
        prefixes = self.tokenizers.target.encode(texts) if any(texts) else [[]] * len(batch)
        return [
            sentence._replace(
                prefix=tuple(prefix),
                phrases=(*sentence.phrases, *(glossary.phrases(sentence.text) if glossary else ())),
            )
            for sentence, prefix in zip(batch, prefixes, strict=True)
        ]

    @cached_property
    def _word_tokens(self) -> WordTokens:
        return word_tokens(self.tokenizers.target)

    def _kept_text(self, options: TranslationOptions) -> KeptText:
        key = (options.keep, options.replace_unknown)
        if key not in self._kept:
            self._kept[key] = KeptText(self.tokenizers, *key)
        return self._kept[key].with_glossary(options.glossary)

    def _text_of(self, line: Line, kept: KeptText) -> str:
        """The text of a line that is translated: nothing of one that is copied, stand-ins for spans that are kept."""
        if self._is_copied(line, kept) and not (kept.glossary and kept.glossary.entries(readable(line.text))):
            return ""
        return kept.masked(self._read(line, kept))

    def _read(self, line: Line, kept: KeptText) -> str:
        """The text of a line as the model reads it."""
        text = readable(line.text)
        return self._truecaser.usual(text) if self._may_truecase(line, kept) else text

    def _is_in_capitals(self, line: Line, kept: KeptText) -> bool:
        return self._truecaser.is_in_capitals(readable(line.text)) and self._may_truecase(line, kept)

    def _may_truecase(self, line: Line, kept: KeptText) -> bool:
        """Whether the letter case of a line may change: not beside a prefix or a phrase of the glossary."""
        glossary = kept.glossary
        return (
            self.settings.truecase
            and not line.prefix
            and not (glossary is not None and glossary.entries(readable(line.text)))
        )

    def _is_copied(self, line: Line, kept: KeptText) -> bool:
        return not line.prefix and kept.copies(self.tags.split(readable(line.text))[1])

    def _finish(self, pool: SearchPool, chunk: _Chunk, options: TranslationOptions) -> list[list[Translation]]:
        """Wait for the batches of a chunk, and return the translations of its lines."""
        translations: dict[tuple[int, ...], list[Translation]] = {}
        sentences: list[Sentence] = []
        while chunk.batches:
            batch, job = chunk.batches.popleft()
            sentences += batch
            for sentence, hypotheses in zip(batch, job.result(), strict=True):
                translations[sentence.key] = self._decode(chunk, sentence, hypotheses, options)
        self._search_again(pool, chunk, sentences, translations, options)
        sources = {sentence.key: sentence.text for sentence in sentences}
        finished = []
        for number, line in enumerate(chunk.lines, chunk.start):
            if is_blank(line.text):
                finished.append([Translation(line, "", -math.inf, -math.inf, [])])
                continue
            parts: list[list[Translation]] = []
            while part := translations.pop((number, len(parts)), None):
                parts.append(part)
            self.outputs_cut += any(part[0].cut for part in parts)
            if not parts:
                copied = self._is_copied(line, chunk.kept)
                text = single_line(self.tags.split(readable(line.text))[1]) if copied else ""
                parts.append([Translation(line, text, -math.inf, -math.inf, [])])
            texts = [sources[number, part] for part in range(len(parts))] if len(parts) > 1 else []
            finished.append(join(line, parts, options.search.length_penalty, self._sentences(line, texts)))
        return finished

    def _sentences(self, line: Line, texts: Sequence[str]) -> list[str]:
        """The parts of a line that its sentences are; none if these have other words, such as stand-ins for several."""
        tag, text = self.tags.split(readable(line.text))
        words = WORD.findall(text)
        counts = [len(WORD.findall(self.tags.split(sentence)[1])) for sentence in texts]
        if sum(counts) != len(words):
            return []
        rest = iter(words)
        return [tag + " ".join(islice(rest, count)) for count in counts]

    def _search_again(
        self,
        pool: SearchPool,
        chunk: _Chunk,
        sentences: Sequence[Sentence],
        translations: dict[tuple[int, ...], list[Translation]],
        options: TranslationOptions,
    ) -> None:
        """Search again where an output has lost text that is kept, and where texts that are equal leave too few."""
        search = chunk.search
        if search.sampling is not None or options.mbr is not None or search.diversity:
            return
        wider = search._replace(beam_size=2 * search.beam_size, n_best=2 * search.n_best)
        demanding: list[Sentence] = []
        short: list[Sentence] = []
        for sentence in sentences:
            line, found = self._read(chunk.line(sentence), chunk.kept), translations[sentence.key]
            if self.engine.takes_phrases and chunk.kept.lost(sentence.text, line, found[0].text):
                phrases = chunk.kept.phrases(sentence.text, sentence.ids, line)
                if phrases and self._fits(sum(map(len, phrases))):
                    demanding.append(sentence._replace(phrases=phrases))
                    continue
            if len(found) < search.n_best:
                short.append(sentence)
        size = max(1, self.settings.batch_sentences // 2)
        again: list[tuple[bool, list[Sentence], Job[list[list[Hypothesis]]]]] = []
        for group, chosen in ((demanding, search._replace(words=self._word_tokens)), (short, wider)):
            for begin in range(0, len(group), size):
                batch = self._with_demands(group[begin : begin + size], chunk, options.glossary)
                again.append((group is short, batch, pool.submit(batch, chosen)))
        for is_wider, batch, job in again:
            for sentence, hypotheses in zip(batch, job.result(), strict=True):
                new = self._decode(chunk, sentence, hypotheses, options)
                if is_wider:
                    both = sorted([*translations[sentence.key], *new], key=lambda item: -item.score)
                    translations[sentence.key] = distinct(both)[: search.n_best]
                elif not chunk.kept.lost(sentence.text, self._read(chunk.line(sentence), chunk.kept), new[0].text):
                    translations[sentence.key] = new

    def _fits(self, tokens: int) -> bool:
        """Whether phrases of this many tokens leave at least half of the longest output."""
        longest = self.engine.max_target_length
        return longest is None or 2 * tokens < longest

    def _decode(
        self, chunk: _Chunk, sentence: Sentence, hypotheses: Sequence[Hypothesis], options: TranslationOptions
    ) -> list[Translation]:
        """The translations of a sentence; without sampling, no two of them have the same text."""
        target, line = self.tokenizers.target, chunk.line(sentence)
        if options.replace_unknown:
            texts = [replace_unknowns(self.tokenizers, sentence.text, h.tokens, h.attention) for h in hypotheses]
            texts = [chunk.kept.restored(text, self._read(line, chunk.kept)) for text in texts]
        else:
            texts = target.decode([h.tokens for h in hypotheses])
        if self._is_in_capitals(line, chunk.kept):
            texts = list(map(self._truecaser.raised, texts))
        texts = [single_line(text).rstrip(" ") for text in texts]  # a hypothesis that is cut may end before a word
        translations = [
            Translation(line, text, h.score, h.log_probability, target.pieces(h.tokens), h.token_scores, h.cut)
            for text, h in zip(texts, hypotheses, strict=True)
        ]
        return translations if options.search.sampling else distinct(translations)
