"""Translation memories (TMX) and translated documents (XLIFF), read unit by unit in constant memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from seq2seq.config.sources import InlineTags, TmxSource, XliffSource
from seq2seq.data.files import Pair, reading
from seq2seq.data.unreadable_rows import RowReport
from seq2seq.data.xml_text import Utf8Xml
from seq2seq.errors import DataError

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_SAMPLE_UNITS = 1000

_UNITS = {"tmx": ("tu",), "xliff": ("trans-unit", "unit")}
_NATIVE = frozenset(("bpt", "ept", "ph", "it", "ut", "x", "bx", "ex", "sc", "ec"))
"""Inline elements that stand for native code; what they contain is not text."""

_PAIRED = frozenset(("g", "pc", "hi"))
"""Inline elements around text."""

UNTRANSLATED = frozenset(("new", "needs-translation", "initial"))
"""States of a target that is a copy of its source, or empty."""

_ONE_SIDE = "units with text on one side only"
_LINE_BREAK = re.compile(r"\s*\n\s*")
_SPACES = re.compile(r"  +")


_ILLEGAL_REFERENCE = re.compile(rb"&#(?:[xX]0*(?:[0-8bcefBCEF]|1[0-9a-fA-F])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));")
_ILLEGAL_BYTES = bytes(byte if byte in b"\t\n\r" or byte > 31 else 32 for byte in range(256))
_LONGEST_REFERENCE = 16


class _LegalCharacters:
    """A stream of XML with spaces for control characters, which tools write although XML has none."""

    def __init__(self, stream: Utf8Xml) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        while b"&" in piece[-_LONGEST_REFERENCE:] and b";" not in piece[piece.rindex(b"&") :]:
            if not (more := self._stream.read(_LONGEST_REFERENCE)):
                break
            piece += more
        return _ILLEGAL_REFERENCE.sub(b" ", piece.translate(_ILLEGAL_BYTES))


def read_tmx(source: TmxSource, report: RowReport) -> Iterator[Pair]:
    """Yield the pairs of a translation memory; units without both languages are counted.

    Raises:
        DataError: the file is missing, damaged or unsafe, or the languages are not clear.
    """
    languages = pick_languages(source.tmx, source.source, source.target)
    for unit, _ in _elements(source.tmx, "tmx"):
        texts = dict(reversed(list(_variants(unit))))  # the first of a language wins
        left, right = (_match(language, texts) for language in languages)
        if left is None or right is None:
            report.skipped[_ONE_SIDE] += 1
        else:
            yield from _pair(texts[left], texts[right], source.inline_tags, report)


def read_xliff(source: XliffSource, report: RowReport) -> Iterator[Pair]:
    """Yield the pairs of an XLIFF file, segment by segment; units that are not translated are counted.

    Raises:
        DataError: the file is missing, damaged or unsafe, or in other languages.
    """
    for unit, languages in _elements(source.xliff, "xliff"):
        swap = _is_swapped(source, languages)
        if unit.get("translate") == "no":
            report.skipped["units that are not to be translated"] += 1
            continue
        for left, right in _segments(unit):
            if left is None or right is None:
                report.skipped[_ONE_SIDE] += 1
                continue
            yield from _pair(*((right, left) if swap else (left, right)), source.inline_tags, report)


def _pair(left: Element, right: Element, tags: InlineTags, report: RowReport) -> Iterator[Pair]:
    numbers: dict[tuple[bool, str], int] | None = {} if tags == "keep" else None
    try:
        source, target = _text(left, numbers), _text(right, numbers)
    except RecursionError:
        report.skipped["units whose tags are nested too deeply"] += 1
        return
    if source and target:
        report.read += 1
        yield source, target
    else:
        report.skipped[_ONE_SIDE] += 1


def _elements(name: str, form: str) -> Iterator[tuple[Element, tuple[str, str]]]:
    """Yield the units of a file, each with the languages of its XLIFF file (empty for TMX); others are forgotten.

    Raises:
        DataError: the file is missing, is not XML, defines entities, or is of another format.
    """
    languages = ("", "")
    path: list[Element] = []
    inside = 0
    with reading(Path(name)) as stream:
        try:
            for event, element in iterparse(_LegalCharacters(Utf8Xml(stream, name)), events=("start", "end")):
                tag = _tag(element)
                if event == "start":
                    if not path:
                        _check_root(tag, name, form)
                    path.append(element)
                    inside += tag in _UNITS[form]
                    if form == "xliff" and tag in ("xliff", "file"):
                        languages = _file_languages(element, languages)
                    continue
                path.pop()
                if tag in _UNITS[form]:
                    inside -= 1
                    yield element, languages
                if path and not inside:
                    path[-1].remove(element)
        except ParseError as error:
            raise DataError(
                f"not well-formed XML: {error.msg}",
                where=f"{name}:{error.position[0]}",
                hint="export the file again, or check it with xmllint",
                code="data.xml",
            ) from None
        except DefusedXmlException as error:
            raise DataError(
                f"refused: XML with definitions of its own ({type(error).__name__})",
                where=name,
                hint="a translation memory needs no entity definitions; remove the part in [...] after DOCTYPE",
                code="data.xml",
            ) from None


def _check_root(tag: str, name: str, form: str) -> None:
    if tag == form:
        return
    other = {"tmx": "a TMX file: {tmx: FILE}", "xliff": "an XLIFF file: {xliff: FILE}"}.get(tag)
    raise DataError(
        f"not {'a TMX' if form == 'tmx' else 'an XLIFF'} file: its first element is <{tag}>",
        where=name,
        hint=f"it is {other}" if other else "TMX begins with <tmx, XLIFF with <xliff",
        code="data.xml",
    )


def _tag(element: Element) -> str:
    """Name of an element without its namespace; comments have none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _code(language: str) -> str:
    return language.strip().casefold().replace("_", "-")


def _match(wanted: str, languages: Mapping[str, Any]) -> str | None:
    """The language that matches the wanted one: `en` matches `EN` and `en-US`, and the other way round."""
    code = _code(wanted)
    if exact := [language for language in languages if _code(language) == code]:
        return exact[0]
    near = (name for name in languages if _code(name).startswith(code + "-") or code.startswith(_code(name) + "-"))
    return next(near, None)


def _variants(unit: Element) -> Iterator[tuple[str, Element]]:
    """Language and text of each variant of a TMX unit."""
    for variant in unit:
        seg = next((child for child in variant if _tag(child) == "seg"), None)
        if _tag(variant) == "tuv" and seg is not None:
            yield variant.get(_XML_LANG) or variant.get("lang") or "", seg


def tmx_languages(name: str) -> list[str]:
    """Languages of the first units of a TMX file, the most frequent ones first."""
    counts: Counter[str] = Counter()
    for unit, _ in islice(_elements(name, "tmx"), _SAMPLE_UNITS):
        counts.update({language for language, _ in _variants(unit)})
    return [language for language, _ in counts.most_common()]


def xliff_languages(name: str) -> list[str]:
    """Source and target language of an XLIFF file."""
    return [language for _, languages in islice(_elements(name, "xliff"), 1) for language in languages]


def pick_languages(name: str, source: str | None, target: str | None) -> tuple[str, str]:
    """The languages of both sides of a TMX file, where some are given and others follow from the file.

    Raises:
        DataError: a language is missing, or there are more than two to choose from.
    """
    known = tmx_languages(name)
    listed = ", ".join(known[:12]) or "none"
    for side in (source, target):
        if side is not None and _match(side, dict.fromkeys(known)) is None:
            what, hint = f"no units in {side!r} among the first {_SAMPLE_UNITS:,}", f"languages there: {listed}"
            raise DataError(what, where=name, hint=hint, code="data.language")
    if source is not None and target is not None:
        return source, target
    bases = list(dict.fromkeys(_code(language).partition("-")[0] for language in known))
    if len(bases) != 2:
        what = f"which languages? The file has {listed}"
        hint = f"name them: source: {bases[0] if bases else 'en'}, target: {bases[1] if bases[1:] else 'de'}"
        raise DataError(what, where=name, hint=hint, code="data.language")
    given = source or target or _header_language(name) or bases[0]
    other = next(base for base in bases if base != _code(given).partition("-")[0])
    return (other, given) if target else (given, other)


def _header_language(name: str) -> str:
    """The language `srclang` of the header of a TMX file; empty if it is missing or `*all*`."""
    with reading(Path(name)) as stream:
        match = re.search(rb"""<header[^>]*\bsrclang\s*=\s*["']([\w-]+)""", stream.read(1 << 16).replace(b"\0", b""))
    return _code(match[1].decode()).partition("-")[0] if match else ""


def _file_languages(element: Element, before: tuple[str, str]) -> tuple[str, str]:
    """Source and target language of an XLIFF file: attributes of `file` in version 1, of `xliff` in version 2."""
    source = element.get("source-language") or element.get("srcLang") or before[0]
    return source, element.get("target-language") or element.get("trgLang") or before[1]


def _is_swapped(source: XliffSource, languages: tuple[str, str]) -> bool:
    """Whether the sides of a file are asked for the other way round.

    Raises:
        DataError: the file has other languages.
    """
    wanted = (source.source, source.target)
    fits = [
        all(side is None or not name or _match(side, {name: None}) for side, name in zip(wanted, names, strict=True))
        for names in (languages, languages[::-1])
    ]
    if not any(fits):
        what = f"the languages are {languages[0]} and {languages[1]}, not {wanted[0]} and {wanted[1]}"
        raise DataError(what, where=source.xliff, hint="leave out source and target", code="data.language")
    return not fits[0]


def _segments(unit: Element) -> Iterator[tuple[Element | None, Element | None]]:
    """Source and target elements of a unit of XLIFF 1 or 2: of its segments, if it has any."""
    if _tag(unit) == "unit":
        for segment in unit:
            if _tag(segment) == "segment":
                parts = {_tag(child): child for child in segment}
                yield parts.get("source"), None if segment.get("state") in UNTRANSLATED else parts.get("target")
        return
    parts = {_tag(child): child for child in unit}
    target = parts.get("target")
    if target is not None and target.get("state") in UNTRANSLATED:
        target = None
    sources = {mark.get("mid"): mark for mark in _marked(parts.get("seg-source"))}
    targets = {mark.get("mid"): mark for mark in _marked(target)}
    if not sources or (not targets and target is not None):
        yield parts.get("source"), target
        return
    for mid, mark in sources.items():
        yield mark, targets.get(mid)


def _marked(element: Element | None) -> list[Element]:
    """The segments that are marked within a text, as by Trados and memoQ."""
    marks = [] if element is None else element.iter()
    return [mark for mark in marks if _tag(mark) == "mrk" and mark.get("mtype") == "seg"]


def _text(element: Element, numbers: dict[tuple[bool, str], int] | None) -> str:
    """The text of a segment on one line. Inline tags are dropped, or become {1}, {2}, ... by `numbers`, which both
    sides share, so that a tag has one number."""
    pieces: list[str] = []
    opened: dict[str, int] = {}
    _collect(element, pieces, numbers, opened)
    text = _LINE_BREAK.sub(" ", "".join(pieces))
    return (_SPACES.sub(" ", text) if len(element) else text).strip()


def _collect(
    element: Element, pieces: list[str], numbers: dict[tuple[bool, str], int] | None, opened: dict[str, int]
) -> None:
    pieces.append(element.text or "")
    for child in element:
        tag = _tag(child)
        if tag == "cp":
            pieces.append(_character(child.get("hex", "")))
        elif tag in _NATIVE:
            pieces.append(_placeholder(child, tag, numbers, opened))
        elif tag in _PAIRED and numbers is not None:
            number = _number(numbers, True, child.get("id") or child.get("x") or f"#{len(pieces)}")
            pieces.append(f"{{{number}}}")
            _collect(child, pieces, numbers, opened)
            pieces.append(f"{{/{number}}}")
        elif tag:
            _collect(child, pieces, numbers, opened)
        pieces.append(child.tail or "")


def _placeholder(child: Element, tag: str, numbers: dict[tuple[bool, str], int] | None, opened: dict[str, int]) -> str:
    """Replacement of native code: a placeholder, a space for a line break, or nothing."""
    if numbers is None:
        return " " if (child.get("ctype") or child.get("type") or child.get("subType") or "").endswith("lb") else ""
    key = child.get("x") or child.get("rid") or child.get("id") or child.get("i") or f"#{len(opened)}"
    if tag in ("ept", "ex", "ec"):
        start = opened.get(child.get("i") or child.get("startRef") or key)
        return f"{{/{start or _number(numbers, True, key)}}}"
    opens = tag in ("bpt", "bx", "sc")
    number = _number(numbers, opens, key)
    opened[(child.get("i") or child.get("id") or key) if opens else f"#{len(opened)}"] = number
    return f"{{{number}}}"


def _number(numbers: dict[tuple[bool, str], int], paired: bool, key: str) -> int:
    return numbers.setdefault((paired, key), len(numbers) + 1)


def _character(code: str) -> str:
    """A character that XML cannot hold (XLIFF 2); control characters are no text."""
    value = int(code, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,6}", code) else 0
    return chr(value) if 32 <= value < 0xD800 or 0xE000 <= value < 0x110000 else ""
