"""Parallel corpora: readers for each kind of source, and sanity checks (identical sides, empty files)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from seq2seq import console
from seq2seq.config.sources import (
    BuiltinSource,
    CsvSource,
    FileSource,
    HubSource,
    JsonlSource,
    ParquetSource,
    Source,
    TextSource,
    TmxSource,
    TsvSource,
    XliffSource,
    name_of,
)
from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.columns import kind_of_column
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.files import DecodingErrors, Pair, paired, read_lines
from seq2seq.data.formats import require_form
from seq2seq.data.unreadable_rows import RowReport, show
from seq2seq.errors import DataError, UsageError
from seq2seq.fixed_text import is_blank
from seq2seq.tags import corpus_tag, target_tag
from seq2seq.tokenizers.normalization import normalize

_REPLACE = "data.errors=replace"

_MOST_COPIES = 0.8
"""Largest share of pairs with equal sides. In a corpus of spelling corrections, half of the sentences may be right."""

_COUNTED_LINES = 100_000
"""Lines whose characters are counted: more would hardly change those that a vocabulary has room for."""

_SAMPLE_PAIRS = 1000
"""Pairs by which the columns of a source are judged."""


def read_pairs(
    source: Source,
    errors: DecodingErrors = "strict",
    *,
    option: str = _REPLACE,
    max_unreadable: float = 0.01,
    counts: CleaningReport | None = None,
) -> Iterator[Pair]:
    """Yield the (source, target) pairs of a source in order, uncleaned. Nothing is held in memory.

    A text is always one line: newlines inside a cell of a table or hub source become spaces, because everything after
    this (references, translations) works line for line. A `target_tag` is put before each source text, and a `tag`
    behind it. `option` is the setting that asks for errors="replace", for the hint. Rows of a table that cannot be read
    are left out with a warning, and added to `counts`.

    Raises:
        DataError: a file is missing or damaged; the two files of a text source differ in length (raised when the
            shorter one ends); more than the share `max_unreadable` of a table's rows cannot be read.
        NetworkError: a hub dataset cannot be fetched.
    """
    pairs = _read(source, errors, option, max_unreadable, counts)
    if isinstance(source, FileSource | HubSource):
        pairs = _judge_columns(pairs, source)
    symbols = tag_symbols([source])  # sorted: the target tag comes first, as it does in text to translate
    return _tagged(pairs, " ".join(symbols)) if symbols else pairs


def tag_symbols(sources: Sequence[Source]) -> list[str]:
    """The tags before the source texts of corpora, sorted: target tags come first."""
    languages = {target_tag(source.target_tag) for source in sources if source.target_tag}
    return sorted(languages | {corpus_tag(source.tag) for source in sources if source.tag})


def add_tag(text: str, symbol: str) -> str:
    """Put a tag before a text; a blank text stays as it is, since it has no translation."""
    return text if is_blank(text) else f"{symbol} {text}"


def _tagged(pairs: Iterator[Pair], symbol: str) -> Iterator[Pair]:
    for left, right in pairs:
        yield add_tag(left, symbol), right


def _read(
    source: Source, errors: DecodingErrors, option: str, max_unreadable: float, counts: CleaningReport | None
) -> Iterator[Pair]:
    match source:
        case TextSource():
            return _read_text(source, errors, option)
        case HubSource():
            from seq2seq.data.hub import load_hub, read_hub

            return read_hub(load_hub(source), source, errors)
        case BuiltinSource():
            return _read_builtin(source)
        case _:
            return _read_file(source, errors, option, max_unreadable, counts)


def _read_file(
    source: FileSource, errors: DecodingErrors, option: str, max_unreadable: float, counts: CleaningReport | None
) -> Iterator[Pair]:
    require_form(source.file, source.form)
    report = RowReport(source.file, max_unreadable, "units" if source.form in ("tmx", "xliff") else "rows")
    match source:
        case TsvSource() | CsvSource():
            from seq2seq.data.tables import read_table

            yield from read_table(source, errors, report, option)
        case JsonlSource():
            from seq2seq.data.json_parquet import read_json

            yield from read_json(source, errors, report, option)
        case ParquetSource():
            from seq2seq.data.json_parquet import read_parquet

            yield from read_parquet(source, errors, report)
        case TmxSource():
            from seq2seq.data.translation_memories import read_tmx

            yield from read_tmx(source, report)
        case XliffSource():
            from seq2seq.data.translation_memories import read_xliff

            yield from read_xliff(source, report)
    report.finish()
    if counts is not None:
        unreadable = report.unreadable.total()
        counts.read += unreadable
        counts.unreadable += unreadable


def _judge_columns(pairs: Iterator[Pair], source: FileSource | HubSource) -> Iterator[Pair]:
    """Pass the pairs on, with a warning for a column that holds numbers, addresses, or a licence."""
    sample = list(islice(pairs, _SAMPLE_PAIRS))
    for side, texts in zip(("source", "target"), zip(*sample, strict=True), strict=False):
        if kind := kind_of_column(texts):
            name = source.hub if isinstance(source, HubSource) else source.file
            column = getattr(source, side)
            count = "; columns are numbered from 0" if isinstance(column, int) else ""
            console.warn_once(f"{name}: {side} column {column} holds {show(kind)}, not text{count}")
    yield from chain(sample, pairs)


def _read_lines_of_text(name: str, errors: DecodingErrors, option: str) -> Iterator[str]:
    require_form(name, "text")
    yield from read_lines(name, errors, option=option)


def _read_text(source: TextSource, errors: DecodingErrors, option: str) -> Iterator[Pair]:
    names = source.source, source.target
    left, right = (_read_lines_of_text(name, errors, option) for name in names)
    yield from paired(left, right, names)


def _read_builtin(source: BuiltinSource) -> Iterator[Pair]:
    for left, right in builtin_pairs(source.builtin, source.split):
        yield (right, left) if source.reverse else (left, right)


def check_sides(split: str, sources: Sequence[Source]) -> None:
    """Refuse a corpus with identical sides: its model would learn to copy, with misleadingly high scores.

    Beside other corpora, copied text is a known help for rare words (Currey et al. 2017), and gets a warning only.

    Raises:
        UsageError: one file, column or key stands for both sides of the only corpus of a split.
    """
    for number, source in enumerate(sources):
        if (side := _one_side(source)) is None:
            continue
        what = f"source and target are the same {side}: a model of it learns to copy"
        where = f"data.{split}.{number}"
        if len(sources) == 1:
            hint = f"name a text and its translation: {_example(source)}"
            raise UsageError(what, where=where, hint=hint, code="usage.same-file")
        console.warn(f"{where}: {what}")


def _one_side(source: Source) -> str | None:
    """Name the file, column or key that stands for both sides of a corpus; None if they differ."""
    match source:
        case TextSource():
            one, other = Path(source.source), Path(source.target)
            same = one == other or (one.exists() and other.exists() and one.samefile(other))
            return f"file, {source.source}" if same else None
        case BuiltinSource():
            return None
        case _:
            side = "key" if isinstance(source, JsonlSource) else "column"
            same = source.source == source.target and source.source is not None
            return f"{side}, {source.source}" if same else None


def _example(source: Source) -> str:
    match source:
        case TsvSource() | CsvSource():
            return f"{{{source.form}: {source.file}, source: 0, target: 1}}"
        case FileSource():
            return f"{{{source.form}: {source.file}, source: en, target: de}}"
        case HubSource():
            return f"{{hub: {source.hub}, source: en, target: de}}"
        case _:
            return "{source: corpus.en, target: corpus.de}"


def warn_of_copies(report: CleaningReport) -> None:
    """Warn if most pairs have the same text on both sides, whatever their files are called."""
    if report.copies > _MOST_COPIES * report.usable:
        console.warn(
            f"{report.copies:,} of {report.usable:,} training pairs are the same text on both sides: "
            "a model of them learns to copy; are these the right files?"
        )


def warn_of_shared_sources(report: CleaningReport) -> None:
    """Warn if pairs with held-out source texts stay in training, since little else would be left."""
    if report.shared_source:
        console.warn(
            f"{report.shared_source:,} training pairs have the source text of a held-out pair, with another target; "
            "they stay, for less than half would be left without them"
        )


def count_pairs(
    source: Source,
    alphabet: Counter[str] | None = None,
    *,
    errors: DecodingErrors = "strict",
    max_unreadable: float = 0.01,
) -> tuple[int, int]:
    """Pairs, and characters of the longer side; each character of the first pairs is counted in `alphabet`.

    Raises as `read_pairs`.
    """
    lines = left = right = 0
    with console.Progress("counting", None, "pairs", delay=1.0) as progress:
        for pair in progress.over(read_pairs(source, errors, option="", max_unreadable=max_unreadable)):
            lines += 1
            left += len(pair[0])
            right += len(pair[1])
            if alphabet is not None and lines <= _COUNTED_LINES:
                alphabet.update(normalize(" ".join(pair), "nfc"))
    return lines, max(left, right)


def read_corpora(
    sources: Sequence[Source], errors: DecodingErrors, max_unreadable: float, counts: CleaningReport | None = None
) -> Iterator[Iterator[Pair]]:
    """Yield the pairs of each source, with a warning for an empty one.

    Raises:
        DataError: as `read_pairs`, or all sources are empty.
    """
    empty: list[str] = []
    for source in sources:
        yield _note_empty(source, read_pairs(source, errors, max_unreadable=max_unreadable, counts=counts), empty)
    if sources and len(empty) == len(sources):
        raise DataError(
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty",
            where=empty[0],
            hint="is it the right file? line i of the source side is translated by line i of the target side",
            code="data.no-lines",
        )
    for name in empty:
        console.warn(f"{name} is empty")


def _note_empty(source: Source, pairs: Iterator[Pair], empty: list[str]) -> Iterator[Pair]:
    if (first := next(pairs, None)) is None:
        empty.append(_name(source))
        return
    yield first
    yield from pairs


def _name(source: Source) -> str:
    match source:
        case TextSource():
            return source.source
        case TsvSource() | CsvSource() if isinstance(source.source, str):
            return f"{source.file}, below its header,"
        case _:
            return name_of(source)
