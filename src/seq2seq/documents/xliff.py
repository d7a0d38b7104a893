"""XLIFF 1 and 2: targets for the units that are not translated yet. All else stays as it is, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.parsers import expat

from seq2seq.console import counted, warn
from seq2seq.data.translation_memories import UNTRANSLATED
from seq2seq.documents.markup import PLURAL, every_element, inline_in_html, markup_pieces
from seq2seq.documents.pieces import Piece
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank
from seq2seq.languages import language_of

_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_INITIAL = re.compile(rb"""\sstate\s*=\s*["']initial["']""")
_STATE = re.compile(r"""\sstate\s*=\s*(?:"[^"]*"|'[^']*')""")
_CDATA = re.compile(r"\s*<!\[CDATA\[((?:(?!\]\]>).)*)\]\]>\s*", re.DOTALL)
_HTML = re.compile(r"</?[a-zA-Z!]|&#?\w+;")
_LINE, _PARAGRAPH = re.compile(r"(\n)"), re.compile(r"(\n[ \t]*\n\s*)")
_UNITS = ("trans-unit", "segment")
_SIDES = ("source", "seg-source", "target")


class _Element(NamedTuple):
    """An element by its places in the file, in bytes."""

    name: str
    attributes: dict[str, str]
    begin: int
    inside: int
    """Begin of its content."""
    end: int = 0
    """End of its content."""
    after: int = 0

    @property
    def local(self) -> str:
        """Name without the prefix of its namespace."""
        return self.name.rpartition(":")[2]

    @property
    def number(self) -> str:
        """Number of a segment; empty for a text that is not divided into segments."""
        return self.attributes.get("mid", "")


class _Edit(NamedTuple):
    """A change of the file from `begin` to `end`: `before`, the translation of a source, and `after`."""

    begin: int
    end: int
    before: str
    source: str = ""
    after: str = ""
    keeps_lines: bool = False
    """Whether each line of the source is a text of its own."""


def xliff_pieces(text: str, name: str, languages: tuple[str, str], *, inline_tags: bool = False) -> Iterator[Piece]:
    """Pieces of an XLIFF file.

    Args:
        text: content of the file.
        name: the file, for messages.
        languages: from which and into which the texts are translated.
        inline_tags: whether tags are put into the translations; else the texts between them are translated apart.

    Raises:
        DataError: the file is not well-formed XML, defines entities, or is of other languages.
    """
    content = text.encode()
    last = 0
    edits = _Edits(content, name, languages)
    for edit in sorted(edits.found, key=lambda edit: (edit.begin, edit.end)):
        before = content[last : edit.begin].decode() + edit.before
        if data := _CDATA.fullmatch(edit.source):
            edit = edit._replace(source=data[1], after="]]>" + edit.after)
            before += "<![CDATA["
        is_inline = inline_in_html if data else every_element
        for piece in markup_pieces(
            edit.source,
            escaped=data is None or _HTML.search(data[1]) is not None,
            is_inline=is_inline if inline_tags else None,
            line_break=_LINE if edit.keeps_lines else _PARAGRAPH,
        ):
            yield piece._replace(before=before + piece.before)
            before = ""
        yield Piece(before + edit.after)
        last = edit.end
    yield Piece(content[last:].decode())
    if edits.plural:
        warn(f"{name}: {counted(edits.plural, 'unit')} with plural forms (ICU) stay without a translation")


class _Edits:
    """Reads a file for the changes that it needs, `found`."""

    def __init__(self, content: bytes, name: str, languages: tuple[str, str]) -> None:
        self.found: list[_Edit] = []
        self.plural = 0
        """Number of units that are left for their plural forms."""
        self._content, self._name, self._languages = content, name, languages
        self._path: list[_Element] = []
        self._sides: dict[str, _Element] = {}
        self._marks: dict[str, list[_Element]] = {}
        self._parser = expat.ParserCreate("utf-8")  # whatever the declaration says: the text has been decoded
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        self._parser.EntityDeclHandler = self._refuse_entity
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            raise DataError(
                f"not well-formed XML: {expat.ErrorString(error.code)}",
                where=f"{name}:{error.lineno}",
                hint="export the file again, or check it with xmllint",
                code="data.xml",
            ) from None

    def _refuse_entity(self, entity: str, *_: object) -> None:
        raise DataError(
            f"refused: XML with definitions of its own ({entity})",
            where=self._name,
            hint="remove the part in [...] after DOCTYPE",
            code="data.xml",
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        begin = self._parser.CurrentByteIndex
        tag = _TAG.match(self._content, begin)
        element = _Element(name, attributes, begin, tag.end() if tag else begin)
        self._path.append(element)
        if element.local in _UNITS:
            self._sides, self._marks = {}, {}
        elif element.local == "file" or (element.local == "xliff" and attributes.get("version", "").startswith("2")):
            self._set_languages(element)

    def _set_languages(self, element: _Element) -> None:
        """Compare the languages of a file with those of the translation, and name the target language if it does not.

        They are attributes of `file` in version 1, of `xliff` in version 2.
        """
        keys = ("srcLang", "trgLang") if element.local == "xliff" else ("source-language", "target-language")
        given = [element.attributes.get(key, "") for key in keys]
        if any(
            language_of(one) != language_of(other)
            for one, other in zip(given, self._languages, strict=True)
            if one and language_of(other)
        ):
            raise DataError(
                f"its languages are {given[0]} and {given[1] or 'any'}, not {' and '.join(self._languages)}",
                where=self._name,
                hint="choose a run that translates between them",
                code="data.language",
            )
        if not given[1] and given[0]:
            place = element.begin + 1 + len(element.name.encode())
            self.found.append(_Edit(place, place, f' {keys[1]}="{self._languages[1]}"'))

    def _end(self, name: str) -> None:
        element = self._path.pop()
        if element.local in _SIDES and self._path and self._path[-1].local in _UNITS:
            self._sides[element.local] = self._ended(element)
        elif element.local == "mrk" and element.attributes.get("mtype") == "seg":
            side = next((each.local for each in reversed(self._path) if each.local in _SIDES), "")
            self._marks.setdefault(side, []).append(self._ended(element))
        elif element.local in _UNITS and "source" in self._sides:
            if all(each.attributes.get("translate") != "no" for each in (*self._path, element)):
                self._translate(element, self._sides["source"])
            self._sides, self._marks = {}, {}

    def _ended(self, element: _Element) -> _Element:
        """An element with its end, which is where the parser stands."""
        end = after = element.inside
        if not self._content[element.begin : element.inside].endswith(b"/>"):
            end = self._parser.CurrentByteIndex
            after = self._content.index(b">", end) + 1
        return element._replace(end=end, after=after)

    def _translate(self, unit: _Element, source: _Element) -> None:
        """Add the translations that a unit lacks: of its segments, if they are marked."""
        target, whole, segments = self._sides.get("target"), source, [source]
        if marks := self._marks.get("seg-source"):
            whole, segments = self._sides["seg-source"], marks
        done = self._translated(unit, target, segments)
        if all(segment.number in done or is_blank(self._text(segment)) for segment in segments):
            return
        if PLURAL.search(self._text(source)):
            self.plural += 1
            return
        is_segment = unit.local == "segment"
        tag = source.name.removesuffix("source") + "target"
        before = self._opening(source, target, tag, "" if is_segment else ' state="needs-review-translation"')
        begin = end = self._sides.get("seg-source", source).after
        if target is not None:
            begin, end = target.begin, target.after
        place = whole.inside
        for segment in segments:
            before += self._content[place : segment.inside].decode()
            place = segment.end
            if segment.number in done:
                before += done[segment.number]
                continue
            text = self._text(segment)
            self.found.append(_Edit(begin, end, before, text, keeps_lines=self._keeps_lines(unit, source)))
            begin, before = end, ""
        self.found.append(_Edit(begin, end, f"{before}{self._content[place : whole.end].decode()}</{tag}>"))
        if is_segment and (initial := _INITIAL.search(self._content, unit.begin, unit.inside)):
            self.found.append(_Edit(initial.start(), initial.end(), ' state="translated"'))

    def _translated(self, unit: _Element, target: _Element | None, segments: Sequence[_Element]) -> dict[str, str]:
        """Translations that are there, by the numbers of their segments. A target without segments is that of all."""
        has_state = unit if target is None or unit.local == "segment" else target
        is_new = has_state.attributes.get("state") in UNTRANSLATED and unit.attributes.get("approved") != "yes"
        if target is None or is_new:
            return {}
        marks = self._marks.get("target", [])
        found = [(mark.number, mark) for mark in marks] or [(segment.number, target) for segment in segments]
        return {number: self._text(element) for number, element in found if not is_blank(self._text(element))}

    def _opening(self, source: _Element, target: _Element | None, tag: str, state: str) -> str:
        """The opening tag of a target: that of the one that is there, or a new one, indented as the source."""
        if target is not None:
            there = self._content[target.begin : target.inside].decode().removesuffix("/>").removesuffix(">").rstrip()
            return _STATE.sub("", there) + f"{state}>"
        space = ' xml:space="preserve"' if source.attributes.get("xml:space") == "preserve" else ""
        begin = source.begin
        while begin and self._content[begin - 1 : begin].isspace():
            begin -= 1
        return f"{self._content[begin : source.begin].decode()}<{tag}{space}{state}>"

    def _keeps_lines(self, unit: _Element, source: _Element) -> bool:
        given = (each.attributes.get("xml:space") for each in (source, unit, *reversed(self._path)))
        return next(filter(None, given), "default") == "preserve"

    def _text(self, element: _Element) -> str:
        return self._content[element.inside : element.end].decode()
