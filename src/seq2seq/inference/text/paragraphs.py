"""Paragraphs to sentences and back, in many scripts, by rules.

A sentence ends with a terminator and what closes quotes and brackets after it. In scripts with spaces a space must
follow, and something that can begin a sentence: no small letter. A full stop after an initial, an abbreviation or (in
the languages that write them so) an ordinal number ends nothing. Chinese and Japanese need no space, but do not end a
sentence inside brackets. When in doubt the text stays whole: a model reads two sentences better than half of one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_UNSPACED = "。！？｡।॥"
_SPACED = ".!?…‽؟۔።፧፨។៕။།։᠃᠉⁇⁈⁉‼"
_CLOSING = "\"'”’»«›‹)]}」』】〉》）］｝“‘"
_OPENING = "\"'“‘«»‹›„‚([{「『【〈《（［｛¿¡-–—*•"
# French puts a space before the closing guillemet.
_END = re.compile(rf"[{re.escape(_UNSPACED + _SPACED)}]+[{re.escape(_CLOSING)}]*(?:[ \u00a0\u202f]»(?=\s|$))?")
_WIDE_BRACKETS = {**dict.fromkeys("「『（【《〈", 1), **dict.fromkeys("」』）】》〉", -1)}
_LAST_WORD = re.compile(r"[^\s\"'“”‘’«»„(\[{]*$")
_LONGEST_WORD = 40

_TITLES_AND_THE_LIKE = (
    "mr mrs ms messrs mmes dr drs prof rev hon st sr jr gen col capt lt sgt maj cmdr gov sen rep vs viz approx "
    "hr hrn frl bzw ca evtl ggf inkl exkl dipl ing phil med jun geb gest vgl sog tel mio mrd tsd bspw "
    "mme mlle mgr ste env sra srta dra ud uds av avda ee sig sigg dott avv dhr mevr mw ir bijv exmo "
    "np tzw tzn ul godz např tzv kpt ул им гр тыс млн млрд напр проф акад"
)
# These are abbreviations before a number only: "No. 5", but "No. I will not."
_WHAT_NUMBERS_FOLLOW = (
    "no nos nr nrn art fig figs vol vols ch chap sec pp pg eq abs bd kap ziff abb pág págs núm núms blz ods č rys "
    "рис стр гл jan feb mar apr jun jul aug sep sept oct okt nov dec dez"
)
_LANGUAGES_OF_DOTTED_ORDINALS = "de da no nb nn is fi et lv cs sk sl hr sr bs pl hu tr"
_ABBREVIATIONS = frozenset(_TITLES_AND_THE_LIKE.split())
_BEFORE_NUMBERS = frozenset(_WHAT_NUMBERS_FOLLOW.split())
_DOTTED_ORDINALS = frozenset(_LANGUAGES_OF_DOTTED_ORDINALS.split())


def split_sentences(text: str, language: str = "") -> list[str]:
    """The sentences of a paragraph, without the spaces between them; none of a blank one.

    `language` is a code such as `de` where it is known; it decides on ordinal numbers only.
    """
    ordinals = language.lower().replace("_", "-").split("-")[0] in _DOTTED_ORDINALS
    sentences: list[str] = []
    begin, depth, seen = 0, 0, 0
    for found in _END.finditer(text):
        depth = max(0, depth + sum(_WIDE_BRACKETS.get(mark, 0) for mark in text[seen : found.end()]))
        seen = found.end()
        if _ends(text, begin, found.start(), found.end(), depth, ordinals):
            sentences.append(text[begin : found.end()].strip())
            begin, depth = found.end(), 0
    sentences.append(text[begin:].strip())
    return [sentence for sentence in sentences if sentence]


def join_sentences(sentences: Sequence[str]) -> str:
    """One text of several: a space between two, but none after Chinese and Japanese."""
    text = ""
    for sentence in sentences:
        text += " " + sentence if text and sentence and not _is_wide(text[-1]) else sentence
    return text


def _is_wide(character: str) -> bool:
    """Whether the character is of a script without spaces (Korean has them)."""
    wide = unicodedata.east_asian_width(character) in "WF"
    return wide and unicodedata.category(character) != "So" and "HANGUL" not in unicodedata.name(character, "")


def _ends(text: str, begin: int, start: int, end: int, depth: int, ordinals: bool) -> bool:
    """Whether the sentence from `begin` ends with the terminators at [start, end), closing marks included."""
    if end == len(text):
        return True
    mark = text[start:end].rstrip(_CLOSING + " \u00a0\u202f")
    spaced = text[end].isspace()
    if mark[-1] in _UNSPACED:
        # Speech in brackets goes on as part of its sentence: 「はい。」と言った。
        closed = end > start + len(mark)
        return depth == 0 and (spaced or not closed or text[end] in _OPENING)
    if not spaced:
        return False
    following = text[end : end + _LONGEST_WORD].lstrip().lstrip(_OPENING + " ")
    if following and following[0].islower():
        return False
    return mark != "." or not _is_abbreviation(text, begin, start, following, ordinals)


def _is_abbreviation(text: str, begin: int, stop: int, following: str, ordinals: bool) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    found = _LAST_WORD.search(text, max(begin, stop - _LONGEST_WORD), stop)
    word = found[0] if found else ""
    if word.isdecimal():
        # The number of a list's item, or an ordinal.
        return not text[begin : stop - len(word)].strip(_OPENING + " ") or (ordinals and len(word) <= 2)
    word = word.lower()
    if len(word) == 1 and unicodedata.category(word)[0] == "L" and word.upper() != word:
        return True
    if "." in word.strip(".") and all(part.isalpha() and len(part) <= 3 for part in word.strip(".").split(".")):
        return True
    return word in _ABBREVIATIONS or (word in _BEFORE_NUMBERS and following[:1].isdecimal())
