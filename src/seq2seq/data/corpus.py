"""One door for every form of parallel text: a source of the config in, pairs of texts out, one by one."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, Source, TextSource, TsvSource
from seq2seq.data.cleaning import is_invisible
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.lines import DecodingErrors, read_lines
from seq2seq.errors import DataError

Pair = tuple[str, str]

_REPLACE = "data.errors=replace"

_LINE_ENDS = re.compile(r"\r\n|\n")


def read_pairs(source: Source, errors: DecodingErrors = "strict", *, option: str = _REPLACE) -> Iterator[Pair]:
    """Every (source, target) pair, in order, uncleaned. Nothing is held in memory.

    A text is always one line: newlines inside a cell of a JSON or hub source become spaces, because
    everything after this (references, translations) works line for line. A source with a `target_tag` gets it put
    before each text. `option` is how the user may ask for errors="replace", for the hint.

    Raises:
        DataError: a file is missing, damaged, or has a line that does not hold a pair; the two files of a
            text source differ in length (told when the shorter one ends).
        NetworkError: a hub dataset cannot be fetched.
    """
    pairs = _read(source, errors, option)
    return pairs if source.target_tag is None else _tagged(pairs, tag_symbol(source.target_tag))


def tag_symbol(tag: str) -> str:
    """What is put before a source text to ask for a target language: `<2de>` for `de` (Johnson et al. 2017)."""
    return f"<2{tag}>"


def add_tag(text: str, symbol: str) -> str:
    """The text with a tag before it; a text that shows nothing stays so, for it has no translation."""
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
            from seq2seq.data.download import load_hub, read_hub

            return read_hub(load_hub(source), source, errors)
        case BuiltinSource():
            return _read_builtin(source)


def one_line(text: str, place: str, errors: DecodingErrors) -> str:
    """A cell as one line of valid Unicode: newlines become spaces.

    Raises:
        DataError: the text holds a lone surrogate (JSON can write one, UTF-8 cannot) and errors="strict".
    """
    if "\n" in text:
        text = _LINE_ENDS.sub(" ", text)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            if errors == "strict":
                raise DataError(
                    f"not valid Unicode: a lone surrogate at character {error.start}",
                    where=place,
                    hint=f"{_REPLACE} puts U+FFFD there",
                    code="data.encoding",
                ) from None
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


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
                f"{len(cells)} tab-separated column(s) where column {needed - 1} is wanted",
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
    """The text under a key, where dots reach inside unless the whole key exists as it is."""
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
