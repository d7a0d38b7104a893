"""Tables (CSV, TSV): the rows stay as they are, and the translations are a new last column."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from seq2seq.console import counted, say, warn
from seq2seq.data.files import DecodingErrors, one_line
from seq2seq.data.tables import Dialect, Record, as_cell, is_separator_line, read_rows
from seq2seq.documents.columns import choose_column, new_name
from seq2seq.documents.pieces import Piece
from seq2seq.errors import UsageError
from seq2seq.fixed_text import is_blank


def table_pieces(
    name: str,
    form: str,
    column: str | None,
    languages: tuple[str, str],
    errors: DecodingErrors,
    option: str,
    newline: str = "\n",
) -> Iterator[Piece]:
    """Pieces of a table. A row that cannot be read stays as it is; their number is reported.

    Args:
        name: the file.
        form: `csv` or `tsv`.
        column: name of the column to translate, or its number from 0; None if it follows from the header.
        languages: of the texts and of their translations.
        errors, option: as in `read_lines`.
        newline: end of a row.

    Raises:
        UsageError: there is no such column, or it is not clear which one holds the text.
        DataError: as `read_lines`; there is no delimiter.
    """
    dialect, first, is_named, rows = read_rows(name, form, errors, option)
    named = first if is_named or (column is not None and column in first) or dialect.width == 1 else []
    if named:
        number = named.index(choose_column(named, column, languages[0], name))
        heading = as_cell(new_name(named, languages[1]), dialect)
    else:
        number, heading = _number(column, dialect, name), ""
    say(f"{name}: column {named[number]!r} is translated" if named else f"{name}: column {number} is translated")
    unread = 0
    for row in rows:
        # The last cells of a row may be missing; with more than the usual number, a text has delimiters of its own.
        is_short = number < len(row.cells) < dialect.width
        if len(row.cells) <= number or (row.fault and not is_short) or is_blank(row.raw):
            unread += not is_blank(row.raw) and not is_separator_line(row.raw)
            yield Piece(row.raw + newline)
            continue
        before = _padded(row, dialect)
        text = one_line(row.cells[number], f"{name}:{row.line}", errors)
        if heading:
            yield Piece(before + heading + newline)
            heading = ""
        elif is_blank(text):
            yield Piece(before + newline)
        else:
            yield Piece(before, text.strip(), newline, partial(as_cell, dialect=dialect))
    if unread:
        warn(f"{name}: {counted(unread, 'row')} cannot be read and stay as they are")


def _number(column: str | None, dialect: Dialect, name: str) -> int:
    """The number of a column of a table without a header."""
    if column is not None and column.isdecimal() and int(column) < dialect.width:
        return int(column)
    what = "which column is to be translated?" if column is None else f"no column {column!r}:"
    raise UsageError(
        f"{what} {name} has {dialect.width} columns, numbered from 0, and no header",
        where="--column",
        hint="add --column 0",
        code="usage.needs" if column is None else "usage.value",
    )


def _padded(row: Record, dialect: Dialect) -> str:
    """A row as it is, and the delimiters up to the new column."""
    raw = row.raw
    for _ in range(len(row.cells) - dialect.width):
        raw = raw.removesuffix(dialect.delimiter)  # empty columns at the end
    return raw + dialect.delimiter * max(1, 1 + dialect.width - len(row.cells))
