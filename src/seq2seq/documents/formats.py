"""Documents by the format of their files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from seq2seq.data.files import DecodingErrors, read_lines
from seq2seq.data.formats import recognize, table_form
from seq2seq.documents.json_lines import json_pieces
from seq2seq.documents.markup import inline_in_html, markup_pieces
from seq2seq.documents.pieces import Document
from seq2seq.documents.subtitles import subtitle_pieces
from seq2seq.documents.tables import table_pieces
from seq2seq.documents.xliff import xliff_pieces

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


def open_document(
    path: Path,
    form: Format,
    languages: tuple[str, str],
    *,
    column: str | None = None,
    inline_tags: bool = False,
    errors: DecodingErrors = "strict",
    option: str = "",
) -> Document:
    """A file as a document.

    Args:
        path: the file.
        form: its format.
        languages: of the texts and of their translations.
        column: column of a table, or key of JSON lines, that holds the text; None if it follows from the language.
        inline_tags: whether tags within a text are put into its translation, by word alignment; else the texts between
            them are translated apart.
        errors, option: as in `read_lines`.

    Raises:
        DataError: as `read_lines`; the file is damaged.
        UsageError: the column does not exist or is not clear.
    """
    name = str(path)
    if form in ("csv", "tsv"):
        return Document(table_pieces(name, form, column, languages, errors, option))
    lines = read_lines(path, errors, option=option)
    if form == "jsonl":
        return Document(json_pieces(name, lines, column, languages))
    if form in ("srt", "vtt"):
        return Document(subtitle_pieces(lines, escaped=form == "vtt", inline_tags=inline_tags))
    text = "".join(line + "\n" for line in lines)
    if form == "xliff":
        return Document(xliff_pieces(text, name, languages, inline_tags=inline_tags))
    return Document(markup_pieces(text, is_inline=inline_in_html if inline_tags else None))
