"""Counts of the rows of a table or the units of a translation memory, with those that cannot be read."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from seq2seq import console
from seq2seq.errors import DataError
from seq2seq.sanitize import shorten

ALWAYS_TOLERATED = 3
"""Unreadable rows that a file may have whatever the share, since one odd row in fifty says little."""

_HOPELESS = 1000
"""Unreadable rows before the first readable one after which a file is given up."""

_SHOWN_ROWS = 3
_SHOWN_CHARACTERS = 70


class _Fault(NamedTuple):
    kind: str
    place: str
    row: str
    hint: str


class RowReport:
    """Counts of one file. `what` names its parts: rows, lines or units."""

    def __init__(self, name: str, max_unreadable: float, what: str = "rows") -> None:
        self.name = name
        self.what = what
        self.read = 0
        """Rows with a pair."""
        self.unreadable: Counter[str] = Counter()
        """Number of unreadable rows by kind."""
        self.skipped: Counter[str] = Counter()
        """Number of rows by kind that rightly hold no pair, such as blank ones."""
        self._max = max_unreadable
        self._first: list[_Fault] = []

    def add_unreadable(self, kind: str, place: str, row: str, hint: str = "") -> None:
        """Count a row that cannot be read.

        Raises:
            DataError: many rows were unreadable, and none readable.
        """
        self.unreadable[kind] += 1
        if len(self._first) < _SHOWN_ROWS:
            self._first.append(_Fault(kind, place, row, hint))
        if not self.read and self.unreadable.total() >= _HOPELESS:
            raise self._nothing_readable()

    def finish(self) -> None:
        """Report the rows that were left out.

        Raises:
            DataError: no row could be read, or too many could not.
        """
        for kind, count in self.skipped.items():
            console.say_once(f"{self.name}: skipped {kind}: {count:,}")
        unreadable = self.unreadable.total()
        if not unreadable:
            return
        if not self.read:
            raise self._nothing_readable()
        rows = unreadable + self.read
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self.unreadable.most_common(4))
        what = f"{unreadable:,} of {rows:,} {self.what} cannot be read: {kinds}"
        shown = "".join(f"\n    {fault.place}: {show(fault.row)}" for fault in self._first)
        if unreadable > max(self._max * rows, ALWAYS_TOLERATED if self._max else 0):
            enough = math.ceil(1000 * unreadable / rows) / 1000
            raise DataError(
                f"{what}{shown}",
                where=self._first[0].place,
                hint=self._first[0].hint or f"correct them, or data.cleaning.max_unreadable={enough} leaves them out",
                code="data.unreadable",
            )
        console.warn_once(f"{self.name}: {what}; they are left out{shown}")

    def _nothing_readable(self) -> DataError:
        first = self._first[0]
        return DataError(
            f"none of the {self.what} can be read: {first.kind}",
            where=first.place,
            hint=first.hint or f"the first of them: {show(first.row)}",
            code="data.unreadable",
        )


def show(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """A text for a message: shortened, with control characters as escapes."""
    shown = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in shorten(text, limit))
    return "".join(shown)
