"""Texts of requests: split into sentences, and put together again from their translations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape, unescape
from typing import NamedTuple

from seq2seq.decoding.segmentation import join_sentences, readable
from seq2seq.fixed_text import is_blank

Split = Callable[[str], list[str]]
"""The sentences of a line, none of which is too long for the model."""

# A quoted value may hold `>`. The bound keeps the time linear where a tag never ends.
_TAG = re.compile(r"""</?[a-zA-Z](?:[^<>"']|"[^"]*"|'[^']*'){0,2000}>|<[!?][^>]{0,2000}>""")
_RAW = re.compile(r"<(script|style|code|pre|textarea|svg|math)(?=[\s/>])", re.IGNORECASE)
"""Elements whose content is not translated."""


class Document(NamedTuple):
    """A text as sentences and what stands between them: line breaks and indentation, in HTML also tags."""

    sentences: list[str]
    parts: list[str | range]
    """Literal text, or the numbers of sentences that stand one after the other."""
    is_html: bool = False

    def joined(self, translations: Sequence[str]) -> str:
        """The text with a translation in place of each sentence."""
        return "".join(part if isinstance(part, str) else self._text(translations, part) for part in self.parts)

    def _text(self, translations: Sequence[str], numbers: range) -> str:
        text = join_sentences([translations[number] for number in numbers])
        return escape(text, quote=False) if self.is_html else text


def read_text(text: str, split: Split) -> Document:
    """A plain text. Lines end with LF alone and stay lines; their sentences are translated one by one."""
    document = Document([], [])
    for number, line in enumerate(readable_lines(text)):
        if number:
            document.parts.append("\n")
        _add(document, line, split)
    return document


def read_html(text: str, split: Split) -> Document:
    """An HTML text, or a piece of one. Each text between two tags is translated on its own, so that no tag is lost."""
    document = Document([], [], is_html=True)
    for is_markup, part in _html_parts("\n".join(readable_lines(text))):
        if is_markup:
            document.parts.append(part)
        else:
            _add(document, unescape(part), lambda line: split(" ".join(line.split())))
    return document


def readable_lines(text: str) -> list[str]:
    """The lines of a text, without NUL and with `?` for lone surrogates."""
    return [readable(line) for line in text.split("\n")]


def _add(document: Document, line: str, split: Split) -> None:
    """Add a line: its sentences, between the spaces before and after them."""
    if is_blank(line):
        document.parts.append(escape(line, quote=False) if document.is_html else line)
        return
    text = line.strip()
    begin = line.index(text)
    first = len(document.sentences)
    document.sentences.extend(split(text))
    numbers = range(first, len(document.sentences))
    document.parts.extend([line[:begin], numbers, line[begin + len(text) :]])


def _html_parts(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is markup, the part): tags, comments and elements that are left as they are are markup."""
    begin = place = 0
    while (place := text.find("<", place)) >= 0:
        end = _markup_end(text, place)
        if end is None:
            place += 1
            continue
        if place > begin:
            yield False, text[begin:place]
        yield True, text[place:end]
        begin = place = end
    if begin < len(text):
        yield False, text[begin:]


def _markup_end(text: str, place: int) -> int | None:
    """The end of the markup that begins at `place`; None if it is a `<` of the text."""
    if text.startswith("<!--", place):
        end = text.find("-->", place + 4)
        return len(text) if end < 0 else end + 3
    if (tag := _TAG.match(text, place)) is None:
        return None
    if (raw := _RAW.match(text, place)) is None or tag[0].endswith("/>"):
        return tag.end()
    closing = re.compile(rf"</{raw[1]}\s*>", re.IGNORECASE).search(text, tag.end())
    return closing.end() if closing else len(text)
