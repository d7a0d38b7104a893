"""Files opened as documents."""

from __future__ import annotations

import codecs
from functools import partial
from pathlib import Path

from seq2seq.data.files import DecodingErrors, read_lines, reading
from seq2seq.data.xml_text import Utf8Xml
from seq2seq.documents.formats import Format
from seq2seq.documents.json_lines import json_pieces
from seq2seq.documents.markup import inline_in_html, markup_pieces
from seq2seq.documents.messages import message_pieces
from seq2seq.documents.pieces import Document
from seq2seq.documents.subtitles import subtitle_pieces
from seq2seq.documents.tables import table_pieces
from seq2seq.documents.xliff import xliff_pieces

_LONGEST_FIRST_LINE = 1 << 20


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
    mark, newline = _line_form(path)
    if form in ("csv", "tsv"):  # the lines of a cell may end in another way than the rows
        return Document(table_pieces(name, form, column, languages, errors, option, newline), mark=mark)
    document = partial(Document, mark=mark, newline=newline)
    if form == "xliff":
        with reading(path) as stream:
            text = Utf8Xml(stream, name).read().decode().replace("\r\n", "\n")
        return document(xliff_pieces(text, name, languages, inline_tags=inline_tags))
    lines = read_lines(path, errors, option=option, silent=True)
    if form == "jsonl":
        return document(json_pieces(name, lines, column, languages))
    if form in ("srt", "vtt"):
        return document(subtitle_pieces(lines, escaped=form == "vtt", inline_tags=inline_tags))
    text = "".join(line + "\n" for line in lines)
    if form == "json":
        return document(message_pieces(text, name, inline_tags=inline_tags))
    return document(markup_pieces(text, is_inline=inline_in_html if inline_tags else None))


def _line_form(path: Path) -> tuple[str, str]:
    """The byte-order mark of a file, and the end of its first line."""
    with reading(path) as stream:
        line = stream.readline(_LONGEST_FIRST_LINE)
    mark = "\ufeff" if line.startswith(codecs.BOM_UTF8) else ""
    return mark, "\r\n" if line.endswith((b"\r\n", b"\r\0\n")) else "\n"
