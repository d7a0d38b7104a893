"""Names of ten languages, for the task of telling the language of a name."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import resources

_SPLITS = ("train", "valid", "test")


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    text = resources.files("seq2seq.data.builtin").joinpath("names.tsv").read_text(encoding="utf-8")
    rows: list[tuple[str, str]] = []
    for line in text.splitlines()[1:]:
        name, language = line.split("\t")
        rows.append((name, language))
    return tuple(rows)


def _split_of(name: str) -> str:
    bucket = zlib.crc32(name.encode("utf-8")) % 10
    return {0: "valid", 1: "test"}.get(bucket, "train")


def names(split: str) -> list[tuple[str, str]]:
    """(name, language) pairs of one split; the splits are fixed and about 80, 10 and 10 percent."""
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(_SPLITS)}")
    return [row for row in _rows() if _split_of(row[0]) == split]
