"""Segmentation of text: blank lines, parts of long lines, sentences of a paragraph, whole words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from seq2seq.decoding.interface import WordTokens
from seq2seq.fixed_text import is_blank
from seq2seq.special_tokens import SPECIAL_TOKENS
from seq2seq.tokenizers.base import Tokenizer

# Every character that str.splitlines, or a file opened with universal newlines, takes for the end of a line.
_BREAKS = {ord(mark): " " for mark in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"}
_WORD = re.compile(r"\S+\s*|\s+")
_JOINED = "\u200c\u200d\uff9e\uff9f\u0e33\u0eb3\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
"""What belongs to the character before it, beside combining marks: joiners, the sound marks of half-width katakana, the
vowel AM of Thai and Lao, and skin tones of emoji."""
_CLAUSE_END = tuple(".!?;:,…。！？；：，、．؟،।۔။។።")
# Punctuation after which a line may be split without a space.
_WIDE_CLAUSE = re.compile(r"(?<=[。！？；：，、．۔။។።])")

# Words end at ASCII white space, as for fast_align, awk and other readers of Pharaoh links, not at U+00A0.
WORD = re.compile(r"[^ \t\n\r\f\v]+")
"""A word, as word alignments count them."""

Measure = Callable[[Sequence[str]], list[int]]
"""Number of tokens of each text."""


def readable(text: str) -> str:
    """The line without its line end and NUL; lone surrogates, which UTF-8 cannot encode, become `?`."""
    return text.rstrip("\r\n").replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def single_line(text: str) -> str:
    """The text with spaces in place of all line breaks, so that every reader sees one line."""
    return text.translate(_BREAKS)


def split_to_fit(text: str, limit: int, measure: Measure) -> list[str]:
    """Parts of a text of at most `limit` tokens, cut after a clause, else at a space, else anywhere.

    A single character of more tokens stays whole.
    """
    atoms = [part for word in _WORD.findall(text) for part in _WIDE_CLAUSE.split(word) if part]
    pieces: list[str] = []
    for piece in _packed(atoms, measure(atoms), limit):
        pieces.extend(_halved(piece, limit, measure))
    return [piece.strip() for piece in pieces if not is_blank(piece)]


def _packed(atoms: Sequence[str], sizes: Sequence[int], limit: int) -> list[str]:
    """Atoms joined while they fit, up to the end of the last clause if that is at least half of the limit."""
    pieces: list[str] = []
    start, size = 0, 0
    place = 0
    while place < len(atoms):
        if place > start and size + sizes[place] > limit:
            end = place
            kept = size
            while end - 1 > start and not atoms[end - 1].rstrip().endswith(_CLAUSE_END) and 2 * kept > limit:
                end -= 1
                kept -= sizes[end]
            if 2 * kept <= limit:
                end = place
            pieces.append("".join(atoms[start:end]))
            start, size = end, sum(sizes[end:place])
            continue
        size += sizes[place]
        place += 1
    return [*pieces, "".join(atoms[start:])] if start < len(atoms) else pieces


def _halved(text: str, limit: int, measure: Measure) -> list[str]:
    """The text halved until every part fits: a word may be too long, and joined atoms may have more tokens."""
    done: list[str] = []
    stack = [text]
    while stack:
        part = stack.pop()
        if len(part) < 2 or measure([part])[0] <= limit:
            done.append(part)
            continue
        cut = _cut_near(part, len(part) // 2)
        stack += [part[cut:], part[:cut]]
    return done


def _cut_near(text: str, middle: int) -> int:
    """A place after a space near the middle, else one that does not separate a character from its combining marks."""
    space = text.rfind(" ", middle // 2, middle + middle // 2)
    if space > 0:
        return space + 1
    for cut in range(middle, min(len(text), middle + 16)):
        if not is_joined(text[cut - 1], text[cut]):
            return cut
    return middle


def is_joined(before: str, after: str) -> bool:
    """Whether two characters make up one for a reader, such as a letter and its combining mark."""
    return after in _JOINED or before == "\u200d" or unicodedata.category(after)[0] == "M"


# A sentence ends with a terminator and the closing quotes and brackets after it. In scripts with spaces a space must
# follow, and no lower-case letter. A full stop after an initial, an abbreviation or (in languages that write them so)
# an ordinal number does not end a sentence. Chinese and Japanese need no space, but a sentence does not end inside
# brackets. In doubt the text is not split: a model translates two sentences at once better than half a sentence.
_WIDE_STOPS = "。！？｡।॥"
_UNSPACED_STOPS = "۔။៕។።"
"""Stops of Urdu, Burmese, Khmer and Amharic, behind which the space is often left out."""
_SPACED = ".!?…‽؟۔።፧፨។៕။།։᠃᠉⁇⁈⁉‼"
_CLOSING = "\"'”’»«›‹)]}」』】〉》）］｝“‘"
_OPENING = "\"'“‘«»‹›„‚([{「『【〈《（［｛¿¡-–—*•"
# French has a space before the closing guillemet.
_END = re.compile(rf"[{re.escape(_WIDE_STOPS + _SPACED)}]+[{re.escape(_CLOSING)}]*(?:[ \u00a0\u202f]»(?=\s|$))?")
_WIDE_BRACKETS = {**dict.fromkeys("「『（【《〈", 1), **dict.fromkeys("」』）】》〉", -1)}
_LAST_WORD = re.compile(r"[^\s\"'“”‘’«»„(\[{]*$")
_LONGEST_WORD = 40

_TITLES = (
    "mr mrs ms messrs mmes dr drs prof rev hon st sr jr gen col capt lt sgt maj cmdr gov sen rep vs viz approx "
    "hr hrn frl bzw ca evtl ggf inkl exkl dipl ing phil med jun geb gest vgl sog tel mio mrd tsd bspw "
    "mme mlle mgr ste env sra srta dra ud uds av avda ee sig sigg dott avv dhr mevr mw ir bijv exmo "
    "np tzw tzn ul godz např tzv kpt ул им гр тыс млн млрд напр проф акад د أ.د डॉ डा प्रो पं ড ডা"
)
# Abbreviations before a number only: "No. 5", but "No. I will not."
_NUMBER_WORDS = (
    "no nos nr nrn art fig figs vol vols ch chap sec pp pg eq abs bd kap ziff abb pág págs núm núms blz ods č rys "
    "рис стр гл jan feb mar apr jun jul aug sep sept oct okt nov dec dez"
)
_LANGUAGES_OF_DOTTED_ORDINALS = "de da no nb nn is fi et lv cs sk sl hr sr bs pl hu tr"
_ABBREVIATIONS = frozenset(_TITLES.split())
_BEFORE_NUMBERS = frozenset(_NUMBER_WORDS.split())
_DOTTED_ORDINALS = frozenset(_LANGUAGES_OF_DOTTED_ORDINALS.split())


def split_sentences(text: str, language: str = "") -> list[str]:
    """The sentences of a paragraph, without the spaces between them; none for a blank one.

    `language` is a code such as `de`, or empty; it matters for ordinal numbers only.
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
    """The sentences joined by spaces, but without a space after Chinese and Japanese."""
    text = ""
    for sentence in sentences:
        text += " " + sentence if text and sentence and not _is_wide(text[-1]) else sentence
    return text


def _is_wide(character: str) -> bool:
    """Whether the character is of an East Asian script without spaces (Korean has them)."""
    wide = unicodedata.east_asian_width(character) in "WFH"
    return wide and unicodedata.category(character) != "So" and "HANGUL" not in unicodedata.name(character, "")


def _ends(text: str, begin: int, start: int, end: int, depth: int, ordinals: bool) -> bool:
    """Whether the sentence from `begin` ends with the terminators at [start, end), closing marks included."""
    if end == len(text):
        return True
    mark = text[start:end].rstrip(_CLOSING + " \u00a0\u202f")
    spaced = text[end].isspace()
    if mark[-1] in _WIDE_STOPS:
        # Quoted speech may continue the sentence: 「はい。」と言った。
        closed = end > start + len(mark)
        return depth == 0 and (spaced or not closed or text[end] in _OPENING)
    if not spaced:
        return mark[-1] in _UNSPACED_STOPS
    following = text[end : end + _LONGEST_WORD].lstrip().lstrip(_OPENING + " ")
    if following and following[0].islower() and following[0].title() != following[0]:  # Georgian has no capitals
        return False
    return mark != "." or not _is_abbreviation(text, begin, start, following, ordinals)


def _is_abbreviation(text: str, begin: int, stop: int, following: str, ordinals: bool) -> bool:
    """Whether the full stop at `stop` belongs to the word before it."""
    match = _LAST_WORD.search(text, max(begin, stop - _LONGEST_WORD), stop)
    word = match[0] if match else ""
    if word.isdecimal():
        # The number of a list item, or an ordinal.
        return not text[begin : stop - len(word)].strip(_OPENING + " ") or (ordinals and len(word) <= 2)
    word = word.lower()
    if len(word) == 1 and unicodedata.category(word)[0] == "L" and word.upper() != word:
        return True
    if "." in word.strip(".") and all(part.isalpha() and len(part) <= 3 for part in word.strip(".").split(".")):
        return True
    return word in _ABBREVIATIONS or (word in _BEFORE_NUMBERS and following[:1].isdecimal())


_UNSPACED_SCRIPTS = (
    "CJK",
    "IDEOGRAPHIC",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)
"""First words in the Unicode names of characters of scripts without spaces."""


def word_tokens(tokenizer: Tokenizer) -> WordTokens:
    """The tokens of a target vocabulary that end and continue words; none in a vocabulary of words."""
    pieces = tokenizer.pieces(range(tokenizer.size)) if tokenizer.kind != "word" else []
    real = [(number, piece) for number, piece in enumerate(pieces) if piece and number >= len(SPECIAL_TOKENS)]
    return WordTokens(
        frozenset(number for number, piece in real if _ends_word(piece[-1])),
        tuple(number for number, piece in real if in_word(piece[0])),
    )


_OPEN_SIGNS = frozenset("\"'/@&#*")
_OPEN_CATEGORIES = ("Ps", "Pi", "Pf", "Pd", "Pc", "Sc")


def _ends_word(letter: str) -> bool:
    """Whether a word with this last character is complete: after letters, and after signs as in `C++` and `{name}`.

    Brackets, quotes, hyphens and currency signs may begin a word, or be within one.
    """
    category = unicodedata.category(letter)
    if in_word(letter):
        return True
    return category[0] in "PS" and letter not in _OPEN_SIGNS | {"\u2581"} and category not in _OPEN_CATEGORIES


@lru_cache(maxsize=4096)
def in_word(letter: str) -> bool:
    """True for a letter, digit, mark, zero-width joiner or `_`, unless it is of a script without spaces."""
    return (unicodedata.category(letter)[0] in "LNM" or letter in "_\u200c\u200d") and not is_unspaced(letter)


def is_unspaced(letter: str) -> bool:
    """Whether a character belongs to a script without spaces between words."""
    return unicodedata.name(letter, "").startswith(_UNSPACED_SCRIPTS)
