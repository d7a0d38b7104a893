"""Pieces of a document: texts to translate, and what stands between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from seq2seq.documents.inline_tags import Links, Tag, with_tags
from seq2seq.fixed_text import is_blank

Align = Callable[[Sequence[int]], Sequence[Links]]
"""The word alignments of the texts with these numbers and their translations."""


class Piece(NamedTuple):
    """A text of a document, on one line, with what stands around it; the text is empty if there is none."""

    before: str
    text: str = ""
    after: str = ""
    form: Callable[[str], str] = str
    """Makes of the translation what the document holds, such as text with escapes."""
    tags: tuple[Tag, ...] = ()
    """Tags within the text."""
    layout: Callable[[str], str] = str
    """Lays out the translation with its tags, such as in lines."""

    def written(self, translation: str, links: Links = ()) -> str:
        """The piece with a translation in place of the text, and its tags by the word alignment of both."""
        return self.before + (self.with_translation(translation, links) if self.text else "") + self.after

    def with_translation(self, translation: str, links: Links = ()) -> str:
        """What the document holds in place of the text."""
        if not self.tags:
            return self.layout(self.form(translation))
        return self.layout(with_tags(self.text, translation, self.tags, links, self.form))


def line_piece(line: str, before: str = "") -> Piece:
    """A line as a piece: the spaces around its text stay as they are, and so does a blank line."""
    if is_blank(line):
        return Piece(before + line)
    text = line.strip()
    begin = line.index(text)
    return Piece(before + line[:begin], text, line[begin + len(text) :])


class Document:
    """A document read piece by piece. Its texts are translated in order, and it is written with their translations.

    Args:
        pieces: all that it holds, with LF alone as the end of a line.
        mark: its byte-order mark; empty if it has none.
        newline: the end of its lines.
    """

    def __init__(self, pieces: Iterable[Piece], *, mark: str = "", newline: str = "\n") -> None:
        self._pieces = pieces
        self._mark, self._newline = mark, newline
        self._waiting: deque[Piece] = deque()

    def texts(self) -> Iterator[str]:
        """The texts to translate; an empty one for a piece without a text."""
        for piece in self._pieces:
            self._waiting.append(piece)
            yield piece.text

    def skip(self, count: int) -> None:
        """Leave out pieces that were written before an interruption."""
        for _ in range(count):
            self._waiting.popleft()
        if count:
            self._mark = ""

    def written(self, translations: Sequence[str], align: Align) -> str:
        """The next pieces, with these translations of their texts; `align` is called for those with tags."""
        pieces = [self._waiting.popleft() for _ in translations]
        tagged = [number for number, piece in enumerate(pieces) if piece.tags]
        links = dict(zip(tagged, align(tagged) if tagged else (), strict=True))
        text = "".join(
            piece.written(translation, links.get(number, ()))
            for number, (piece, translation) in enumerate(zip(pieces, translations, strict=True))
        )
        mark, self._mark = self._mark, ""
        return mark + (text if self._newline == "\n" else text.replace("\n", self._newline))
