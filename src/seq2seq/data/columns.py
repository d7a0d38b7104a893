"""Columns of a table: names, languages, and columns that hold no text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from seq2seq.fixed_text import MARKS
from seq2seq.languages import language_of_column

_MOST = 0.9
"""Share of a column's cells from which on it is of one kind."""

_FEWEST = 20
"""Least number of cells by which a column is judged."""

_NUMBER = re.compile(r"(?=\D*\d)[\s\d.,:;%+/()*eE-]+")
_ADDRESS = re.compile(r"\s*(?:\w+://|www\.)\S+\s*")
_IDENTIFIER = re.compile(r"(?=\S*\d)(?=\S*[\W_\d]{2}|\S{12})[\w.:#/+-]+")
NOT_TEXT = {"numbers": _NUMBER, "web addresses": _ADDRESS, "identifiers": _IDENTIFIER}
_PREFIX = 12

SOURCE_NAMES = ("source", "src", "source_text", "source_sentence", "input", "original")
TARGET_NAMES = ("target", "tgt", "trg", "target_text", "target_sentence", "output", "translation", "reference", "ref")
_NAMES = frozenset([*SOURCE_NAMES, *TARGET_NAMES, "id", "text", "sentence", "label", "score", "license", "url"])
"""Other names of columns."""

_NAME = re.compile(rf"[^\W\d][\w .{MARKS}-]{{0,30}}")


def names_source(name: str) -> bool:
    """Whether a column is named after its language, or as text to translate: `en`, `source`, `text`."""
    return name.strip().casefold().replace(" ", "_") in (*SOURCE_NAMES, "text", "sentence") or _is_language(
        name.strip()
    )


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the cells of a first row are names of columns; `rows` are the rows below it.

    Two of them must be known, such as `en` and `source`. Codes of three letters, which may be words, are enough if at
    least one is known and the texts below are longer: `en` and `yor`, `eng` and `deu`.
    """
    names = [cell.strip() for cell in first]
    while names and not names[-1]:
        names.pop()  # empty columns at the end
    if len({name.casefold() for name in names}) < len(names) or not all(map(_NAME.fullmatch, names)):
        return False
    known = sum(map(_is_known, names))
    lengths = [len(cell) for row in rows for cell in row]
    codes = sum(_is_known(name) or re.fullmatch("[a-z]{3}", name) is not None for name in names)
    is_any_known = known == 1 or any(map(language_of_column, names))
    return known >= 2 or (is_any_known and codes == len(names) > 1 and sum(lengths) > 12 * len(lengths))


def _is_known(name: str) -> bool:
    name = name.casefold().replace(" ", "_")
    return _is_language(name) or name in _NAMES or re.fullmatch("[a-z]{3}_[a-z]{4}", name) is not None


def _is_language(name: str) -> bool:
    # Single words alone: the language of `translation.en` is known, too, but not as the name of a column.
    is_word = re.fullmatch(rf"(?:[^\W\d_]|[{MARKS}])+([-_][a-z]{{2,4}})?", name.casefold()) is not None
    return is_word and re.match(r"[a-z]{3}(?![a-z])", name) is None and language_of_column(name) is not None


def kind_of_column(cells: Sequence[str]) -> str | None:
    """Content of a column that is plainly not text: numbers, web addresses, or nearly the same in every row."""
    cells = [cell for cell in cells if cell.strip()]
    if len(cells) < _FEWEST:
        return None
    for kind, form in NOT_TEXT.items():
        if sum(form.fullmatch(cell) is not None for cell in cells) > _MOST * len(cells):
            return kind
    beginnings = Counter(re.sub(r"\d+", "0", cell)[:_PREFIX] for cell in cells)
    if beginnings.most_common(1)[0][1] > _MOST * len(cells):
        return f"the same beginning in nearly every row ({beginnings.most_common(1)[0][0]}...)"
    return None
