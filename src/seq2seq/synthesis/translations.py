"""File of translations with their scores: it can be filtered again, and resumed after an interruption.

Each row has the score, the number of tokens, `cut` or nothing, and the text, with tabs between them. The last row is
JSON: the options that the translations were made with, and the SHA-256 of the lines that were translated.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq.config.differences import require_same_options
from seq2seq.decoding.translation import Translation
from seq2seq.errors import DataError
from seq2seq.synthesis.originals import Original

_LONGEST_END = 1 << 16


class Translated(NamedTuple):
    """The translation of a line."""

    score: float
    """log P(translation | line) / tokens, in nats, the end mark counted."""
    tokens: int
    """Without the end mark."""
    cut: bool
    """Whether it reached the maximum length."""
    text: str

    @classmethod
    def of(cls, found: Translation) -> Translated:
        """The row of a translator's output."""
        tokens = len(found.pieces)
        return cls(found.log_probability / (tokens + 1), tokens, found.cut, found.text)

    def row(self) -> str:
        """The row of the file."""
        return f"{self.score:.5f}\t{self.tokens}\t{'cut' if self.cut else ''}\t{self.text}\n"

    @classmethod
    def parse(cls, row: str) -> Translated:
        """Invert `row`."""
        score, tokens, cut, text = row.rstrip("\n").split("\t", 3)
        return cls(float(score), int(tokens), bool(cut), text)


class Contents(NamedTuple):
    """Number and SHA-256 of the lines of a text."""

    lines: int
    sha256: str

    @classmethod
    def of(cls, originals: Iterable[Original]) -> Contents:
        """Read the lines."""
        digest, count = hashlib.sha256(), 0
        for original in originals:
            digest.update(f"{original.text}\n".encode("utf-8", "surrogatepass"))
            count += 1
        return cls(count, digest.hexdigest())


def last_row(identity: Mapping[str, Any], contents: Contents) -> str:
    """The row that ends a complete file."""
    return json.dumps({"options": identity, "lines": contents.lines, "sha256": contents.sha256}) + "\n"


def is_complete(path: Path, identity: Mapping[str, Any], contents: Contents) -> bool:
    """Whether a file has all translations of these lines, made with these options.

    Raises:
        UsageError: they were made with other options.
        DataError: they are of other lines, or the file is damaged.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_END))
        end = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    try:
        record = json.loads(end)
        before, lines = dict(record["options"]), Contents(int(record["lines"]), str(record["sha256"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise _damaged(path) from None
    now = json.loads(json.dumps(dict(identity)))
    require_same_options(
        before, now, what="these translations were made", where=str(path), otherwise="another name with -o"
    )
    if lines != contents:
        raise DataError(
            f"these are the translations of {lines.lines:,} other lines, not of the {contents.lines:,} given",
            where=str(path),
            hint="give the same text again, or another name with -o",
            code="data.resume",
        )
    return True


def read_translations(path: Path) -> Iterator[Translated]:
    """Yield the rows of a complete file but the last. Raises `DataError` if it is damaged."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for row in file:
            if file.tell() == size:
                return
            try:
                yield Translated.parse(row.decode("utf-8"))
            except ValueError:
                raise _damaged(path) from None


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path} is damaged or not a file of translations",
        hint="delete it, and translate again",
        code="data.resume",
    )
