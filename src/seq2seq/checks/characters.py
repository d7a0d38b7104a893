"""Faults in the characters of one text: damaged encodings, markup, entities, controls, and their repair."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.entities import html5

_SUSPECT = re.compile(
    "[^\t !-%'-;=?-~\u00a1-\u00ac\u00ae-\u00c1\u00c4\u00c6-\u00cd\u00d2-\u00d6\u00da-\u00df\u00e4-\u00ef\u00f1-\u00ff"
    "\u0100-\u017f\u0391-\u03c9\u0410-\u044f\u4e00-\u9fff]"
)
"""Texts without such a character have none of the faults below."""

_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|body|br|cite|code|center|dd|del|div|dl|dt|em|font|h[1-6]|head|hr|html|i|img|ins|"
    r"li|link|meta|ol|p|pre|q|s|script|seg|small|span|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|"
    r"u|ul|g|x|bx|ex|ph|bpt|ept|it)(?:\s[^<>]{0,500})?\s?/?>|<!--.{0,500}?-->|<!DOCTYPE[^<>]{0,200}>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ZERO_WIDTH = re.compile("[\u200b\u2060\u2061-\u2064\u180e]")
_DAMAGED = re.compile("[\ufffd\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff]")

# Windows-1252 has these characters where Latin-1 has the C1 controls.
_CP1252 = {
    bytes([byte]).decode("cp1252"): chr(byte)
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TO_BYTES = str.maketrans(_CP1252)
_FROM_CONTROLS = {ord(control): character for character, control in _CP1252.items()}
_AS_BYTES = re.compile("[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_FOLLOWS_A_LETTER = frozenset("\x85\x91\x92\x93\x94\x95\x96\x97\xa0\xab\xb0\xb7\xbb\x9b\x8b")
"""Bytes of characters that can rightly follow a capital letter: dots, quotation marks, dashes, spaces."""


def is_suspect(text: str) -> bool:
    """Fast test that is true for every text with a fault, and for some without."""
    return _SUSPECT.search(text) is not None


def text_faults(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kinds of faults in a text, each once, with a detail."""
    if found := _DAMAGED.search(text):
        yield "encoding", f"U+{ord(found[0]):04X}"
    # The controls of mojibake are a part of it.
    if (repaired := _undo_mojibake(text)) != text:
        yield "mojibake", ""
        text = repaired
    if "<" in text and (found := _TAG.search(text)):
        yield "tags", found[0]
    if "&" in text:
        known = (name for name in _ENTITY.findall(text) if _character(name) is not None)
        if (name := next(known, None)) is not None:
            yield "entities", f"&{name};"
    for kind, pattern in (("controls", _CONTROL), ("bidi", _BIDI), ("invisible", _ZERO_WIDTH)):
        if found := pattern.search(text):
            yield kind, f"U+{ord(found[0]):04X}"
    if "\ufeff" in text:
        yield "bom", ""


def repair(text: str) -> str:
    """Repair what `text_faults` finds and can be repaired.

    C1 controls become the characters of Windows-1252: they are left by a conversion from Latin-1, which has no others.
    """
    text = _undo_mojibake(text)
    # Tags before entities: an escaped tag is text, as in a lesson on HTML.
    text = _TAG.sub(" ", text)
    text = _ENTITY.sub(lambda found: _character(found[1]) or found[0], text)
    text = _CONTROL.sub(" ", text.translate(_FROM_CONTROLS))
    for pattern in (_BIDI, _ZERO_WIDTH):
        text = pattern.sub("", text)
    return " ".join(text.replace("\ufeff", "").split())


def _character(name: str) -> str | None:
    """The printable characters of an entity; None for an unknown one."""
    if name.startswith("#"):
        number = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
        text = chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else None
    else:
        text = html5.get(name + ";")
    return text if text is None or text.isprintable() else " "


def _undo_mojibake(text: str) -> str:
    """Decode the parts of a text that were UTF-8, read as Latin-1 or Windows-1252; others stay as they are."""
    coded = text.translate(_TO_BYTES)
    if len(found := list(_AS_BYTES.finditer(coded))) == 0:
        return text
    plausible = [match for match in found if _is_mojibake(coded, match, len(found))]
    for match in reversed(plausible):
        # Every character of `coded` stands where its own stands in `text`.
        decoded = match[0].encode("latin-1").decode("utf-8", "replace")
        if "\ufffd" not in decoded:
            text = text[: match.start()] + decoded + text[match.end() :]
    return text


def _is_mojibake(coded: str, match: re.Match[str], count: int) -> bool:
    """True unless a sequence may be intended: a letter before quotation marks, dots or dashes, as in `MENÜ»`."""
    sequence, before, after = match[0], coded[match.start() - 1 : match.start()], coded[match.end() : match.end() + 1]
    lead = sequence[0]
    natural = all(char in _FOLLOWS_A_LETTER for char in sequence[1:])
    if len(sequence) > 2:
        return not natural or sequence[:2] == "\xe2\x80"
    if lead == "\xc2":
        return not before.isupper()
    if natural:
        return lead == "\xc3" and (before.islower() or after.islower())
    return lead in "\xc3\xc4\xc5" or count > 1
