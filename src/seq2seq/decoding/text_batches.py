"""From lines of text to the rows of token ids that a model reads, and to batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq import console
from seq2seq.decoding.segmentation import is_blank, readable, split_sentences, split_to_fit
from seq2seq.special_tokens import PAD

# A window of lines is sorted by length, so that batches hold little padding; it bounds the memory, and is what a kill
# costs at most.
_WINDOW_CHARACTERS = 2_000_000
# Lines encoded at a time: enough to sort, few enough for the model to begin soon.
_ENCODED_LINES = 512
# No batch is made smaller than both of these: so many sentences, and this part of a window.
_SMALLEST_BATCH, _SMALLEST_SHARE = 16, 8
_LINES_NAMED = 5
"""Long lines of a window that a warning names."""
_ROUND = 8
"""Batches of equal sizes share what is prepared for a size (oneDNN's kernels): multiples of this where they can be."""

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without BOS and EOS."""

Split = Callable[[str], list[str]]
"""A text to its sentences."""

_CAREFUL: Split = partial(split_sentences, language="de")
"""Of a language that may write ordinal numbers with a full stop."""


class Line(NamedTuple):
    """What is to be translated."""

    text: str
    prefix: str = ""
    """The translation begins with this."""


class Part(NamedTuple):
    """So much of a line as is read at once."""

    line: int
    """Place of the line in its window."""
    number: int
    """Place in the line."""
    ids: list[int]
    """At least one."""
    text: str
    """That they were made of."""


def windows(lines: Iterable[Line], most: int) -> Iterator[list[Line]]:
    """The lines in lists of so many at most, fewer where they are long."""
    window: list[Line] = []
    size = 0
    for line in lines:
        window.append(line)
        size += len(line.text)
        if len(window) >= most or size >= _WINDOW_CHARACTERS:
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


def read_parts(
    window: Sequence[Line], number: int, encode: Encode, limit: int, split: Split | None = None
) -> Iterator[Part]:
    """The parts of all lines, roughly by falling length: none of a blank line, several of a long one.

    A part has 1 to `limit` ids. With `split`, parts are also sentences; without, those of a long line are, as a model
    of sentences would leave much out of several at once. Warns of long lines (with `split`, long sentences); `number`
    is that of the window's first line, counted from 0.
    """
    too_long: list[tuple[int, str]] = []
    places = sorted(range(len(window)), key=lambda place: -len(window[place].text))
    for begin in range(0, len(places), _ENCODED_LINES):
        some = places[begin : begin + _ENCODED_LINES]
        texts = [[text] if split is None else split(text) for text in (readable(window[place].text) for place in some)]
        rows = iter(visible_ids(encode, [text for found in texts for text in found]))
        parts: list[Part] = []
        for place, found in zip(some, texts, strict=True):
            pieces: list[tuple[list[int], str]] = []
            for text in found:
                ids = next(rows)
                fits = len(ids) <= limit
                if fits:
                    pieces.append((ids, text))
                    continue
                smaller = _split_to_fit(text, encode, limit, split or _CAREFUL)
                pieces += smaller
                said = f"{len(ids)} tokens, more than the {limit} read at once; translated in {len(smaller)} parts"
                too_long.append((number + place + 1, said))
            full = [piece for piece in pieces if piece[0]]
            parts += [Part(place, part, ids, text) for part, (ids, text) in enumerate(full)]
        yield from sorted(parts, key=lambda part: -len(part.ids))
    for line, said in sorted(too_long)[:_LINES_NAMED]:
        console.warn(f"line {line}: {said}")
    if len(too_long) > _LINES_NAMED:
        console.warn(f"{len(too_long) - _LINES_NAMED:,} more of these {len(window):,} lines are translated in parts")


def _split_to_fit(text: str, encode: Encode, limit: int, split: Split) -> list[tuple[list[int], str]]:
    """Its sentences, and pieces of those that are too long themselves."""

    def measure(parts: Sequence[str]) -> list[int]:
        return [len(part) for part in encode(list(parts))]

    texts = [piece for sentence in split(text) for piece in split_to_fit(sentence, limit, measure)]
    return [(ids[:limit], part) for ids, part in zip(encode(texts), texts, strict=True) if ids]


def fill_batches(
    parts: Iterable[Part], lines: int, tokens: int, sentences: int, shares: float = 0.0
) -> Iterator[list[Part]]:
    """Batches of at most `tokens` padded tokens (EOS counted) and `sentences` parts, or of one part.

    With `shares`, no batch holds more than that share of the `lines` that are left, unless it would be tiny: those who
    work side by side end together. What is in a batch follows from the text and these limits alone.
    """
    fewest = max(_SMALLEST_BATCH, lines // _SMALLEST_SHARE)

    def most() -> int:
        share = max(fewest, int(lines * shares))
        return min(sentences, -(-share // _ROUND) * _ROUND) if shares else sentences

    batch: list[Part] = []
    longest, limit = 0, most()
    for part in parts:
        longest = max(longest, len(part.ids) + 1)
        if batch and (len(batch) >= limit or (len(batch) + 1) * longest > tokens):
            whole = len(batch) if len(batch) < 2 * _ROUND else len(batch) // _ROUND * _ROUND
            yield batch[:whole]
            lines -= whole
            limit = most()
            batch = batch[whole:]
            longest = max(len(waiting.ids) + 1 for waiting in [*batch, part])
        batch.append(part)
    if batch:
        yield batch


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first: size x longest <= `budget`, or the size is 1."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B L"]:
    """The rows as one tensor, PAD at their ends."""
    longest = max(len(row) for row in rows)
    filled = [[*row, *[PAD] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=device)
