"""Inline tags, such as `<b>`, put into a translation where the words stand that they belong to in the source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Links = Iterable[tuple[int, int]]
"""Source and target words, counted from 0, that are translations of each other. Words are separated by spaces."""

_WORD = re.compile(r"[^ \t\n\r\f\v]+")
_MARKS = r"[!-/:-@\[-`{-~\u00a1-\u00bf\u060c\u061b\u061f\u0964\u0965\u2010-\u205e\u3001-\u3011]+"
_ONLY_MARKS, _FIRST_MARKS, _LAST_MARKS = re.compile(_MARKS), re.compile(f"^{_MARKS}"), re.compile(f"{_MARKS}$")
_TAG_NAME = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_WIDEST_GAP = 3
"""Least distance of two target words, of those that belong to an element, from which on one of them is an outlier."""


class Tag(NamedTuple):
    """A tag, or markup that is left as it is, and its place in the text without tags."""

    markup: str
    place: int

    @property
    def name(self) -> str:
        """Name of the element; empty for a comment."""
        match = _TAG_NAME.match(self.markup)
        return match[1].lower() if match else ""


class _Node:
    """An element with all that is within it, or single markup. Places are those of characters."""

    def __init__(self, opening: str, begin: int) -> None:
        self.opening, self.closing = opening, ""
        self.begin = self.end = begin
        self.children: list[_Node] = []


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

    def written(nodes: list[_Node], begin: int, end: int) -> str:
        pieces = []
        spans = [(*places.span(node.begin, node.end), number) for number, node in enumerate(nodes)]
        for left, right, number in sorted(spans):
            left = min(max(left, begin), end)
            right = min(max(right, left), end)
            node = nodes[number]
            pieces += [form(translation[begin:left]), node.opening, written(node.children, left, right), node.closing]
            begin = right
        return "".join([*pieces, form(translation[begin:end])])

    return written(_tree(tags), 0, len(translation))


def _tree(tags: Sequence[Tag]) -> list[_Node]:
    """The elements of a text. A tag without its counterpart stands alone."""
    closing = _pairs(tags)
    top = _Node("", 0)
    path = [top]
    for number, tag in enumerate(tags):
        if number in closing.values():
            node = path.pop()
            node.closing, node.end = tag.markup, tag.place
            continue
        node = _Node(tag.markup, tag.place)
        path[-1].children.append(node)
        if number in closing:
            path.append(node)
    return top.children


def _pairs(tags: Sequence[Tag]) -> dict[int, int]:
    """Numbers of opening tags and of the closing ones that belong to them."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for number, tag in enumerate(tags):
        if not tag.markup.startswith("</"):
            opened.append(number)
        elif (found := next((other for other in reversed(opened) if tags[other].name == tag.name), None)) is not None:
            pairs[found] = number
            del opened[opened.index(found) :]
    return pairs


class _Places:
    """Places in a translation that belong to places in its source."""

    def __init__(self, source: str, translation: str, links: Links) -> None:
        self._source, self._translation = source, translation
        self._source_words = [match.span() for match in _WORD.finditer(source)]
        self._target_words = [match.span() for match in _WORD.finditer(translation)]
        self._linked: dict[int, list[int]] = {}
        for word, other in links:
            if other < len(self._target_words):
                self._linked.setdefault(word, []).append(other)

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The span of the translation that belongs to a span of the source; empty for an empty one."""
        if begin <= 0 and end >= len(self._source) and end > begin:
            return 0, len(self._translation)
        within = [word for word, (left, right) in enumerate(self._source_words) if left < end and right > begin]
        targets = _without_outliers(sorted(other for word in within for other in self._linked.get(word, ())))
        if not targets or begin == end:
            place = self._place(begin)
            return place, place
        left, right = self._target_words[targets[0]][0], self._target_words[targets[-1]][1]
        # A tag between a word and its full stop or quotation mark stands between them in the translation, too.
        text = self._translation[left:right]
        if _ONLY_MARKS.fullmatch(self._source[self._source_words[within[0]][0] : begin]):
            left += len(text) - len(_FIRST_MARKS.sub("", text, count=1))
        if _ONLY_MARKS.fullmatch(self._source[end : self._source_words[within[-1]][1]]):
            right -= len(text) - len(_LAST_MARKS.sub("", text))
        return left, max(left, right)

    def _place(self, place: int) -> int:
        """The place before the translation of the word that follows, or after that of the word before."""
        words, count = self._target_words, len(self._source_words)
        following = sum(right <= place for _, right in self._source_words)
        if following == count or not words:
            return len(self._translation)
        before, after = self._linked.get(following - 1), self._linked.get(following)
        stands_after = self._source[place] == " " and not self._source[:place].endswith(" ")
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
