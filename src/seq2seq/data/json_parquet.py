"""Records with named fields: JSON lines, JSON arrays, and Parquet."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seq2seq.config.sources import JsonlSource, ParquetSource
from seq2seq.data.files import DecodingErrors, Pair, locate, one_line, open_binary, read_lines, reading
from seq2seq.data.unreadable_rows import RowReport
from seq2seq.errors import DataError, closest

_ARRAY = re.compile(r'\s*(?:\{\s*"[^"\\]*"\s*:\s*)?\[(?=\s*[\[{])')
"""Beginning of an array of records, also as the value of an object's first key: `{"data": [{...`."""

_GAP = re.compile(r"[\s,]*")
_HEAD = 1 << 16
_CHUNK = 1 << 20
_LONGEST_RECORD = 1 << 26
_BATCH_ROWS = 1000
_SAMPLE_ROWS = 1000


class _UnreadableError(Exception):
    """A record does not hold a text under a key; the argument is a hint."""


def read_json(source: JsonlSource, errors: DecodingErrors, report: RowReport, option: str) -> Iterator[Pair]:
    """Yield the pairs of JSON lines or of a JSON array.

    Raises:
        DataError: as `read_lines`; an array is cut off or damaged.
    """
    return _pairs(_json_records(source.file, errors, report, option), source.source, source.target, errors, report)


def read_parquet(source: ParquetSource, errors: DecodingErrors, report: RowReport) -> Iterator[Pair]:
    """Yield the pairs of a Parquet file.

    Raises:
        DataError: the file is missing or damaged, or has no such column.
    """
    records = _parquet_records(source.file, [source.source, source.target])
    return _pairs(records, source.source, source.target, errors, report)


def sample_records(name: str, form: str) -> dict[str, list[str]]:
    """The texts of the first records by key, with dots for keys inside."""
    report = RowReport(name, 1.0)
    records = _parquet_records(name, []) if form == "parquet" else _json_records(name, "replace", report, "")
    texts: dict[str, list[str]] = {}
    for _, record in islice(records, _SAMPLE_ROWS):
        for key, text in _texts(record, ""):
            texts.setdefault(key, []).extend(() if text is None else (text,))
    return {key: found for key, found in texts.items() if found}


def _texts(value: Any, key: str) -> Iterator[tuple[str, str | None]]:
    """Each text of a record, or null, with its key: the order of the keys is that of the sides."""
    match value:
        case str() | None:
            yield key or "0", value
        case dict():
            for inner, item in value.items():
                yield from _texts(item, f"{key}.{inner}" if key else str(inner))
        case list():
            for number, item in enumerate(value[:8]):
                yield from _texts(item, f"{key}.{number}" if key else str(number))


def _pairs(
    records: Iterator[tuple[str, Any]], source: str | int, target: str | int, errors: DecodingErrors, report: RowReport
) -> Iterator[Pair]:
    for place, record in records:
        try:
            texts = [_look_up(record, str(key)) for key in (source, target)]
            left, right = (one_line(text, place, errors) for text in texts)
        except _UnreadableError as fault:
            kind, _, hint = str(fault).partition("; ")
            report.add_unreadable(kind, place, json.dumps(record, ensure_ascii=False, default=str), hint)
        except DataError as fault:  # a lone surrogate
            report.add_unreadable(fault.what.partition(" at ")[0], place, ascii(texts), fault.hint or "")
        else:
            report.read += 1
            yield left, right


def _look_up(record: Any, key: str) -> str:
    """The text under a key; dots reach inside, unless the whole key exists as it is. A missing cell is empty."""
    value = record
    for part in [key] if isinstance(record, dict) and key in record else key.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif not isinstance(value, dict):
            raise _UnreadableError(
                f'no key {key!r}; a record is an object, such as {{"en": "a dog", "de": "ein Hund"}}'
            )
        elif part not in value:
            near = closest(part, value)
            hint = f"did you mean {near!r}?" if near else "keys there: " + ", ".join(list(value)[:12])
            raise _UnreadableError(f"no key {key!r}; {hint}")
        else:
            value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a number"
        raise _UnreadableError(f"{key!r} is {kind}, not text; name a key that holds text, as in translation.en")
    return value


def _json_records(name: str, errors: DecodingErrors, report: RowReport, option: str) -> Iterator[tuple[str, Any]]:
    with reading(Path(name)) as stream:
        head = stream.read(_HEAD).decode("utf-8-sig", "replace").strip()
    # A line of JSON lines may hold a list of objects, too.
    if head.startswith(("{\n", "{\r")) or (_ARRAY.match(head) and "\n{" not in head):
        yield from _json_array(name, errors)
        return
    for number, line in enumerate(read_lines(name, errors, option=option), start=1):
        place = f"{name}:{number}"
        if not line.strip():
            report.skipped["blank lines"] += 1
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            kind = f"not JSON: {getattr(error, 'msg', 'nested too deeply')}"
            report.add_unreadable(kind, place, line, "one JSON object a line, or an array of objects")
        else:
            yield place, record


def _json_array(name: str, errors: DecodingErrors) -> Iterator[tuple[str, Any]]:
    """Yield the records of an array, one at a time."""
    decoder, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")(errors)
    position = number = 0
    with reading(Path(name)) as stream:
        buffer = text.decode(stream.read(_CHUNK))
        match = _ARRAY.match(buffer)
        position = match.end() if match else 0
        while True:
            position = _GAP.match(buffer, position).end()  # type: ignore[union-attr]
            try:
                record, position = decoder.raw_decode(buffer, position)
            except (ValueError, RecursionError) as error:
                if buffer[position : position + 1] == "]":
                    return
                # Twice as much each time, so that parsing again from the start stays linear.
                more = stream.read(max(_CHUNK, len(buffer) - position))
                if not more and match is None and position == len(buffer):
                    return
                if not more or len(buffer) - position > _LONGEST_RECORD or isinstance(error, RecursionError):
                    raise _damaged_array(name, number, error) from None
                buffer, position = buffer[position:] + text.decode(more), 0
                continue
            number += 1
            yield f"{name}, record {number}", record


def _damaged_array(name: str, number: int, error: Exception) -> DataError:
    return DataError(
        f"not JSON after {number:,} records: {getattr(error, 'msg', 'nested too deeply')}",
        where=name,
        hint="is the file complete? An array ends with ]",
        code="data.json",
    )


def _parquet_records(name: str, columns: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a Parquet file with some of its columns (all if there are none)."""
    file, member = locate(Path(name))
    with open_binary(Path(name)):  # raises the error with similar names if it is missing
        pass
    if member is not None:
        what = f"{name} is in an archive, and a Parquet file is read out of order"
        raise DataError(what, where=name, hint="unpack it first", code="data.no-file")
    try:
        with pq.ParquetFile(file) as table:
            known = table.schema_arrow.names
            for column in columns:
                if column not in known and (top := column.partition(".")[0]) not in known:
                    near = closest(top, known)
                    hint = f"did you mean {near!r}?" if near else f"it has: {', '.join(known)}"
                    raise DataError(f"no column {column!r} in {name}", where=name, hint=hint, code="data.column")
            chosen = [column if column in known else column.partition(".")[0] for column in columns]
            number = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(chosen)) or None):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", record
    except (pa.ArrowException, OSError) as error:
        what = f"damaged or not a Parquet file: {str(error).partition(chr(10))[0]}"
        raise DataError(what, where=name, hint="export or download it again", code="data.compression") from None
