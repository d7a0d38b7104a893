"""Texts of requests: split into sentences, and put together again from their translations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from seq2seq.decoding.segmentation import WORD, join_sentences, readable
from seq2seq.documents.inline_tags import Links
from seq2seq.documents.markup import inline_in_html, markup_pieces
from seq2seq.documents.pieces import Piece, line_piece

Split = Callable[[str], list[str]]
"""The sentences of a line, none of which is too long for the model."""


class RequestedText(NamedTuple):
    """A text as sentences and what stands between them: line breaks and indentation, in HTML also tags."""

    sentences: list[str]
    parts: list[str | range]
    """Literal text, or the numbers of sentences that stand one after the other."""
    pieces: dict[range, Piece]
    """The piece that each range of sentences makes up."""

    @property
    def has_inline_tags(self) -> bool:
        """Whether tags stand within sentences, so that word alignments are needed to put them in place."""
        return any(piece.tags for piece in self.pieces.values())

    def joined(self, translations: Sequence[str], links: Sequence[Links] = ()) -> str:
        """The text with a translation in place of each sentence; `links` are their word alignments."""
        return "".join(part if isinstance(part, str) else self._text(translations, links, part) for part in self.parts)

    def _text(self, translations: Sequence[str], links: Sequence[Links], numbers: range) -> str:
        translated = [translations[number] for number in numbers]
        of_piece: list[tuple[int, int]] = []
        words = other_words = 0
        for number in numbers if links else ():
            of_piece += [(words + word, other_words + other) for word, other in links[number]]
            words += len(WORD.findall(self.sentences[number]))
            other_words += len(WORD.findall(translations[number]))
        return self.pieces[numbers].with_translation(join_sentences(translated), of_piece)


def read_text(text: str, split: Split) -> RequestedText:
    """A plain text. Lines end with LF alone and stay lines; their sentences are translated one by one."""
    lines = enumerate(readable_lines(text))
    return _read((line_piece(line, "\n" if number else "") for number, line in lines), split)


def read_html(text: str, split: Split, *, inline_tags: bool = False) -> RequestedText:
    """An HTML text, or a piece of one.

    With `inline_tags`, tags within a text are put into its translation by word alignment; else the texts between them
    are translated apart.
    """
    is_inline = inline_in_html if inline_tags else None
    return _read(markup_pieces("\n".join(readable_lines(text)), is_inline=is_inline), split)


def readable_lines(text: str) -> list[str]:
    """The lines of a text, without NUL and with `?` for lone surrogates."""
    return [readable(line) for line in text.split("\n")]


def _read(pieces: Iterable[Piece], split: Split) -> RequestedText:
    requested = RequestedText([], [], {})
    for piece in pieces:
        requested.parts.append(piece.before)
        if piece.text:
            sentences = split(piece.text)
            numbers = range(len(requested.sentences), len(requested.sentences) + len(sentences))
            requested.sentences.extend(sentences)
            requested.pieces[numbers] = piece
            requested.parts.extend([numbers, piece.after])
    return requested
