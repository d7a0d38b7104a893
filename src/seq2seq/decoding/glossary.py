"""Glossary: source phrases with their required translations.

The file has an entry on each line: source phrase, tab, target phrase. Blank lines and a header are skipped. Entries
are matched from left to right, the longest one first, and every occurrence counts:

* case: an entry without capitals also matches words with capitals (`dog`: Dog, DOG); an entry with capitals matches
  exactly. An exact match is preferred.
* words: an entry matches whole words only, except in scripts without spaces between words.
* white space: any run equals one space. Composed and decomposed letters are equal (Unicode NFC).

A target phrase that a vocabulary of words or characters cannot write takes the place of an unknown word, if the run
replaces these (`kept_text.py`); otherwise the entry is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq import console
from seq2seq.data.files import read_lines
from seq2seq.decoding.segmentation import in_word, is_joined, is_unspaced, readable
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.normalization import normalize

_HEADERS = {("source", "target"), ("source", "translation"), ("term", "translation"), ("src", "tgt"), ("src", "trg")}
"""The two names of a header, without what follows them."""
_KIND = re.compile(" (term|phrase|text)$")

_ANCHOR = "\uf8ff"
"""A private-use character, which no vocabulary merges with others."""


class Entry(NamedTuple):
    """An entry of the glossary."""

    source: str
    """With single spaces, in Unicode NFC."""
    target: str
    tokens: tuple[int, ...]
    """Tokens of the target phrase within a sentence; none of a phrase that the vocabulary cannot write."""
    line: int
    """Line of the file, counted from 1."""


class Glossary:
    """Entries of a glossary. The time of a search hardly depends on their number."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = {entry.source: entry for entry in entries}
        lengths: dict[str, set[int]] = {}
        for phrase in self._entries:
            lengths.setdefault(_lower(phrase[0]), set()).add(len(phrase))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def __iter__(self) -> Iterator[Entry]:
        """All entries."""
        return iter(self._entries.values())

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def entries(self, text: str) -> list[Entry]:
        """The entries that occur in a source line, in order, one for each occurrence, without overlaps."""
        return [entry for _, entry in self.matches(normalize(text, "nfc"))]

    def matches(self, text: str) -> Iterator[tuple[int, Entry]]:
        """Begin of each of the `entries` in a text that is in Unicode NFC, and the entry."""
        end = 0
        for begin in range(len(text)):
            if begin >= end and (entry := self._at(text, begin)):
                yield begin, entry
                end = begin + len(entry.source)

    def phrases(self, text: str) -> tuple[tuple[int, ...], ...]:
        """Tokens of the target phrases of a source line that have some, as `Sentence.phrases` takes them."""
        return tuple(entry.tokens for entry in self.entries(text) if entry.tokens)

    def _at(self, text: str, begin: int) -> Entry | None:
        """The longest entry that begins at `begin`."""
        lengths = self._lengths.get(_lower(text[begin]))
        if lengths is None or _inside_word(text, begin):
            return None
        for length in lengths:
            phrase = text[begin : begin + length]
            entry = self._entries.get(phrase) or self._entries.get(_lower(phrase))
            if entry is not None and len(phrase) == length and not _inside_word(text, begin + length):
                return entry
        return None


def read_glossary(path: Path, tokenizer: Tokenizer, *, replaces_unknown: bool = False) -> Glossary:
    """Read a glossary file, with the tokenizer of the target side.

    Entries that the target vocabulary cannot represent have no tokens where unknown words are replaced; elsewhere they
    are left out, with a warning.

    Raises:
        DataError: no such file, not UTF-8, a malformed line, or two translations of one phrase.
    """
    lines = list(_read(path))
    rows = phrase_tokens(tokenizer, [target for _, target, _ in lines])
    entries: dict[str, Entry] = {}
    unwritable: dict[str, Entry] = {}
    for (source, target, number), tokens in zip(lines, rows, strict=True):
        entry = Entry(source, target, () if UNK in tokens else tokens, number)
        other = entries.setdefault(source, entry)
        if other.target != target:
            raise DataError(
                f"'{source}' has another translation in line {other.line}: '{other.target}'",
                where=f"{path}:{number}",
                hint="keep one of them",
                code="data.glossary",
            )
        if not entry.tokens and not replaces_unknown:
            unwritable.setdefault(source, entry)
    if unwritable:
        first = next(iter(unwritable.values()))
        console.warn(
            f"{len(unwritable)} of {len(entries)} glossary entries are left out, as the model's vocabulary cannot write"
            f" them; the first: {path}:{first.line}, '{first.target}'"
        )
    return Glossary([entry for source, entry in entries.items() if source not in unwritable])


def phrase_tokens(tokenizer: Tokenizer, phrases: Sequence[str]) -> list[tuple[int, ...]]:
    """Tokens of each target phrase within a sentence.

    Subword tokenizers put a space before a text. A phrase in a script without spaces must not have one, so it is
    encoded after another character.
    """
    rows = [tuple(row) for row in tokenizer.encode(phrases)]
    inner = [number for number, phrase in enumerate(phrases) if phrase and is_unspaced(phrase[0])]
    if inner:
        (anchor,) = tokenizer.encode([_ANCHOR])
        joined = tokenizer.encode([_ANCHOR + phrases[number] for number in inner])
        texts = tokenizer.decode([row[len(anchor) :] for row in joined])
        for number, row, text in zip(inner, joined, texts, strict=True):
            if row[: len(anchor)] == anchor and text == phrases[number]:
                rows[number] = tuple(row[len(anchor) :])
    return rows


def _read(path: Path) -> Iterator[tuple[str, str, int]]:
    """Source phrase, target phrase and line number of each entry."""
    is_first = True
    for number, line in enumerate(read_lines(path), start=1):
        if is_blank(line):
            continue
        sides = [normalize(readable(side), "nfc") for side in line.split("\t")]
        if len(sides) != 2:
            raise DataError(
                f"{len(sides) - 1} tabs; an entry is a source phrase, one tab and a target phrase",
                where=f"{path}:{number}",
                hint=_tab_hint(sides),
                code="data.glossary",
            )
        for side, name in zip(sides, ("source", "target"), strict=True):
            if is_blank(side):
                raise DataError(
                    f"the {name} phrase is blank", where=f"{path}:{number}", hint="fill it in", code="data.glossary"
                )
        is_header = is_first and tuple(_KIND.sub("", side.casefold()) for side in sides) in _HEADERS
        is_first = False
        if is_header:
            names = f"'{sides[0]}' and '{sides[1]}'"
            console.warn(f"{path}: the first line, {names}, is taken for a header; if it is an entry, put it elsewhere")
            continue
        yield sides[0], sides[1], number


def _tab_hint(sides: Sequence[str]) -> str:
    """Hint for a line with too many tabs or none."""
    if len(sides) == 1:
        return "put a tab between the phrases"
    filled = [side for side in sides if not is_blank(side)]
    if len(filled) == 2:
        return f"one tab alone: '{filled[0]}', tab, '{filled[1]}'"
    return "one tab alone; `cut -f 1,2` keeps the first two columns of a file"


def _lower(text: str) -> str:
    """The text in lower case and of the same length (`lower` makes two letters of İ)."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(letter.lower()[:1] for letter in text)


def _inside_word(text: str, place: int) -> bool:
    """Whether the characters before and after `place` belong to one word, or to one letter of any script."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    return is_joined(before, after) or (in_word(before) and in_word(after))
