"""From lines of text to the rows of token ids that a model reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from seq2seq import console
from seq2seq.inference.text import is_blank, readable, split_to_fit

# A window of lines is sorted by length, so that batches hold little padding; both figures bound the memory.
_WINDOW_LINES = 4096
_WINDOW_CHARACTERS = 2_000_000

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without BOS and EOS."""


def windows(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines in lists of some thousand."""
    window: list[str] = []
    size = 0
    for line in lines:
        window.append(line)
        size += len(line)
        if len(window) >= _WINDOW_LINES or size >= _WINDOW_CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def visible_ids(encode: Encode, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, none for what cannot be seen."""
    cleaned = [readable(text) for text in texts]
    seen = [place for place, text in enumerate(cleaned) if not is_blank(text)]
    ids: list[list[int]] = [[] for _ in cleaned]
    for place, row in zip(seen, encode([cleaned[place] for place in seen]), strict=True):
        ids[place] = row
    return ids


def read_lines(window: Sequence[str], number: int, encode: Encode, limit: int) -> list[list[list[int]]]:
    """The parts of each line, each of 1 to `limit` ids: none for a blank line, several for a long one.

    Warns of each long line; `number` is that of the window's first line, counted from 0.
    """
    lines = []
    for place, ids in enumerate(visible_ids(encode, window)):
        if len(ids) <= limit:
            lines.append([ids] if ids else [])
            continue
        texts = split_to_fit(readable(window[place]), limit, lambda parts: [len(part) for part in encode(list(parts))])
        parts = [part[:limit] for part in encode(texts) if part]
        console.warn(
            f"line {number + place + 1}: {len(ids)} tokens, more than the {limit} read at once; "
            f"translated in {len(parts)} parts"
        )
        lines.append(parts)
    return lines
