"""Batches of text: lines in chunks, chunks encoded to sentences, sentences in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq import console
from seq2seq.decoding.interface import Sentence
from seq2seq.decoding.segmentation import readable, split_sentences, split_to_fit
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.fixed_text import is_blank
from seq2seq.special_tokens import PAD

_CHUNK_CHARACTERS = 2_000_000
"""Maximum characters of a chunk: bounds its memory, and the work that is lost when the process is killed."""
_BLANK_LINES = 8192
_ENCODED_LINES = 512
"""Lines encoded at a time: enough to sort by length, few enough for the model to start soon."""
_MIN_BATCH, _MIN_SHARE = 16, 8
"""No batch is made smaller than 16 sentences, or 1/8 of the lines of a chunk."""
_MAX_WARNINGS = 5
"""Maximum number of single warnings about long lines in a chunk."""
_MULTIPLE = 8
"""Batch sizes are multiples of this where possible: oneDNN prepares kernels for every size."""

Encode = Callable[[list[str]], list[list[int]]]
"""Token ids of each text, without BOS and EOS."""

More = Callable[[], bool]
"""Whether the next line of an input is there, or comes in a moment."""

Split = Callable[[str], list[str]]
"""The sentences of a text."""

_SPLIT_LONG: Split = partial(split_sentences, language="de")
"""Splits long lines of any language: as in German, a full stop after a number may belong to an ordinal."""


class Line(NamedTuple):
    """A source line."""

    text: str
    prefix: str = ""
    """Text that the translation begins with."""


def split_chunks(lines: Iterable[Line], max_lines: int, more: More | None = None) -> Iterator[list[Line]]:
    """Chunks of at most `max_lines` lines, fewer if they are long or if there are no more for the moment.

    The lines of a chunk are sorted by length for batches with little padding. Blank lines cost next to nothing: a chunk
    may have some thousands in addition.
    """
    chunk: list[Line] = []
    size = full = 0
    for line in lines:
        chunk.append(line)
        size += len(line.text)
        full += not is_blank(line.text)
        enough = full >= max_lines or len(chunk) >= max_lines + _BLANK_LINES or size >= _CHUNK_CHARACTERS
        if enough or (more is not None and not more()):
            yield chunk
            chunk, size, full = [], 0, 0
    if chunk:
        yield chunk


def encode_texts(encode: Encode, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text; an empty list for a blank text."""
    cleaned = [readable(text) for text in texts]
    full = [index for index, text in enumerate(cleaned) if not is_blank(text)]
    ids: list[list[int]] = [[] for _ in cleaned]
    for index, row in zip(full, encode([cleaned[index] for index in full]), strict=True):
        ids[index] = row
    return ids


def encode_chunk(
    chunk: Sequence[Line],
    start: int,
    encode: Encode,
    limit: int,
    split: Split | None,
    tags: TargetTags,
    text_of: Callable[[Line], str],
) -> Iterator[Sentence]:
    """Sentences of 1 to `limit` tokens, roughly by falling length: none of a blank line, several of a long one.

    `Sentence.key` is (number of the line, number of the sentence in it), both counted from 0, the line from `start`.
    With `split` every line is split into sentences; without, only a line that is too long, as a model of sentences
    would leave out much of several at once. Each part has the target tag of its line. Warns of lines (with `split`, of
    sentences) that are too long. `text_of` gives the text of a line that is translated; a blank one is no sentence.
    """
    too_long: list[tuple[int, str]] = []
    order = sorted(
        (i for i, line in enumerate(chunk) if not is_blank(line.text)), key=lambda index: -len(chunk[index].text)
    )
    for begin in range(0, len(order), _ENCODED_LINES):
        indices = order[begin : begin + _ENCODED_LINES]
        texts = [tags.split(text_of(chunk[index])) for index in indices]
        parts = [
            [tag + part for part in ([text] if split is None else split(text)) if not is_blank(part)]
            for tag, text in texts
        ]
        rows = iter(encode_texts(encode, [text for part in parts for text in part]))
        sentences: list[Sentence] = []
        for index, (tag, _), part in zip(indices, texts, parts, strict=True):
            encoded: list[tuple[list[int], str]] = []
            for text in part:
                ids = next(rows)
                if len(ids) <= limit:
                    encoded.append((ids, text))
                    continue
                pieces = _split_to_fit(text.removeprefix(tag), tag, encode, limit, split or _SPLIT_LONG)
                encoded += pieces
                reason = f"{len(ids)} tokens, more than the {limit} read at once; translated in {len(pieces)} parts"
                too_long.append((start + index + 1, reason))
            full = (pair for pair in encoded if pair[0])
            sentences += [Sentence(ids, key=(start + index, n), text=text) for n, (ids, text) in enumerate(full)]
        yield from sorted(sentences, key=lambda sentence: -len(sentence.ids))
    for number, reason in sorted(too_long)[:_MAX_WARNINGS]:
        console.warn(f"line {number}: {reason}")
    if len(too_long) > _MAX_WARNINGS:
        console.warn(f"{len(too_long) - _MAX_WARNINGS:,} more of these {len(chunk):,} lines are translated in parts")


def _split_to_fit(text: str, tag: str, encode: Encode, limit: int, split: Split) -> list[tuple[list[int], str]]:
    """The ids and texts of the sentences, and of the parts of sentences that are too long themselves, with the tag."""

    def measure(parts: Sequence[str]) -> list[int]:
        return [len(part) for part in encode(list(parts))]

    room = max(1, limit - (measure([tag])[0] if tag else 0))
    texts = [tag + part for sentence in split(text) for part in split_to_fit(sentence, room, measure)]
    return [(ids[:limit], part) for ids, part in zip(encode(texts), texts, strict=True) if ids]


def make_batches(
    sentences: Iterable[Sentence], lines: int, max_tokens: int, max_sentences: int, share: float = 0.0
) -> Iterator[list[Sentence]]:
    """Batches of at most `max_sentences` sentences and `max_tokens` padded tokens (EOS counted), or of one sentence.

    With `share`, a batch holds at most that share of the `lines` that are left, but is not made tiny: workers that run
    side by side then end together. The batches depend on the text and these limits alone.
    """
    min_size = max(_MIN_BATCH, lines // _MIN_SHARE)

    def max_size() -> int:
        size = max(min_size, int(lines * share))
        return min(max_sentences, -(-size // _MULTIPLE) * _MULTIPLE) if share else max_sentences

    batch: list[Sentence] = []
    longest, limit = 0, max_size()
    for sentence in sentences:
        longest = max(longest, len(sentence.ids) + 1)
        if batch and (len(batch) >= limit or (len(batch) + 1) * longest > max_tokens):
            size = len(batch) if len(batch) < 2 * _MULTIPLE else len(batch) // _MULTIPLE * _MULTIPLE
            yield batch[:size]
            lines -= size
            limit = max_size()
            batch = batch[size:]
            longest = max(len(rest.ids) + 1 for rest in [*batch, sentence])
        batch.append(sentence)
    if batch:
        yield batch


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first: size * longest <= `budget`, or the size is 1."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B L"]:
    """The rows as one tensor, padded with PAD."""
    longest = max(len(row) for row in rows)
    filled = [[*row, *[PAD] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=device)
