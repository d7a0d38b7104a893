"""Letter case of whole texts: capitals, small letters, initial capitals.

URLs, e-mail addresses, placeholders, tags and target tags stay as they are, and so does the dot of `i` in Turkish and
Azerbaijani.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from seq2seq.fixed_text import FIXED_TEXT
from seq2seq.tags import TARGET_TAG

FIXED = f"(?P<target_tag>{TARGET_TAG.pattern})|{FIXED_TEXT.pattern}"
"""Pattern of text that keeps its letter case."""

TURKIC = ("tr", "az")
"""Languages in which the dot of i stays with capitals."""

_WORD = re.compile(rf"{FIXED}|(?P<change>\w+)")
# Marks that are combined with a letter are no letters themselves.
_FIRST_LETTER = "(?P<change>(?<![\\w'’\u0300-\u036f])[^\\W\\d_])"
_INITIAL = re.compile(f"{FIXED}|{_FIRST_LETTER}")
_PLAIN_INITIAL = re.compile(_FIRST_LETTER)
# Georgian has capitals (U+1C90 to U+1CBF) for inscriptions alone.
_GEORGIAN = {0x1C90 + number: 0x10D0 + number for number in range(0x30)}
_MAY_BE_FIXED = re.compile(r"[@{<%\d]|://|www\.")
"""Without any of these a text holds no fixed text, and is changed twenty times faster."""


def uppercase(text: str, language: str = "") -> str:
    """The text in capitals."""

    def change(word: str) -> str:
        return (word.replace("i", "İ") if language in TURKIC else word).upper().translate(_GEORGIAN)

    return changed(text, _WORD, change) if _MAY_BE_FIXED.search(text) else change(text)


def lowercase(text: str, language: str = "") -> str:
    """The text in small letters."""

    def change(word: str) -> str:
        return (word.replace("İ", "i").replace("I", "ı") if language in TURKIC else word).lower()

    return changed(text, _WORD, change) if _MAY_BE_FIXED.search(text) else change(text)


def titlecase(text: str, language: str = "") -> str:
    """The text with initial capitals."""

    def change(letter: str) -> str:
        return "İ" if letter == "i" and language in TURKIC else letter.title()

    return changed(text, _INITIAL if _MAY_BE_FIXED.search(text) else _PLAIN_INITIAL, change)


def changed(text: str, pattern: re.Pattern[str], change: Callable[[str], str]) -> str:
    """The text with each match of the group `change` of a pattern changed."""
    return pattern.sub(lambda found: change(found[0]) if found.lastgroup == "change" else found[0], text)
