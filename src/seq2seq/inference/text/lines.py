"""Lines in, lines out: what counts as blank, what may stand in an output line, where a long line is split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}
# Everything that str.splitlines, or a reader with universal newlines, takes for the end of a line.
_BREAKS = {ord(mark): " " for mark in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"}
_WORD = re.compile(r"\S+\s*|\s+")
_CLAUSE_END = tuple(".!?;:,…。！？；：，、؟،।")
# Scripts without spaces break after these.
_WIDE_CLAUSE = re.compile(r"(?<=[。！？；：，、])")

Measure = Callable[[Sequence[str]], list[int]]
"""Tokens of each text."""


def is_blank(text: str) -> bool:
    """True where nothing can be seen: spaces, controls (NUL too) and zero-width marks only."""
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def readable(text: str) -> str:
    """The line without its own line end, NUL and what UTF-8 cannot hold (lone surrogates become `?`)."""
    return text.rstrip("\r\n").replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def single_line(text: str) -> str:
    """Line breaks of every kind become spaces, so that one translation is one line for every reader."""
    return text.translate(_BREAKS)


def split_to_fit(text: str, limit: int, measure: Measure) -> list[str]:
    """Cut a text into pieces of at most `limit` tokens: after a clause, else at a space, else anywhere.

    A single character that is longer than the limit stays whole.
    """
    atoms = [part for word in _WORD.findall(text) for part in _WIDE_CLAUSE.split(word) if part]
    pieces: list[str] = []
    for piece in _packed(atoms, measure(atoms), limit):
        pieces.extend(_halved(piece, limit, measure))
    return [piece.strip() for piece in pieces if not is_blank(piece)]


def _packed(atoms: Sequence[str], sizes: Sequence[int], limit: int) -> list[str]:
    """Join atoms while they fit; go back to the end of a clause where this leaves half a piece or more."""
    pieces: list[str] = []
    start, size = 0, 0
    place = 0
    while place < len(atoms):
        if place > start and size + sizes[place] > limit:
            end = place
            kept = size
            while end - 1 > start and not atoms[end - 1].rstrip().endswith(_CLAUSE_END) and 2 * kept > limit:
                end -= 1
                kept -= sizes[end]
            if 2 * kept <= limit:
                end = place
            pieces.append("".join(atoms[start:end]))
            start, size = end, sum(sizes[end:place])
            continue
        size += sizes[place]
        place += 1
    return [*pieces, "".join(atoms[start:])] if start < len(atoms) else pieces


def _halved(text: str, limit: int, measure: Measure) -> list[str]:
    """Atoms may be longer together than apart, and one word may be too long alone: halve until it fits."""
    done: list[str] = []
    waiting = [text]
    while waiting:
        part = waiting.pop()
        if len(part) < 2 or measure([part])[0] <= limit:
            done.append(part)
            continue
        cut = _cut_near(part, len(part) // 2)
        waiting += [part[cut:], part[:cut]]
    return done


def _cut_near(text: str, middle: int) -> int:
    """After a space near the middle if there is one, never before a mark that joins the last character."""
    space = text.rfind(" ", middle // 2, middle + middle // 2)
    if space > 0:
        return space + 1
    for cut in range(middle, min(len(text), middle + 16)):
        joined = text[cut] == "\u200d" or text[cut - 1] == "\u200d" or unicodedata.category(text[cut])[0] == "M"
        if not joined:
            return cut
    return middle
