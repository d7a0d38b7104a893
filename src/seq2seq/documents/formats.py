"""Formats of documents, by their files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from seq2seq.data.formats import recognize, table_form

_HTML = re.compile(r"\.x?html?(\.\w+)?$", re.IGNORECASE)

Format = Literal["csv", "tsv", "jsonl", "xliff", "srt", "vtt", "html"]

_FORMATS: dict[str, Format] = {
    "a JSON file": "jsonl",
    "an XLIFF file": "xliff",
    "a file of subtitles (.srt)": "srt",
    "a file of subtitles (.vtt)": "vtt",
    "a web page": "html",
}


def document_format(path: Path) -> Format | None:
    """The format of a document; None for another file, such as plain text. Raises as `open_binary`."""
    if (kind := recognize(str(path))) is not None:
        return _FORMATS.get(kind)
    return table_form(str(path)) or ("html" if _HTML.search(path.name) else None)
