"""Formats of files that hold translations, recognized by their first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from seq2seq.data.files import locate, open_binary
from seq2seq.errors import DataError

_HEAD = 1 << 14
_MEMORY = "seq2seq train --pairs FILE, or in a config: {{{form}: FILE}}"
_EXPORT = "export it as CSV, TSV or TMX, then: seq2seq train --pairs FILE"
_SIGNATURES = {
    b"%PDF-": "a PDF document",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office document (.doc, .xls)",
    b"SQLite format 3\0": "an SQLite database",
    b"{\\rtf": "an RTF document",
}
_ZIP_CONTENTS = {
    "word/": "a Word document (.docx)",
    "xl/": "an Excel workbook (.xlsx)",
    "ppt/": "a PowerPoint presentation (.pptx)",
    "META-INF/manifest.xml": "an OpenDocument file (.odt, .ods)",
}
_TEXTS = {
    "a TMX file": r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE[^>]*>\s*)?<tmx\b",
    "an XLIFF file": r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE[^>]*>\s*)?<xliff\b",
    "a gettext catalogue (.po)": r'(\s*#[^\n]*\n)*\s*(msgctxt [^\n]*\n\s*)?msgid "[^\n]*\n(\s*"[^\n]*\n)*\s*msgstr ',
    "an SGML test set (.sgm)": r"\s*(<!?[^>]*>\s*){0,4}?<(srcset|refset|tstset|mteval|dataset)\b",
    "a file of subtitles (.srt)": r"\s*\d+\s*\n\s*\d\d:\d\d:\d\d[,.]\d{1,3} --> ",
    "a file of subtitles (.vtt)": r"WEBVTT\b",
    "a web page": r"\s*(<!DOCTYPE html|<html)\b",
}
READ_AS = {"a TMX file": "tmx", "an XLIFF file": "xliff", "a Parquet file": "parquet"}
"""The form of source that reads a format."""

_LINES_OF_TEXT = "copy its sentences into two text files, or into a table"


def recognize(name: str) -> str | None:
    """The format of a file that is neither text nor a table, such as "a Word document (.docx)"; None for others.

    Raises:
        DataError, NetworkError, UsageError: as `open_binary`.
    """
    path = Path(name)
    file, member = locate(path)
    if not file.is_file():
        return None  # missing, or a pipe, which can be read only once
    if member is None and zipfile.is_zipfile(file):
        return _content_of_zip(file)
    with open_binary(path) as stream:
        try:
            head = stream.read(_HEAD)
        except (OSError, EOFError, ValueError):
            return None  # the reader names the damage
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = head.decode(encoding, "replace").replace("\r", "")
    return next((kind for kind, form in _TEXTS.items() if re.match(form, text, re.IGNORECASE | re.DOTALL)), None)


def _content_of_zip(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    return next((kind for part, kind in _ZIP_CONTENTS.items() if any(name.startswith(part) for name in names)), None)


def require_form(name: str, form: str) -> None:
    """Raise `DataError` if a file is of a known format that is not read as `form`: text, csv, tmx, ..."""
    kind = recognize(name)
    if kind is None or READ_AS.get(kind) == form:
        return
    if read_as := READ_AS.get(kind):
        hint = _MEMORY.format(form=read_as)
    else:
        hint = _LINES_OF_TEXT if kind in ("a PDF document", "a web page") else _EXPORT
    wanted = {"text": "text with a sentence per line", "jsonl": "JSON"}.get(form, form.upper())
    raise DataError(f"{name} is {kind}, not {wanted}", where=name, hint=hint, code="data.format")
