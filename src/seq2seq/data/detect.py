"""Form and columns of a file with both sides, for commands that are given only its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from seq2seq import console
from seq2seq.config.sources import (
    CsvSource,
    JsonlSource,
    OneFileSource,
    ParquetSource,
    TmxSource,
    TsvSource,
    XliffSource,
)
from seq2seq.data.columns import NOT_TEXT, SOURCE_NAMES, TARGET_NAMES, kind_of_column
from seq2seq.data.files import read_lines
from seq2seq.data.formats import READ_AS, recognize, require_form
from seq2seq.data.json_parquet import sample_records
from seq2seq.data.tables import sample_table
from seq2seq.data.translation_memories import pick_languages, xliff_languages
from seq2seq.data.unreadable_rows import show
from seq2seq.errors import DataError, UsageError
from seq2seq.languages import language_of_column

_FORMS = {
    "tsv": ("tsv", "tab"),
    "csv": ("csv",),
    "jsonl": ("jsonl", "ndjson", "json"),
    "parquet": ("parquet",),
    "tmx": ("tmx",),
    "xliff": ("xliff", "xlf", "sdlxliff", "mqxliff", "mxliff"),
}
_LEAST_SHARE = 0.5
"""Share of the rows that have the same number of columns in a table, where the name does not say that it is one."""
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst", ".zstd")


def detect_source(name: str, source: str | None = None, target: str | None = None) -> OneFileSource:
    """The source for a file: a table, JSON, Parquet, TMX or XLIFF.

    `source` and `target` name columns (also by number) or languages; None leaves the choice to the header, or to the
    first two columns of text.

    Raises:
        DataError: the file is missing or damaged, or of another format.
        UsageError: the columns are not clear.
    """
    form = _form(name)
    require_form(name, form)
    match form:
        case "tmx":
            source, target = pick_languages(name, source, target)
            return TmxSource(tmx=name, source=source, target=target)
        case "xliff":
            return XliffSource(xliff=name, source=source, target=target)
        case "jsonl" | "parquet":
            texts = sample_records(name, form)
            if not texts:
                raise DataError(
                    f"no record with a text in {name}",
                    where=name,
                    hint='is the file complete? A record is {"en": "A dog.", "de": "Ein Hund."}, each on a line of its '
                    "own or in one array",
                    code="data.no-lines",
                )
            left, right = _choose_columns(name, texts, source, target, named=True)
            _say_columns(name, left, right)
            if form == "parquet":
                return ParquetSource(parquet=name, source=left, target=right)
            return JsonlSource(jsonl=name, source=left, target=right)
        case _:
            header, rows = _sample(name, form)
            names = header or [str(number) for number in range(len(rows[0]) if rows else 2)]
            columns = dict(zip(names, zip(*rows, strict=True), strict=False))
            if header is None:  # a language then says what is there, not where
                source, target = (None if side and language_of_column(side) else side for side in (source, target))
            left, right = _choose_columns(name, columns, source, target, named=header is not None)
            _say_columns(name, left, right)
            sides = {"source": left, "target": right} if header else {"source": int(left), "target": int(right)}
            return TsvSource(tsv=name, **sides) if form == "tsv" else CsvSource(csv=name, **sides)


def _sample(name: str, form: str) -> tuple[list[str] | None, list[list[str]]]:
    is_table = any(suffix.lower() in (".csv", ".tsv") for suffix in Path(name).suffixes)
    try:
        header, rows = sample_table(name, form, least_share=0.0 if is_table else _LEAST_SHARE)
    except DataError as error:
        if error.code == "data.column" and not is_table:
            error.hint = "a text has a file for each side: --source FILE --target FILE, or --valid (--test) twice"
        raise
    if header is None and not rows:
        raise DataError(f"{name} is empty", where=name, hint="is it the right file?", code="data.no-lines")
    return header, rows


def _say_columns(name: str, source: str, target: str) -> None:
    console.say_once(f"{name}: source column {show(source)}, target column {show(target)}")


def languages_of(source: OneFileSource) -> tuple[str | None, str | None]:
    """Languages of both sides by the names of its columns, or by a file name such as `corpus.en-de.tsv`."""
    sides = [source.source, source.target]
    if isinstance(source, XliffSource) and None in sides:
        sides = [*xliff_languages(source.file)] or sides  # a file without any unit
    left, right = (language_of_column(side) if isinstance(side, str) else None for side in sides)
    named = re.search(r"(?<![a-z])([a-z]{2})[-_]([a-z]{2})(?![a-z])", Path(source.file).name)
    if left is right is None and named and language_of_column(named[1]) and language_of_column(named[2]):
        return named[1], named[2]
    return left, right


def _form(name: str) -> str:
    """The form of a file, by its suffix or else by its first line."""
    path = Path(name)
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    for form, endings in _FORMS.items():
        if suffixes and suffixes[-1] in endings:
            return form
    if (kind := recognize(name)) in READ_AS:
        return READ_AS[str(kind)]
    first = next(read_lines(name, "replace"), "")
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    return "tsv" if "\t" in first else "csv"


def _choose_columns(
    name: str, columns: Mapping[str, Sequence[str]], source: str | None, target: str | None, *, named: bool
) -> tuple[str, str]:
    """Choose the columns of both sides by their names and a sample of their cells.

    `source` and `target` are names of columns, or languages that columns are named by; None leaves the choice to the
    names (`named`) or, without names, to the first two columns of text.

    Raises:
        UsageError: there is no such column, or the choice is not clear.
    """
    kinds = {column: kind_of_column(cells) for column, cells in columns.items()}
    text = [column for column, kind in kinds.items() if kind is None]
    if len(text) < 2:  # every sentence may begin alike
        text = [column for column, kind in kinds.items() if kind not in NOT_TEXT]
    wanted = [side if side is None else _find(name, side, columns) for side in (source, target)]
    if named and wanted == [None, None]:
        folded = {column.rpartition(".")[2].casefold(): column for column in reversed(text)}
        sides = [next((folded[n] for n in names if n in folded), None) for names in (SOURCE_NAMES, TARGET_NAMES)]
        languages = [column for column, kind in kinds.items() if language_of_column(column) and kind not in NOT_TEXT]
        if None not in sides:
            wanted = sides
        elif len(languages) == 2:
            wanted = [*languages]
        elif len(text) != 2:
            raise _unclear(name, languages if len(languages) > 2 else text, columns)
    left = [column for column in text if column not in wanted]
    for side in (0, 1):
        if wanted[side] is None:
            if not left or (named and len(left) > 1 and wanted[1 - side] is not None):
                raise _unclear(name, text, columns)
            wanted[side] = left.pop(0)
    return str(wanted[0]), str(wanted[1])


def _find(name: str, side: str, columns: Mapping[str, Sequence[str]]) -> str:
    folded = side.casefold()
    if side.isdecimal() and side not in columns and int(side) < len(columns):
        return list(columns)[int(side)]
    for column in columns:
        if folded in (column.casefold(), column.rpartition(".")[2].casefold()):
            return column
    found = [
        column
        for column in columns
        if language_of_column(column) and language_of_column(column) == language_of_column(side)
    ]
    if len(found) == 1:
        return found[0]
    raise UsageError(f"{name} has no column {side!r}", hint=f"its columns: {', '.join(columns)}", code="usage.value")


def _unclear(name: str, likely: Sequence[str], columns: Mapping[str, Sequence[str]]) -> UsageError:
    example = [*likely, *columns, "0", "1"][:2]
    what = f"which columns of {name} are the two sides? It has {show(', '.join(columns)) or 'none'}"
    return UsageError(what, hint=f"name them: --source {example[0]} --target {example[1]}", code="usage.needs")
