"""Texts between the tags of HTML and XML, so that no tag is lost."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape, unescape
from itertools import chain

from seq2seq.documents.inline_tags import Tag, pair_tags
from seq2seq.documents.pieces import Piece, line_piece
from seq2seq.fixed_text import is_blank

# A quoted value may hold `>`. The bound keeps the time linear where a tag never ends. `<00:01.000>` is one of WebVTT.
_TAG = re.compile(r"""</?([a-zA-Z][^\s/>]*)(?:[^<>"']|"[^"]*"|'[^']*'){0,2000}>|<\d+:[\d:.]+>|<[!?][^>]{0,2000}>""")
_RAW = re.compile("script|style|code|pre|textarea|svg|math|bpt|ept|ph|it|ut")
"""Elements whose content is not translated: of HTML, and native code in XLIFF."""
_PROTECTED = re.compile(
    r"""\stranslate\s*=\s*["']?no\b|\smtype\s*=\s*["']protected|\sclass\s*=\s*["']?(?:[\w-]+\s+)*notranslate\b""",
    re.IGNORECASE,
)
"""Attributes of elements whose content is not translated, in HTML and in XLIFF."""
_VOID = re.compile("area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr")
"""Elements of HTML without a content."""
_ENDS = {"<!--": "-->", "<![CDATA[": "]]>"}
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|img|ins|kbd|label|mark|q|s|samp|small|span|strong|sub|sup|time|"
    "tt|u|var|wbr"
)
PLURAL = re.compile(r"\{\s*\w+\s*,\s*(?:plural|select|selectordinal)\s*,")
"""Forms of a text by number or gender (ICU), which are no sentences."""

IsInline = Callable[[str], bool]
"""Whether the tags of an element stand within a text. The texts before and after other tags are translated apart."""


def inline_in_html(name: str) -> bool:
    """Whether an element of HTML is part of a sentence; comments, whose name is empty, are."""
    return not name or _INLINE.fullmatch(name) is not None


def every_element(_: str) -> bool:
    """True: in XLIFF and subtitles, all elements are part of a sentence."""
    return True


def markup_pieces(
    text: str, *, escaped: bool = True, is_inline: IsInline | None = None, line_break: re.Pattern[str] | None = None
) -> Iterator[Piece]:
    """Pieces of a text with tags.

    Args:
        text: HTML, or a part of HTML or XML.
        escaped: whether it has character references such as `&lt;`.
        is_inline: the elements whose tags are put into a translation by word alignment; None for none.
        line_break: what separates texts from each other beside tags, as a single group.
    """
    before = ""
    group: list[tuple[bool, str]] = []
    for is_markup, part in chain(_parts(text, line_break), [(True, "")]):
        if not is_markup or (part.startswith("<") and is_inline is not None and is_inline(Tag(part, 0).name)):
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
    begin, end = _inside(group, escaped)
    texts: list[str] = []
    tags: list[Tag] = []
    length, has_space = 0, False  # of the text with one space in place of several, and none before it
    for number, (is_markup, part) in enumerate(group[begin:end], begin + 1):
        if is_markup:
            is_apart = has_space and number < end and not group[number][0] and group[number][1][0].isspace()
            tags.append(Tag(part, length + (has_space and length > 0), is_apart))
            continue
        texts.append(unescape(part) if escaped else part)
        if words := texts[-1].split():
            length += len(" ".join(words)) + (length > 0 and (has_space or texts[-1][0].isspace()))
        has_space = texts[-1][-1].isspace() if words else has_space or bool(texts[-1])
    before += "".join(part for _, part in group[:begin])
    after = "".join(part for _, part in group[end:])
    if begin == end:
        return Piece(before + after)
    piece = line_piece("".join(texts), before)
    placed = tuple(tag._replace(place=min(length, tag.place)) for tag in tags)
    form = partial(escape, quote=False) if escaped else str
    return Piece(piece.before, " ".join(piece.text.split()), piece.after + after, form, placed)


def _inside(group: Sequence[tuple[bool, str]], escaped: bool) -> tuple[int, int]:
    """Begin and end of what is translated of a group: its text, with the tags that do not enclose all of it."""
    full = [
        number
        for number, (is_markup, part) in enumerate(group)
        if not is_markup and not is_blank(unescape(part) if escaped else part)
    ]
    if not full:
        return len(group), len(group)
    markup = [number for number, (is_markup, _) in enumerate(group) if is_markup]
    counterparts: dict[int, int] = {}
    for opening, closing in pair_tags([Tag(group[number][1], 0) for number in markup]).items():
        counterparts |= {markup[opening]: markup[closing], markup[closing]: markup[opening]}
    begin, end = full[0], full[-1] + 1
    waiting = deque(range(begin, end))
    while waiting:
        other = counterparts.get(waiting.popleft(), begin)
        waiting.extend((*range(other, begin), *range(end, other + 1)))
        begin, end = min(begin, other), max(end, other + 1)
    return begin, end


def _parts(text: str, line_break: re.Pattern[str] | None = None) -> Iterator[tuple[bool, str]]:
    """(whether it is markup, the part): tags, comments, line breaks and elements that stay as they are are markup."""
    begin = place = 0
    while (place := text.find("<", place)) >= 0:
        end = _markup_end(text, place)
        if end is None:
            place += 1
            continue
        yield from _lines(text[begin:place], line_break)
        yield True, text[place:end]
        begin = place = end
    yield from _lines(text[begin:], line_break)


def _lines(text: str, line_break: re.Pattern[str] | None) -> Iterator[tuple[bool, str]]:
    """The lines of a text, and the breaks between them as markup."""
    parts = [text] if line_break is None else line_break.split(text)
    return ((number % 2 == 1, part) for number, part in enumerate(parts) if part)


def _markup_end(text: str, place: int) -> int | None:
    """The end of the markup that begins at `place`; None if it is a `<` of the text."""
    for opening, closing in _ENDS.items():
        if text.startswith(opening, place):
            end = text.find(closing, place + len(opening))
            return len(text) if end < 0 else end + len(closing)
    if (tag := _TAG.match(text, place)) is None:
        return None
    name = (tag[1] or "").lower()
    if not name or tag[0].startswith("</") or tag[0].endswith("/>") or _VOID.fullmatch(name):
        return tag.end()
    if _RAW.fullmatch(name):
        found = re.compile(rf"</{re.escape(name)}\s*>", re.IGNORECASE).search(text, tag.end())
        return found.end() if found else len(text)
    return _element_end(text, name, tag.end()) if _PROTECTED.search(tag[0]) else tag.end()


def _element_end(text: str, name: str, place: int) -> int:
    """The end of an element that is open at `place`; elements of the same name may be within it."""
    depth = 1
    for tag in re.compile(rf"<(/?){re.escape(name)}(?=[\s/>])[^>]*>", re.IGNORECASE).finditer(text, place):
        depth += -1 if tag[1] else not tag[0].endswith("/>")
        if not depth:
            return tag.end()
    return len(text)
