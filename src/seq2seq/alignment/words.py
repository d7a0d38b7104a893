"""Words of a text and the tokenizer's pieces that make them up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq.decoding.segmentation import WORD, readable
from seq2seq.decoding.text_batches import encode_texts
from seq2seq.fixed_text import is_blank
from seq2seq.tokenizers.base import Tokenizer

_SPACES = re.compile("[▁ \t\n\r\f\v]+")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_BYTES = set(b" \t\n\r\f\v")


class Segments(NamedTuple):
    """A text as pieces and as words."""

    ids: list[int]
    """Without BOS and EOS."""
    pieces: list[str]
    """One for each id."""
    words: list[str]
    """Separated by white space; a target tag (`<2de>`) at the beginning is not a word."""
    shares: Float[Tensor, "P W"]
    """Share of each word in each piece, up to the last word that has one. Rows sum to 1, or to 0 for those of a tag."""
    cut: bool = False
    """Whether the text was truncated."""


class Segmenter:
    """Segments texts into pieces and words.

    Pieces and words are matched by their numbers of bytes without spaces, which works for every tokenizer, with or
    without word marks, with byte pieces and with Unicode normalisation.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._tags = set(tokenizer.tags)

    def segment(self, texts: Sequence[str], limit: int | None = None) -> list[Segments]:
        """The segments of each text, of at most `limit` pieces; words beyond them have none. Empty if blank."""
        rows = encode_texts(self.tokenizer.encode, texts)
        words = [[] if is_blank(text) else WORD.findall(readable(text)) for text in texts]
        sizes = self._sizes({word for each in words for word in each})
        found = []
        for ids, each in zip(rows, words, strict=True):
            segments = self._match(ids[:limit], each, sizes)
            found.append(segments._replace(cut=limit is not None and len(ids) > limit))
        return found

    def _sizes(self, words: set[str]) -> dict[str, int]:
        """Bytes of each word as the tokenizer spells it."""
        ordered = sorted(words)
        rows = self.tokenizer.encode(ordered)
        return {word: sum(map(_size, self.tokenizer.pieces(row))) for word, row in zip(ordered, rows, strict=True)}

    def _match(self, ids: list[int], words: list[str], sizes: dict[str, int]) -> Segments:
        pieces = self.tokenizer.pieces(ids)
        found: list[tuple[int, int, float]] = []
        ends = list(accumulate(sizes[word] for word in words))
        place = word = 0
        for row, piece in enumerate(pieces):
            size = _size(piece)
            # A piece without text, such as a single space, belongs to the word after it.
            while word < len(words) - 1 and ends[word] <= place:
                word += 1
            end = place + size
            found += [(row, column, share) for column, share in _overlaps(place, end, ends, word)]
            place = end
        # A text that is cut may have far more words than pieces.
        width = 1 + max((column for _, column, _ in found), default=len(words) - 1)
        shares = torch.zeros(len(pieces), width)
        if found:
            rows, columns, parts = zip(*found, strict=True)
            shares[list(rows), list(columns)] = torch.tensor(parts)
        if words and words[0] in self._tags:
            return Segments(ids, pieces, words[1:], shares[:, 1:])
        return Segments(ids, pieces, words, shares)


def _overlaps(begin: int, end: int, ends: Sequence[int], word: int) -> list[tuple[int, float]]:
    """(word, its share of the bytes `begin` to `end`), from `word` on; the last word takes bytes beyond the end."""
    if not ends:
        return []
    shares = []
    place = begin
    while word < len(ends) - 1 and ends[word] < end:
        if ends[word] > place:
            shares.append((word, (ends[word] - place) / (end - begin)))
            place = ends[word]
        word += 1
    return [*shares, (word, (end - place) / (end - begin) if end > begin else 1.0)]


def _size(piece: str) -> int:
    """Bytes of a piece's text, without white space."""
    if (match := _BYTE.fullmatch(piece)) is not None:
        return int(match[1], 16) not in _SPACE_BYTES
    return len(_SPACES.sub("", piece).encode("utf-8", "replace"))
