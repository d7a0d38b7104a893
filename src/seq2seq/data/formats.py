"""Formats of files that hold translations, recognized by their first bytes."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from seq2seq.data.columns import names_source
from seq2seq.data.encodings import office_document
from seq2seq.data.files import DecodingErrors, locate, open_binary, read_lines
from seq2seq.errors import DataError

_HEAD = 1 << 14
_PAIRS = "seq2seq train --pairs {name}, or in a config: {{{form}: {name}}}"
_EXPORT = "export it as CSV, TSV or TMX, then: seq2seq train --pairs FILE"
_SIGNATURES = {
    b"%PDF-": "a PDF document",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document (.doc, .xls)",
    b"SQLite format 3\0": "an SQLite database",
    b"{\\rtf": "an RTF document",
}
_PROLOG = r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE[^>\[]*(\[.*?\]\s*)?>\s*)?"
_TEXTS = {
    "a TMX file": _PROLOG + r"<tmx\b",
    "an XLIFF file": _PROLOG + r"<([\w.-]+:)?xliff\b",
    "a gettext catalogue (.po)": r'(\s*#[^\n]*\n)*\s*(msgctxt [^\n]*\n\s*)?msgid "[^\n]*\n(\s*"[^\n]*\n)*\s*msgstr ',
    "an SGML test set (.sgm)": r"\s*(<!?[^>]*>\s*){0,4}?<(srcset|refset|tstset|mteval|dataset)\b",
    "a file of subtitles (.srt)": r"\s*\d+\s*\n\s*\d\d:\d\d:\d\d[,.]\d{1,3} --> ",
    "a file of subtitles (.vtt)": r"WEBVTT([ \t][^\n]*)?\n([A-Za-z-]+[:=][^\n]*\n)*\s*\n",
    "a web page": r"\s*(<!DOCTYPE html\b|<html\b[^>]*>\s*<)",
}
_JSON = "a JSON file"
READ_AS = {"a TMX file": "tmx", "an XLIFF file": "xliff", "a Parquet file": "parquet", _JSON: "jsonl"}
"""The form of source that reads a format."""

_TABLE = re.compile(r"\.(tsv|csv)(?:\.(?:gz|xz|bz2|zst))?$", re.IGNORECASE)
_ROWS = 20
"""First rows of a table whose numbers of columns are compared."""

_LINES_OF_TEXT = "copy its sentences into two text files, or into a table"


def recognize(name: str) -> str | None:
    """The format of a file that is neither text nor a delimited table, such as "a Word document (.docx)"; else None.

    Raises:
        DataError, NetworkError, UsageError: as `open_binary`.
    """
    path = Path(name)
    file, member = locate(path)
    if not file.is_file():
        return None  # missing, or a pipe, which can be read only once
    if member is None and zipfile.is_zipfile(file):
        return office_document(file)
    head = _head(path)
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    text = _decode(head)
    if _is_json(text):
        return _JSON
    return next((kind for kind, form in _TEXTS.items() if re.match(form, text, re.IGNORECASE | re.DOTALL)), None)


def _head(path: Path) -> bytes:
    with open_binary(path) as stream:
        try:
            return stream.read(_HEAD)
        except (OSError, EOFError, ValueError):
            return b""  # the reader names the damage


def _decode(head: bytes) -> str:
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return head.decode(encoding, "replace").replace("\r", "").replace("\0", "")


def _is_json(text: str) -> bool:
    """Whether a file begins with a JSON object on a line of its own, or with an array of objects."""
    text = text.lstrip()
    if text.startswith("{"):
        try:
            record = json.loads(text.partition("\n")[0])
            return isinstance(record, dict) and bool(record)
        except (ValueError, RecursionError):
            return False
    return re.match(r'\[\s*\{\s*"', text) is not None


def _columns(name: str) -> int:
    """Number of columns of a table by its suffix, `.tsv` or `.csv`; 1 if its first rows do not agree."""
    if not (suffix := _TABLE.search(name)) or not locate(Path(name))[0].is_file():
        return 1
    lines = [line for line in _decode(_head(Path(name))).split("\n")[:-1] if line.strip()][:_ROWS]
    for delimiter in "\t" if suffix[1].lower() == "tsv" else ",;\t|":
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        if len(lines) > 1 and len(widths) == 1 and widths != {1}:
            return widths.pop()
    return 1


def table_form(name: str, *, by_header: bool = False) -> Literal["csv", "tsv"] | None:
    """`tsv` or `csv` for a file with that suffix and with several columns in each of its first rows; else None.

    With `by_header`, a first row that says that a column holds text is enough: there may be one column alone, and rows
    may lack cells.
    """
    suffix = _TABLE.search(name)
    if suffix is None or (_columns(name) == 1 and not (by_header and _has_header(name, suffix[1].lower()))):
        return None
    return "tsv" if suffix[1].lower() == "tsv" else "csv"


def _has_header(name: str, form: str) -> bool:
    """Whether the first row names a column of text, and at least half of the others are as long."""
    if not locate(Path(name))[0].is_file():
        return False
    text = _decode(_head(Path(name)))
    for delimiter in "\t" if form == "tsv" else ",;\t|":
        header, *rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row] or [[]]
        if any(map(names_source, header)) and 2 * sum(len(row) == len(header) for row in rows) >= len(rows) > 0:
            return True
    return False


def read_text(name: str | Path, errors: DecodingErrors = "strict", *, option: str = "") -> Iterator[str]:
    """The lines of a text that is given to a command. Raises as `read_lines`, and `DataError` for another format."""
    try:
        require_form(str(name), "text")
    except DataError as error:
        error.hint = "copy its sentences into a text file, one a line"
        raise
    return read_lines(name, errors, option=option)


def require_form(name: str, form: str) -> None:
    """Raise `DataError` if a file is of a known format that is not read as `form`: text, csv, tmx, ..."""
    kind = recognize(name)
    read_as = READ_AS.get(str(kind))
    if form == "text" and kind is None and (table := table_form(name)):
        kind, read_as = f"a table of {_columns(name)} columns", table
    if kind is None or read_as == form:
        return
    if read_as:
        hint = _PAIRS.format(form=read_as, name=shlex.quote(name))
    else:
        hint = _LINES_OF_TEXT if kind in ("a PDF document", "a web page") else _EXPORT
    wanted = {"text": "text with a sentence per line", "jsonl": "JSON"}.get(form, form.upper())
    raise DataError(f"{name} is {kind}, not {wanted}", where=name, hint=hint, code="data.format")
