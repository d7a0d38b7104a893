"""Parallel corpora: readers for each kind of source, and sanity checks (identical sides, empty files)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seq2seq import console
from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, Source, TextSource, TsvSource
from seq2seq.data.cleaning import CleaningReport, is_invisible
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.files import DecodingErrors, Pair, one_line, read_lines
from seq2seq.errors import DataError, UsageError

_REPLACE = "data.errors=replace"

_MOST_COPIES = 0.8
"""Largest share of pairs with equal sides. In a corpus of spelling corrections, half of the sentences may be right."""

_EXAMPLES: dict[type, str] = {
    TextSource: "{source: corpus.en, target: corpus.de}",
    TsvSource: "{tsv: corpus.tsv, source: 0, target: 1}",
    JsonlSource: "{jsonl: corpus.jsonl, source: en, target: de}",
    HubSource: "{hub: ID, source: en, target: de}",
}


def read_pairs(source: Source, errors: DecodingErrors = "strict", *, option: str = _REPLACE) -> Iterator[Pair]:
    """Yield the (source, target) pairs of a source in order, uncleaned. Nothing is held in memory.

    A text is always one line: newlines inside a cell of a JSON or hub source become spaces, because everything after
    this (references, translations) works line for line. A `target_tag` is put before each source text. `option` is the
    setting that asks for errors="replace", for the hint.

    Raises:
        DataError: a file is missing, damaged, or has a line that does not hold a pair; the two files of a
            text source differ in length (raised when the shorter one ends).
        NetworkError: a hub dataset cannot be fetched.
    """
    pairs = _read(source, errors, option)
    return pairs if source.target_tag is None else _tagged(pairs, tag_symbol(source.target_tag))


def tag_symbol(tag: str) -> str:
    """The token before a source text that asks for a target language: `<2de>` for `de` (Johnson et al. 2017)."""
    return f"<2{tag}>"


def add_tag(text: str, symbol: str) -> str:
    """Put a tag before a text; an invisible text stays as it is, since it has no translation."""
    return text if is_invisible(text) else f"{symbol} {text}"


def _tagged(pairs: Iterator[Pair], symbol: str) -> Iterator[Pair]:
    for left, right in pairs:
        yield add_tag(left, symbol), right


def _read(source: Source, errors: DecodingErrors, option: str) -> Iterator[Pair]:
    match source:
        case TextSource():
            return _read_text(source, errors, option)
        case TsvSource():
            return _read_tsv(source, errors)
        case JsonlSource():
            return _read_jsonl(source, errors)
        case HubSource():
            from seq2seq.data.hub import load_hub, read_hub

            return read_hub(load_hub(source), source, errors)
        case BuiltinSource():
            return _read_builtin(source)


def _read_text(source: TextSource, errors: DecodingErrors, option: str) -> Iterator[Pair]:
    lines = [read_lines(name, errors, option=option) for name in (source.source, source.target)]
    counts = [0, 0]
    while True:
        left, right = next(lines[0], None), next(lines[1], None)
        counts[0] += left is not None
        counts[1] += right is not None
        if left is None or right is None:
            break
        yield left, right
    if counts[0] != counts[1]:
        counts = [count + sum(1 for _ in rest) for count, rest in zip(counts, lines, strict=True)]
        raise DataError(
            f"{source.source} has {counts[0]:,} lines, but {source.target} has {counts[1]:,}",
            where=f"{source.source} | {source.target}",
            hint="line i of one must translate line i of the other; look for lines missing from one side",
            code="data.line-counts",
        )


def _read_tsv(source: TsvSource, errors: DecodingErrors) -> Iterator[Pair]:
    # No quoting: a quotation mark is text, as in nearly every published TSV corpus.
    lines = read_lines(source.tsv, errors, option=_REPLACE)
    first = 1
    columns = [source.source, source.target]
    if any(isinstance(column, str) for column in columns):
        header = next(lines, "").split("\t")
        columns = [_column_number(column, header, source.tsv) for column in columns]
        first = 2
    left, right = (int(column) for column in columns)
    needed = max(left, right) + 1
    for number, line in enumerate(lines, start=first):
        cells = line.split("\t")
        if len(cells) < needed:
            raise DataError(
                f"{len(cells)} tab-separated column(s) where column {needed - 1} is expected",
                where=f"{source.tsv}:{number}",
                hint="columns are numbered from 0",
                code="data.column",
            )
        yield cells[left], cells[right]


def _column_number(column: int | str, header: list[str], name: str) -> int:
    if isinstance(column, int):
        return column
    if column in header:
        return header.index(column)
    near = difflib.get_close_matches(column, header, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "the header line holds: " + ", ".join(header)
    raise DataError(f"no column named {column!r}", where=f"{name}:1", hint=hint, code="data.column")


def _read_jsonl(source: JsonlSource, errors: DecodingErrors) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(source.jsonl, errors, option=_REPLACE), start=1):
        place = f"{source.jsonl}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"not JSON: {error}", where=place, hint="one JSON object a line", code="data.json"
            ) from None
        left, right = (_json_text(row, key, place) for key in (source.source, source.target))
        yield one_line(left, place, errors), one_line(right, place, errors)


def _json_text(row: Any, key: str, place: str) -> str:
    """Look up the text under a key; dots reach inside, unless the whole key exists as it is."""
    value = row
    for part in [key] if isinstance(row, dict) and key in row else key.split("."):
        if not isinstance(value, dict):
            raise DataError(
                f"no key {key!r}: {part!r} would be inside something that is no object",
                where=place,
                hint='one object a line, such as {"en": "a dog", "de": "ein Hund"}',
                code="data.column",
            )
        if part not in value:
            near = difflib.get_close_matches(part, list(value), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "keys there: " + ", ".join(list(value)[:12])
            raise DataError(f"no key {key!r}", where=place, hint=hint, code="data.column")
        value = value[part]
    if not isinstance(value, str):
        raise DataError(
            f"{key!r} is {json.dumps(value)[:40]}, not a string",
            where=place,
            hint="name a key that holds text; dots reach inside an object, as in translation.en",
            code="data.column",
        )
    return value


def _read_builtin(source: BuiltinSource) -> Iterator[Pair]:
    for left, right in builtin_pairs(source.builtin, source.split):
        yield (right, left) if source.reverse else (left, right)


def check_sides(split: str, sources: Sequence[Source]) -> None:
    """Refuse a corpus with identical sides: a model of it learns to copy, and its scores look wonderful.

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
            hint = "name a text and its translation: " + _EXAMPLES[type(source)]
            raise UsageError(what, where=where, hint=hint, code="usage.same-file")
        console.warn(f"{where}: {what}")


def _one_side(source: Source) -> str | None:
    """Name the file, column or key that stands for both sides of a corpus; None if they differ."""
    match source:
        case TextSource():
            one, other = Path(source.source), Path(source.target)
            same = one == other or (one.exists() and other.exists() and one.samefile(other))
            return f"file, {source.source}" if same else None
        case TsvSource():
            return f"column, {source.source}" if source.source == source.target else None
        case JsonlSource():
            return f"key, {source.source}" if source.source == source.target else None
        case HubSource():
            return f"column, {source.source}" if source.source == source.target else None
        case BuiltinSource():
            return None


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


def read_corpora(sources: Sequence[Source], errors: DecodingErrors) -> Iterator[Iterator[Pair]]:
    """Yield the pairs of each source, with a warning for an empty one.

    Raises:
        DataError: as `read_pairs`, or all sources are empty.
    """
    empty: list[str] = []
    for source in sources:
        yield _note_empty(source, errors, empty)
    if sources and len(empty) == len(sources):
        raise DataError(
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty",
            where=empty[0],
            hint="is it the right file? line i of the source side is translated by line i of the target side",
            code="data.no-lines",
        )
    for name in empty:
        console.warn(f"{name} is empty")


def _note_empty(source: Source, errors: DecodingErrors, empty: list[str]) -> Iterator[Pair]:
    pairs = read_pairs(source, errors)
    if (first := next(pairs, None)) is None:
        empty.append(_name(source))
        return
    yield first
    yield from pairs


def _name(source: Source) -> str:
    match source:
        case TextSource():
            return source.source
        case TsvSource():
            named = isinstance(source.source, str) or isinstance(source.target, str)
            return f"{source.tsv}, below its header," if named else source.tsv
        case JsonlSource():
            return source.jsonl
        case HubSource():
            return f"{source.hub} ({source.split})"
        case BuiltinSource():
            return f"{source.builtin} ({source.split})"
