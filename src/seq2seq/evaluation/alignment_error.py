"""Alignment error rate, precision and recall against manual alignments (Och and Ney 2003)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from seq2seq import console
from seq2seq.errors import DataError

Links = Iterable[tuple[int, int]]

_PHARAOH = re.compile(r"(\d+)([-?p])(\d+)")
_NUMBERED = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s+([SP]))?")


class GoldAlignment(NamedTuple):
    """Manual links of a pair of sentences."""

    sure: frozenset[tuple[int, int]]
    """(source word, target word), counted from 0."""
    possible: frozenset[tuple[int, int]]
    """Includes the sure links."""


class AlignmentScore(NamedTuple):
    """Scores of a whole set, 0 to 100; A are the links, S the sure and P the possible manual links (S within P)."""

    error_rate: float
    """1 - (|A in S| + |A in P|) / (|A| + |S|)"""
    precision: float
    """|A in P| / |A|"""
    recall: float
    """|A in S| / |S|"""
    links: int
    """|A|"""

    def __str__(self) -> str:
        parts = f"precision {self.precision:.1f}, recall {self.recall:.1f}, {self.links:,} links"
        return f"AER {self.error_rate:.1f} ({parts})"


def score_alignments(found: Sequence[Links], gold: Sequence[GoldAlignment]) -> AlignmentScore:
    """The error rate of links (source word, target word), for each sentence, against the gold alignments.

    Raises:
        DataError: the numbers of sentences differ, or there is no sure link.
    """
    if len(found) != len(gold):
        raise DataError(
            f"{len(found):,} alignments but {len(gold):,} gold ones",
            hint="give one line for each sentence pair",
            code="data.line-counts",
        )
    total = matched_sure = matched_possible = sure = 0
    for links, reference in zip(found, gold, strict=True):
        links = set(links)
        total += len(links)
        sure += len(reference.sure)
        matched_sure += len(links & reference.sure)
        matched_possible += len(links & (reference.possible | reference.sure))
    if sure == 0:
        raise DataError("the gold alignments hold no sure link", hint="is this the right file?", code="data.alignment")
    return AlignmentScore(
        100.0 * (1.0 - (matched_sure + matched_possible) / (total + sure)),
        100.0 * matched_possible / max(1, total),
        100.0 * matched_sure / sure,
        total,
    )


def read_gold(
    lines: Iterable[str], *, name: str = "gold", first: int = 0, lengths: Sequence[tuple[int, int]] = ()
) -> list[GoldAlignment]:
    """Gold alignments in one of two formats, which the first line decides:

    * a line for each pair: `0-0 1-2 3?3`, where `-` is sure and `?` or `p` possible
    * a line for each link: `1 0 0 S`, the number of the pair (from 1), source word, target word, and `S` (the default)
      or `P`

    Args:
        lines: lines of the file.
        name: name of the file for messages.
        first: number of the first word of a sentence, 0 or 1.
        lengths: source and target words of each pair, if known: links beyond them are left out with a warning, and
            pairs without links count in the second format too.

    Raises:
        DataError: a malformed line, or a word 0 if `first` is 1.
    """
    rows = [line.strip() for line in lines]
    numbered = _NUMBERED.fullmatch(next((row for row in rows if row), "")) is not None
    pairs = _numbered(rows, name, len(lengths)) if numbered else [_pharaoh(row, name, n) for n, row in enumerate(rows)]
    shifted = [[(i - first, j - first, sure) for i, j, sure in pair] for pair in pairs]
    if any(min(i, j) < 0 for pair in shifted for i, j, _ in pair):
        raise DataError(
            f"{name} counts words from 0, not from 1", where=name, hint="leave the option out", code="data.alignment"
        )
    kept = [_within(pair, lengths[n] if n < len(lengths) else None) for n, pair in enumerate(shifted)]
    if lost := sum(map(len, shifted)) - sum(map(len, kept)):
        console.warn(f"{name}: {lost} links lie beyond the end of their sentence and are left out")
    return [
        GoldAlignment(frozenset((i, j) for i, j, sure in pair if sure), frozenset((i, j) for i, j, _ in pair))
        for pair in kept
    ]


_Link = tuple[int, int, bool]


def _pharaoh(row: str, name: str, number: int) -> list[_Link]:
    links = []
    for text in row.split():
        if (found := _PHARAOH.fullmatch(text)) is None:
            raise _malformed(text, name, number)
        links.append((int(found[1]), int(found[3]), found[2] == "-"))
    return links


def _numbered(rows: Sequence[str], name: str, count: int) -> list[list[_Link]]:
    pairs: list[list[_Link]] = [[] for _ in range(count)]
    for number, row in enumerate(rows):
        if not row:
            continue
        if (found := _NUMBERED.fullmatch(row)) is None or int(found[1]) < 1:
            raise _malformed(row, name, number)
        place = int(found[1])
        if count and place > count:
            raise DataError(
                f"a link of pair {place:,}, but there are {count:,} pairs",
                where=f"{name}:{number + 1}",
                code="data.alignment",
            )
        pairs.extend([] for _ in range(place - len(pairs)))
        pairs[place - 1].append((int(found[2]), int(found[3]), found[4] != "P"))
    return pairs


def _malformed(text: str, name: str, number: int) -> DataError:
    return DataError(
        f"no alignment: {text[:40]!r}",
        where=f"{name}:{number + 1}",
        hint="lines such as `0-0 1-2 3?3`, or `1 0 0 S` for each link",
        code="data.alignment",
    )


def _within(pair: Sequence[_Link], size: tuple[int, int] | None) -> list[_Link]:
    return [link for link in pair if size is None or (link[0] < size[0] and link[1] < size[1])]
