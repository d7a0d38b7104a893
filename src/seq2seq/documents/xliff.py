"""XLIFF 1 and 2: targets for the units that are not translated yet. All else stays as it is, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.parsers import expat

from seq2seq.data.translation_memories import UNTRANSLATED
from seq2seq.documents.markup import inline_in_html, markup_pieces
from seq2seq.documents.pieces import Piece
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank
from seq2seq.languages import language_of

_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_INITIAL = re.compile(rb"""\sstate\s*=\s*["']initial["']""")
_CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
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


class _Edit(NamedTuple):
    """A change of the file from `begin` to `end`: `before`, the translation of a source, and `after`."""

    begin: int
    end: int
    before: str
    source: str = ""
    after: str = ""


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
    for edit in sorted(_Edits(content, name, languages).found):
        before = content[last : edit.begin].decode() + edit.before
        if data := _CDATA.fullmatch(edit.source):
            edit = edit._replace(source=data[1], after="]]>" + edit.after)
            before += "<![CDATA["
        is_inline = inline_in_html if data else _always
        for piece in markup_pieces(edit.source, is_inline=is_inline if inline_tags else None):
            yield piece._replace(before=before + piece.before)
            before = ""
        yield Piece(before + edit.after)
        last = edit.end
    yield Piece(content[last:].decode())


def _always(_: str) -> bool:
    return True


class _Edits:
    """Reads a file for the changes that it needs, `found`."""

    def __init__(self, content: bytes, name: str, languages: tuple[str, str]) -> None:
        self.found: list[_Edit] = []
        self._content, self._name, self._languages = content, name, languages
        self._path: list[_Element] = []
        self._sides: dict[str, _Element] = {}
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
            self._sides = {}
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
            end = after = element.inside
            if not self._content[element.begin : element.inside].endswith(b"/>"):
                end = self._parser.CurrentByteIndex
                after = self._content.index(b">", end) + 1
            self._sides[element.local] = element._replace(end=end, after=after)
        elif element.local in _UNITS and "source" in self._sides:
            if all(each.attributes.get("translate") != "no" for each in (*self._path, element)):
                self._translate(element, self._sides["source"])
            self._sides = {}

    def _translate(self, unit: _Element, source: _Element) -> None:
        """Add the target of a unit, unless it has a translation."""
        is_segment = unit.local == "segment"
        target = self._sides.get("target")
        text = self._text(source)
        has_state = unit if is_segment or target is None else target
        is_new = target is None or is_blank(self._text(target)) or has_state.attributes.get("state") in UNTRANSLATED
        if is_blank(text) or not is_new:
            return
        tag = source.name.removesuffix("source") + "target"
        state = "" if is_segment else ' state="needs-review-translation"'
        before = f"<{tag}{state}>"
        if target is not None:
            begin, end = target.begin, target.after
        else:
            begin = end = self._sides.get("seg-source", source).after
            line = self._content[: source.begin]
            before = line[len(line.rstrip()) :].decode() + before
        self.found.append(_Edit(begin, end, before, text, f"</{tag}>"))
        if is_segment and (initial := _INITIAL.search(self._content, unit.begin, unit.inside)):
            self.found.append(_Edit(initial.start(), initial.end(), ' state="translated"'))

    def _text(self, element: _Element) -> str:
        return self._content[element.inside : element.end].decode()
