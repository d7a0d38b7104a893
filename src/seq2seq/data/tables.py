"""Tables with delimited columns (TSV, CSV): delimiter, quoting and header are recognized from the first rows."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypedDict

from seq2seq import console
from seq2seq.config.sources import CsvSource, TsvSource
from seq2seq.data.columns import is_header
from seq2seq.data.files import LONGEST_LINE, DecodingErrors, Pair, one_line, read_lines
from seq2seq.data.unreadable_rows import RowReport, show
from seq2seq.errors import DataError, closest

csv.field_size_limit(LONGEST_LINE)  # of the whole process; by default 128 KiB

_DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
"""The most reliable first, since sentences have commas of their own."""

_SAMPLE_LINES = 3000
_SAMPLE_CHARACTERS = 1 << 22
_LONGEST_CELL = 100
"""Lines of one cell. A quotation mark that is not closed would take the rest of the file otherwise."""

_COMMON_WIDTH = 0.25
"""Least share of the rows of a table that have the usual number of columns: the last column may be optional."""

_LEAST_SINGLE_QUOTED = 3
"""Least number of rows with `'` around the cells that need it, such as those with a delimiter."""


class _CsvForm(TypedDict):
    """Arguments of `csv.reader`."""

    delimiter: str
    quotechar: str
    strict: bool


class Dialect(NamedTuple):
    """Form of a table."""

    delimiter: str
    quote: str
    """Mark around cells: `"`, or `'` where the cells are plainly quoted so; empty if quotation marks are text."""
    widths: frozenset[int]
    """Numbers of columns that a row may have."""
    width: int
    """Number of columns of most rows."""


class Record(NamedTuple):
    """One row: its cells, or the reason why it cannot be read."""

    line: int
    raw: str
    cells: list[str]
    fault: str = ""


def read_table(source: TsvSource | CsvSource, errors: DecodingErrors, report: RowReport, option: str) -> Iterator[Pair]:
    """Yield the pairs of a table. Rows that cannot be read, and blank ones, go to the report.

    Raises:
        DataError: as `read_lines`; there is no delimiter, or no such column.
    """
    name = source.file
    lines, sample = _sample(name, errors, option)
    if not sample:
        return
    dialect = _detect(sample, name, source.form)
    left, right, header = _columns(source, sample, dialect)
    widths = frozenset(width for width in dialect.widths if width > max(left, right))
    records = _records(chain(sample, lines), dialect.delimiter, dialect.quote, widths)
    for record in records:
        if not any(cell.strip() for cell in record.cells or [record.raw]):
            report.skipped["blank rows"] += 1
        elif header is not None:
            header = None
        elif record.fault:
            report.add_unreadable(record.fault, f"{name}:{record.line}", record.raw)
        else:
            place = f"{name}:{record.line}"
            report.read += 1
            yield one_line(record.cells[left], place, errors), one_line(record.cells[right], place, errors)


def read_rows(
    name: str, form: str, errors: DecodingErrors, option: str
) -> tuple[Dialect, list[str], bool, Iterator[Record]]:
    """The form of a table, the cells of its first row, whether that is a header, and all rows.

    Raises:
        DataError: as `read_lines`; the file is empty, or there is no delimiter.
    """
    lines, sample = _sample(name, errors, option, silent=True)
    if not any(line.strip() for line in sample):
        raise DataError(f"{name} is empty", where=name, hint="is it the right file?", code="data.no-lines")
    try:
        dialect = _detect(sample, name, form)
    except DataError:
        dialect = Dialect("\t" if form == "tsv" else ",", '"', frozenset({1}), 1)
        widths = [len(record.cells) for record in _records(iter(sample), dialect.delimiter, '"') if record.raw]
        if 2 * widths.count(1) < len(widths):
            raise
    first = _first_row(sample, dialect)
    rows = _records(chain(sample, lines), dialect.delimiter, dialect.quote, dialect.widths)
    return dialect, first, is_header(first, _full_rows(sample, dialect)), _with_mark(rows, name, errors, option)


def _with_mark(rows: Iterator[Record], name: str, errors: DecodingErrors, option: str) -> Iterator[Record]:
    """The rows with the line `sep=;` as it is; it is blank in them."""
    first = next(rows)
    line = next(read_lines(name, errors, option=option, silent=True))
    yield first if first.raw else first._replace(raw=line, cells=[])
    yield from rows


def is_separator_line(line: str) -> bool:
    """Whether a first line names the delimiter for Excel: `sep=;`."""
    return re.fullmatch(r'"?sep=."?', line, re.IGNORECASE) is not None


def as_cell(text: str, dialect: Dialect) -> str:
    """A text as a cell of a table: quoted if it has to be; without quotes, spaces stand for delimiters."""
    if not dialect.quote:
        return text.replace(dialect.delimiter, " ")
    return _written([text], dialect.delimiter, dialect.quote, f"{dialect.quote}\n{dialect.delimiter}")


def sample_table(name: str, form: str, *, least_share: float = 0.0) -> tuple[list[str] | None, list[list[str]]]:
    """The header of a table, if it has one, and its first rows, all of the same length.

    Raises:
        DataError: no delimiter gives at least `least_share` of the rows the same number of columns.
    """
    _, sample = _sample(name, "replace", "")
    if not sample:
        return None, []
    dialect = _detect(sample, name, form, least_share)
    first, rows = _first_row(sample, dialect), _full_rows(sample, dialect)
    header = first if is_header(first, rows) else None
    return header, rows[header is not None and rows[:1] == [first] :]


def _sample(name: str, errors: DecodingErrors, option: str, *, silent: bool = False) -> tuple[Iterator[str], list[str]]:
    """The first lines of a file, and the rest. The line `sep=;` that Excel understands is left out."""
    lines = read_lines(name, errors, option=option, silent=silent)
    sample: list[str] = []
    size = 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) == _SAMPLE_LINES or size > _SAMPLE_CHARACTERS:
            break
    if sample and is_separator_line(sample[0]):
        sample[0] = ""  # a blank row, so that the numbers of lines stay right
    return lines, sample


def _records(
    lines: Iterator[str], delimiter: str, quote: str, widths: frozenset[int] | None = None
) -> Iterator[Record]:
    """Split lines into rows. A quoted cell may hold delimiters, doubled quotation marks, and newlines.

    After a row of several lines that cannot be right, reading continues with its second line.
    """
    ahead: deque[str] = deque()
    number = 0
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        number += 1
        taken = [line]
        if not quote or quote not in line:
            record = Record(number, line, line.split(delimiter))
        else:
            record = _quoted_record(number, taken, ahead, lines, delimiter, quote)
        record = _check_width(record, widths)
        if record.fault:
            ahead.extendleft(reversed(taken[1:]))
            taken = taken[:1]
        yield record
        number += len(taken) - 1


def _quoted_record(
    number: int, taken: list[str], ahead: deque[str], lines: Iterator[str], delimiter: str, quote: str
) -> Record:
    """Parse a row with quoted cells; the further lines that it takes are added to `taken`."""

    def pull() -> Iterator[str]:
        yield taken[0] + "\n"
        while len(taken) < _LONGEST_CELL and (line := ahead.popleft() if ahead else next(lines, None)) is not None:
            taken.append(line)
            yield line + "\n"

    # A row on one line, as nearly all are, has an even number of quotation marks.
    rows = (taken[0],) if taken[0].count(quote) % 2 == 0 else pull()
    form: _CsvForm = {"delimiter": delimiter, "quotechar": quote, "strict": True}
    try:
        cells = next(csv.reader(rows, **form, skipinitialspace=delimiter != "\t"))
    except csv.Error as error:
        if cells := _escaped_cells(taken[0], form) or _cells_with_apostrophes(taken[0], form):
            ahead.extendleft(reversed(taken[1:]))
            del taken[1:]
            return Record(number, taken[0], cells)
        fault = "unclosed quotation mark" if "unexpected end" in str(error) else "quotation mark that is not doubled"
        return Record(number, taken[0], [], fault)
    return Record(number, "\n".join(taken) if taken[1:] else taken[0], cells)


def _escaped_cells(line: str, form: _CsvForm) -> list[str]:
    """The cells of a row on one line with backslashes before quotation marks, as MySQL writes; [] if it is none."""
    if "\\" + form["quotechar"] not in line:
        return []
    try:
        return next(csv.reader([line], **form, doublequote=False, escapechar="\\"))
    except csv.Error:
        return []


def _cells_with_apostrophes(line: str, form: _CsvForm) -> list[str]:
    """The cells of a row on one line in single quotes, with apostrophes that are not doubled; [] if it is none."""
    quote = form["quotechar"]
    if quote != "'" or len(line) < 2 or not line.startswith(quote) or not line.endswith(quote):
        return []
    return line[1:-1].split(f"{quote}{form['delimiter']}{quote}")


def _check_width(record: Record, widths: frozenset[int] | None) -> Record:
    if widths is None or record.fault or len(record.cells) in widths or not record.raw.strip():
        return record
    most = max(widths)
    if len(record.cells) > most and not any(cell.strip() for cell in record.cells[most:]):
        return record  # empty columns at the end
    found = len(record.cells)
    expected = " or ".join(map(str, sorted(widths)))
    return record._replace(fault=f"{console.counted(found, 'column')} instead of {expected}")


def _detect(sample: Sequence[str], name: str, form: str, least_share: float = 0.0) -> Dialect:
    """Recognize the form of a table.

    Raises:
        DataError: no delimiter gives rows, or a large enough share of them, of the same number of columns.
    """
    best: tuple[float, Dialect] | None = None
    for delimiter in ["\t"] if form == "tsv" else _DELIMITERS:
        plain, quoted = (_judge(sample, delimiter, quote) for quote in ("", '"'))
        if _is_quoted(sample, delimiter, "'"):
            quoted, is_quoted = _judge(sample, delimiter, "'"), True
        elif form == "csv" or abs(plain[0] - quoted[0]) < 0.005:  # where both fit alike, the marks themselves decide
            is_quoted = _is_quoted(sample, delimiter, '"', by_default=form == "csv")
        else:
            is_quoted = quoted[0] > plain[0]
        share, dialect = quoted if is_quoted else plain
        if dialect.width > 1 and (best is None or share > best[0] + 0.02):
            best = (share, dialect)
    if best is None or best[0] < least_share:
        kinds = "tab" if form == "tsv" else "tab, semicolon, comma or bar"
        raise DataError(
            f"no {kinds} between columns in the first {len(sample):,} lines",
            where=f"{name}:1",
            hint="commas or semicolons: {csv: FILE}; two files, a sentence a line: {source: FILE, target: FILE}",
            code="data.column",
        )
    return best[1]


def _judge(sample: Sequence[str], delimiter: str, quote: str) -> tuple[float, Dialect]:
    """The share of the rows with the most frequent number of columns, and the form that it belongs to."""
    widths = Counter(
        0 if record.fault else len(record.cells)
        for record in _records(iter(sample), delimiter, quote)
        if record.raw.strip()
    )
    rows = max(1, widths.total())
    wide = Counter({width: count for width, count in widths.items() if width > 1})
    width, count = wide.most_common(1)[0] if wide else (0, 0)
    common = {other for other, count in wide.items() if count > _COMMON_WIDTH * rows}
    return count / rows, Dialect(delimiter, quote, frozenset({width, *common}), width)


def _is_quoted(sample: Sequence[str], delimiter: str, quote: str, *, by_default: bool = False) -> bool:
    """Whether cells are quoted as CSV does, or quotation marks are text, as in most published TSV corpora.

    A writer of CSV quotes all cells, or those with a quotation mark, a delimiter or a newline. Rows with quotation
    marks that no such writer writes are evidence of plain text. A few quoted rows do not say that `'` is such a mark.
    """
    minimal = everything = faults = marked = rows = 0
    for record in _records(iter(sample), delimiter, quote):
        rows += bool(record.raw.strip())
        if quote not in record.raw:
            continue
        marked += 1
        faults += bool(record.fault)
        raw, cells = record.raw, record.cells
        # Excel quotes cells with a comma in every format.
        minimal += any(raw == _written(cells, delimiter, quote, f"{quote}\n{more}{delimiter}") for more in ("", ",;"))
        everything += any(
            raw == _written(cells, delimiter, quote, "", inner) for inner in (quote * 2, rf"\{quote}", "'")
        )
    if by_default:
        return 2 * faults <= marked
    if everything > 0.9 * rows:
        return True
    return minimal > 0.9 * marked and (quote == '"' or minimal >= _LEAST_SINGLE_QUOTED)


def _written(cells: Sequence[str], delimiter: str, quote: str, special: str, inner: str = "") -> str:
    """A row as CSV writers write it: cells with a `special` character are quoted, or all but numbers if it is empty.

    `inner` stands for a quotation mark within a cell; it is doubled by default.
    """

    def written(cell: str) -> str:
        needed = any(char in cell for char in special) if special else re.fullmatch(r"[-\d.]*", cell) is None
        return quote + cell.replace(quote, inner or quote * 2) + quote if needed else cell

    return delimiter.join(map(written, cells))


def _full_rows(sample: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """The rows of a sample that have the usual number of columns."""
    records = _records(iter(sample), dialect.delimiter, dialect.quote, dialect.widths)
    return [record.cells for record in records if len(record.cells) == dialect.width]


def _first_row(sample: Sequence[str], dialect: Dialect) -> list[str]:
    records = _records(iter(sample), dialect.delimiter, dialect.quote)
    cells = next(record.cells for record in records if record.raw.strip())
    return [cell.strip() for cell in cells]


def _columns(
    source: TsvSource | CsvSource, sample: Sequence[str], dialect: Dialect
) -> tuple[int, int, list[str] | None]:
    """Numbers of both columns, and the header if there is one.

    Raises:
        DataError: there is no such column.
    """
    name, first = source.file, _first_row(sample, dialect)
    sides = (source.source, source.target)
    by_name = any(isinstance(side, str) for side in sides)
    header = first if by_name or is_header(first, _full_rows(sample, dialect)) else None
    left, right = (_column_number(side, header or [], name, dialect.width) for side in sides)
    form = [f"columns separated by {_DELIMITERS[dialect.delimiter]}"] if source.form == "csv" else []
    if dialect.quote == "'":
        form += ["cells in 'single quotes'"]
    elif dialect.quote and (source.form == "tsv" or '"' in "".join(sample)):
        form += ["cells quoted as CSV does"]
    form += [f"header: {show(', '.join(header))}"] if header else []
    if form:
        console.say_once(f"{name}: {'; '.join(form)}")
    return left, right, header


def _column_number(column: int | str, header: list[str], name: str, width: int) -> int:
    if isinstance(column, int):
        if column < width:
            return column
        raise DataError(
            f"there is no column {column}: the rows have {width} columns, numbered from 0",
            where=f"{name}:1",
            hint=f"source: 0, target: 1; the last is {width - 1}",
            code="data.column",
        )
    folded = [cell.casefold() for cell in header]
    if column in header or folded.count(column.casefold()) == 1:
        return header.index(column) if column in header else folded.index(column.casefold())
    near = closest(column, header)
    hint = f"did you mean {near!r}?" if near else f"the header row holds: {show(', '.join(header))}"
    raise DataError(f"no column named {column!r}", where=f"{name}:1", hint=hint, code="data.column")
