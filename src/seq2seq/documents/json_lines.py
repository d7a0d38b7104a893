"""JSON lines: each record gets the translation of its text under a new key."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from seq2seq.console import counted, warn
from seq2seq.data.files import one_line
from seq2seq.data.json_parquet import sample_records
from seq2seq.documents.columns import choose_column, new_name
from seq2seq.documents.pieces import Piece
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def json_pieces(name: str, lines: Iterable[str], column: str | None, languages: tuple[str, str]) -> Iterator[Piece]:
    """Pieces of JSON lines. A line without such a text stays as it is; their number is reported.

    Args:
        name: the file.
        lines: its lines.
        column: the key of the text, with dots for keys inside; None if it follows from the language.
        languages: of the texts and of their translations.

    Raises:
        DataError: the first line is not a JSON object.
        UsageError: no record has the key, or it is not clear which one holds the text.
    """
    lines = iter(lines)
    first = list(islice(lines, 1))
    if not isinstance(_parsed("".join(first)), dict):
        raise DataError(
            f"{name} is not JSON lines: its first line is not an object",
            where=f"{name}:1",
            hint=f"of an array, jq -c '.[]' {shlex.quote(name)} > records.jsonl makes them",
            code="data.json",
        )
    keys = list(sample_records(name, "jsonl"))
    key = choose_column(keys, column, languages[0], name)
    inside, _, last = key.rpartition(".")
    new = new_name([other.removeprefix(f"{inside}.") for other in keys], languages[1])
    without = 0
    for line in chain(first, lines):
        record = _parsed(line)
        place = _holder(record, inside)
        text = None if place is None else place.get(last)
        if place is None or not isinstance(text, str):
            without += not is_blank(line)
            yield Piece(line + "\n")
            continue
        text = one_line(text, name, "replace")
        if new in place:
            form = partial(_replaced, record, place, new)
        else:
            end = _end_of_object(line, inside.split(".") if inside else ())
            form = partial(_inserted, line[:end], new, line[end:])
        yield Piece("", text.strip(), "\n", form) if not is_blank(text) else Piece(form("") + "\n")
    if without:
        warn(f"{name}: {counted(without, 'line')} without a text {key!r} stay as they are")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _holder(record: Any, inside: str) -> dict[str, Any] | None:
    """The object that holds the text: the record, or the one under the keys `inside`, with dots between them."""
    for part in inside.split(".") if inside else ():
        record = record.get(part) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else None


def _replaced(record: Any, place: dict[str, Any], key: str, translation: str) -> str:
    place[key] = translation
    return json.dumps(record, ensure_ascii=False)


def _inserted(before: str, key: str, after: str, translation: str) -> str:
    """A record with another key; its other values are written as they were, such as 1.50 and numbers of any length."""
    new = ": ".join(json.dumps(text, ensure_ascii=False) for text in (key, translation))
    return f"{before}, {new}{after}"


def _end_of_object(line: str, keys: Iterable[str]) -> int:
    """The end of the last value of the object under these keys, one inside the other."""
    begin = line.index("{")
    for key in keys:
        begin = _begin_of_value(line, begin, key)
    _, end = _DECODER.raw_decode(line, begin)
    return len(line[: end - 1].rstrip())


def _begin_of_value(line: str, place: int, key: str) -> int:
    """Begin of the value of a key of the object that begins at `place`; the last one counts, as for `json.loads`."""
    found = place
    while line[place] != "}":
        name, place = _DECODER.raw_decode(line, _behind_space(line, place + 1))
        place = _behind_space(line, _behind_space(line, place) + 1)
        found = place if name == key else found
        _, place = _DECODER.raw_decode(line, place)
        place = _behind_space(line, place)
    return found


def _behind_space(line: str, place: int) -> int:
    return _SPACE.match(line, place).end()  # type: ignore[union-attr]
