"""Inline tags, such as `<b>`, put into a translation where the words stand that they belong to in the source."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from seq2seq.decoding.segmentation import WORD

Links = Iterable[tuple[int, int]]
"""Source and target words, counted from 0, that are translations of each other. Words are separated by spaces."""

_SPANS = ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x205E), (0x3001, 0x3011))
_MARKS = (
    "".join(chr(code) for first, last in _SPANS for code in range(first, last + 1)) + "\u060c\u061b\u061f\u0964\u0965"
)
"""Punctuation and quotation marks."""
_TAG_NAME = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_NATIVE_OPENING, _NATIVE_CLOSING = ("bpt", "bx", "sc"), ("ept", "ex", "ec")
"""Elements of XLIFF that stand for the tags of another format, each with a content of its own or none."""
_ANGULAR = re.compile(r"""<x\s[^>]*?\bid\s*=\s*["'](START|CLOSE)_(\w+?)(?:_\d+)?["']""")
"""Pairs of tags as Angular extracts them: `START_TAG_SPAN_1` and `CLOSE_TAG_SPAN`."""
_REFERENCES = [re.compile(rf"""\s{name}\s*=\s*["']([^"']*)""") for name in ("startRef", "rid", "i", "id")]
_WIDEST_GAP = 3
"""Least distance of two target words, of those that belong to an element, from which on one of them is an outlier."""


class Tag(NamedTuple):
    """A tag, or markup that is left as it is, and its place in the text without tags."""

    markup: str
    place: int
    is_apart: bool = False
    """Whether it has a space on either side."""

    @property
    def name(self) -> str:
        """Name of the element; empty for a comment."""
        match = _TAG_NAME.match(self.markup)
        return match[1].lower() if match else ""

    @property
    def role(self) -> tuple[str, str]:
        """Key of the element that the tag opens, and of the one that it closes; each is empty for none."""
        name = self.name
        if name in _NATIVE_OPENING:
            return self._reference, ""
        if name in _NATIVE_CLOSING:
            return "", self._reference
        if pair := _ANGULAR.match(self.markup):
            key = f"#{pair[2]}"
            return (key, "") if pair[1] == "START" else ("", key)
        if self.markup.startswith("</"):
            return "", name
        return "" if self.markup.endswith("/>") else name, ""

    @property
    def _reference(self) -> str:
        found = (pattern.search(self.markup) for pattern in _REFERENCES)
        return next((f"#{match[1]}" for match in found if match), "#")


class _Node:
    """An element with all that is within it, or single markup. Places are those of characters."""

    def __init__(self, opening: Tag) -> None:
        self.opening, self.closing = opening, ""
        self.begin = self.end = opening.place
        self.children: list[_Node] = []

    def written(self, translation: str, place: int) -> str:
        """The opening tag at a place of the translation."""
        if not self.opening.is_apart or self.closing or not translation:
            return self.opening.markup
        is_behind_a_word = place > 0 and translation[place - 1] != " "
        return f" {self.opening.markup}" if is_behind_a_word else f"{self.opening.markup} "


def with_tags(
    source: str, translation: str, tags: Sequence[Tag], links: Links, form: Callable[[str], str] = str
) -> str:
    """The translation with each tag once, nested as in the source.

    An element stands around the target words that are linked to its source words, other markup before that of the next
    source word.

    Args:
        source: the text without tags.
        translation: its translation.
        tags: tags of the source, in order.
        links: the word alignment of both.
        form: writes the text between two tags, for instance with escapes.
    """
    places = _Places(source, translation, links)
    pieces: list[str] = []
    open_elements = [_Open(_tree(tags), places, 0, len(translation), "")]
    while open_elements:
        element = open_elements[-1]
        span = next(element.spans, None)
        if span is None:
            pieces += [form(translation[element.begin : element.end]), element.closing]
            open_elements.pop()
            continue
        node = element.nodes[span.number]
        left = min(max(span.begin, element.begin), element.end)
        right = min(max(span.end, left), element.end)
        pieces += [form(translation[element.begin : left]), node.written(translation, left)]
        element.begin = right
        open_elements.append(_Open(node.children, places, left, right, node.closing))
    return "".join(pieces)


class _Span(NamedTuple):
    """The place of a node in the translation."""

    begin: int
    end: int
    number: int


class _Open:
    """An element that is being written, from `begin` on."""

    def __init__(self, nodes: list[_Node], places: _Places, begin: int, end: int, closing: str) -> None:
        self.nodes, self.begin, self.end, self.closing = nodes, begin, end, closing
        spans = (_Span(*places.span(node.begin, node.end), number) for number, node in enumerate(nodes))
        self.spans = iter(sorted(spans))


def _tree(tags: Sequence[Tag]) -> list[_Node]:
    """The elements of a text. A tag without its counterpart stands alone."""
    pairs = pair_tags(tags)
    closing = set(pairs.values())
    top = _Node(Tag("", 0))
    path = [top]
    for number, tag in enumerate(tags):
        if number in closing:
            node = path.pop()
            node.closing, node.end = tag.markup, tag.place
            continue
        node = _Node(tag)
        path[-1].children.append(node)
        if number in pairs:
            path.append(node)
    return top.children


def pair_tags(tags: Sequence[Tag]) -> dict[int, int]:
    """Numbers of opening tags and of the closing ones that belong to them."""
    pairs: dict[int, int] = {}
    path: list[int] = []
    opened: Counter[str] = Counter()
    roles = [tag.role for tag in tags]
    for number, (opens, closes) in enumerate(roles):
        if opens:
            path.append(number)
            opened[opens] += 1
        while closes and opened[closes]:
            other = path.pop()  # those above it have no counterpart
            opened[roles[other][0]] -= 1
            if roles[other][0] == closes:
                pairs[other] = number
                break
    return pairs


class _Places:
    """Places in a translation that belong to places in its source."""

    def __init__(self, source: str, translation: str, links: Links) -> None:
        self._source, self._translation = source, translation
        self._source_words = [match.span() for match in WORD.finditer(source)]
        self._target_words = [match.span() for match in WORD.finditer(translation)]
        self._begins, self._ends = ([span[side] for span in self._source_words] for side in (0, 1))
        self._linked: dict[int, list[int]] = {}
        for word, other in links:
            if other < len(self._target_words):
                self._linked.setdefault(word, []).append(other)

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The span of the translation that belongs to a span of the source; empty for an empty one."""
        if begin <= 0 and end >= len(self._source) and end > begin:
            return 0, len(self._translation)
        within = range(bisect_right(self._ends, begin), bisect_left(self._begins, end))
        targets = _without_outliers(sorted(other for word in within for other in self._linked.get(word, ())))
        if not targets or begin == end:
            place = self._place(begin)
            return place, place
        (left, after), (before, right) = self._target_words[targets[0]], self._target_words[targets[-1]]
        # A full stop or quotation mark at the edge belongs to the element only if it has one there in the source.
        inner = self._source[begin:end].strip()
        first, last = self._translation[left:after], self._translation[before:right]
        if inner[0] not in _MARKS and (word := first.lstrip(_MARKS)):
            left = after - len(word)
        if inner[-1] not in _MARKS and (word := last.rstrip(_MARKS)):
            right = before + len(word)
        return left, max(left, right)

    def _place(self, place: int) -> int:
        """The place before the translation of the word that follows, or after that of the word before."""
        words, count = self._target_words, len(self._source_words)
        following = bisect_right(self._ends, place)
        if following == count or not words:
            return len(self._translation)
        before, after = self._linked.get(following - 1), self._linked.get(following)
        stands_after = self._source[place] == " " and self._source[max(0, place - 1) : place] != " "
        if before and (stands_after or not after):
            return words[max(before)][1]
        return words[min(after) if after else following * len(words) // count][0]


def _without_outliers(words: list[int]) -> list[int]:
    """The largest group of sorted words that stand near each other."""
    groups: list[list[int]] = []
    for word in words:
        if groups and word - groups[-1][-1] < _WIDEST_GAP:
            groups[-1].append(word)
        else:
            groups.append([word])
    return max(groups, key=len, default=[])
