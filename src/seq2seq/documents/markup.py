"""Texts between the tags of HTML and XML, so that no tag is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape, unescape
from itertools import chain

from seq2seq.documents.inline_tags import Tag
from seq2seq.documents.pieces import Piece, line_piece
from seq2seq.fixed_text import is_blank

# A quoted value may hold `>`. The bound keeps the time linear where a tag never ends.
_TAG = re.compile(r"""</?([a-zA-Z][^\s/>]*)(?:[^<>"']|"[^"]*"|'[^']*'){0,2000}>|<[!?][^>]{0,2000}>""")
_RAW = re.compile("script|style|code|pre|textarea|svg|math|bpt|ept|ph|it|ut")
"""Elements whose content is not translated: of HTML, and native code in XLIFF."""
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|sub|sup|time|"
    "tt|u|var|wbr"
)

IsInline = Callable[[str], bool]
"""Whether the tags of an element stand within a text. The texts before and after other tags are translated apart."""


def inline_in_html(name: str) -> bool:
    """Whether an element of HTML is part of a sentence."""
    return _INLINE.fullmatch(name) is not None


def markup_pieces(text: str, *, escaped: bool = True, is_inline: IsInline | None = None) -> Iterator[Piece]:
    """Pieces of a text with tags.

    Args:
        text: HTML, or a part of HTML or XML.
        escaped: whether it has character references such as `&lt;`.
        is_inline: the elements whose tags are put into a translation by word alignment; None for none.
    """
    before = ""
    group: list[tuple[bool, str]] = []
    for is_markup, part in chain(_parts(text), [(True, "")]):
        if not is_markup or (part and is_inline is not None and is_inline(Tag(part, 0).name)):
            group.append((is_markup, part))
            continue
        piece = _piece(group, before, escaped)
        if piece.text:
            yield piece
        before = part if piece.text else piece.before + part
        group = []
    if before:
        yield Piece(before)


def _piece(group: Sequence[tuple[bool, str]], before: str, escaped: bool) -> Piece:
    """A piece of texts and inline tags, each with whether it is markup."""
    texts: list[str] = []
    tags: list[Tag] = []
    length, has_space = 0, False  # of the text with one space in place of several, and none before it
    for is_markup, part in group:
        if is_markup:
            tags.append(Tag(part, length + (has_space and length > 0)))
            continue
        texts.append(unescape(part) if escaped else part)
        if words := texts[-1].split():
            length += len(" ".join(words)) + (length > 0 and (has_space or texts[-1][0].isspace()))
        has_space = texts[-1][-1].isspace() if words else has_space or bool(texts[-1])
    line = "".join(texts)
    if is_blank(line):
        return Piece(before + "".join(part for _, part in group))
    piece = line_piece(line, before)
    placed = tuple(tag._replace(place=min(length, tag.place)) for tag in tags)
    form = partial(escape, quote=False) if escaped else str
    return piece._replace(text=" ".join(piece.text.split()), form=form, tags=placed)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
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
    if tag[0].endswith("/>") or tag[0].startswith("</") or not _RAW.fullmatch((tag[1] or "").lower()):
        return tag.end()
    closing = re.compile(rf"</{tag[1]}\s*>", re.IGNORECASE).search(text, tag.end())
    return closing.end() if closing else len(text)
