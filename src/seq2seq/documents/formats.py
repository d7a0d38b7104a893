"""Formats of documents, by their files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from seq2seq.data.formats import recognize, table_form

_SUFFIX = re.compile(r"\.(\w+)(?:\.(?:gz|xz|bz2|zst))?$", re.IGNORECASE)

Format = Literal["csv", "tsv", "jsonl", "json", "xliff", "srt", "vtt", "html"]

_SUFFIXES: dict[str, Format] = {
    **dict.fromkeys(("html", "htm", "xhtml"), "html"),
    **dict.fromkeys(("xlf", "xliff", "sdlxliff", "mqxliff", "mxliff"), "xliff"),
    **dict.fromkeys(("jsonl", "ndjson"), "jsonl"),
    **dict.fromkeys(("json", "arb"), "json"),
    "srt": "srt",
    "vtt": "vtt",
}
_FORMATS: dict[str, Format] = {
    "a JSON file": "jsonl",
    "an XLIFF file": "xliff",
    "a file of subtitles (.srt)": "srt",
    "a file of subtitles (.vtt)": "vtt",
    "a web page": "html",
}


def document_format(path: Path) -> Format | None:
    """The format of a document, by its suffix or its first lines; None for another file, such as plain text.

    Raises as `open_binary`.
    """
    suffix = _SUFFIX.search(path.name)
    form = _SUFFIXES.get(suffix[1].lower()) if suffix else None
    if form == "json" and recognize(str(path)) is not None:
        return "jsonl"  # records, one a line or as an array
    if form:
        return form
    if (kind := recognize(str(path))) is not None:
        return _FORMATS.get(kind)
    return table_form(str(path), by_header=True)
