"""Lines in capitals, or with initial capitals throughout, searched in the letter case that the model knows.

Case is restored from the vocabulary (truecasing, after Lita et al. 2003): of `word`, `Word` and `WORD`, the form that
takes the fewest entries. So names, German nouns and acronyms keep their capitals, as far as the model has seen them.
"""

from __future__ import annotations

import re
from functools import cached_property

from seq2seq.letter_case import FIXED, changed, lowercase, titlecase, uppercase
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.pair import TokenizerPair

_FEWEST_WORDS, _FEWEST_LETTERS = 2, 8
"""Least words and letters of a line in capitals; less may be an acronym."""
_FEWEST_INITIALS = 5
"""Least words of a line with initial capitals; fewer may be names."""

_FIXED = re.compile(FIXED)
_WORD = re.compile(rf"{FIXED}|(?P<change>[^\W\d_]+)")
_BEGINNING = re.compile(r"(?:^|[.!?]\s+)[^\w]*(?P<change>[^\W\d_])")
_BEFORE = ", "
"""Text before a word whose entries are counted: the word is then not the first of a line."""


class Truecaser:
    """The letter case of lines.

    Args:
        tokenizers: of the model, whose source vocabulary says what it has seen.
        languages: ISO 639-1 codes of source and target.
    """

    def __init__(self, tokenizers: TokenizerPair, languages: tuple[str, str]) -> None:
        self._tokenizer, self._languages = tokenizers.source, languages

    def usual(self, text: str) -> str:
        """A text in the letter case that the model knows: of one in capitals, or with initial capitals, another."""
        return self._lowered(text) if self.is_in_capitals(text) or self._has_initials(text) else text

    def is_in_capitals(self, text: str) -> bool:
        """Whether a text is in capitals outside of URLs and the like, and the vocabulary is not."""
        if sum(map(str.isupper, text)) < _FEWEST_LETTERS:
            return False
        bare = _FIXED.sub(" ", text)
        words = [word for word in re.findall(r"[^\W\d_]{2,}", bare) if word.isupper()]
        return (
            bare.isupper()
            and len(words) >= _FEWEST_WORDS
            and sum(map(len, words)) >= _FEWEST_LETTERS
            and self._knows_small_letters
        )

    def raised(self, output: str) -> str:
        """An output in capitals."""
        return uppercase(output, self._languages[1])

    def _has_initials(self, text: str) -> bool:
        """Whether all words begin with a capital, though the vocabulary has most of them in small letters."""
        words = []
        for found in _WORD.finditer(text):
            if found.lastgroup == "change":
                if not found[0][0].isupper():
                    return False
                words.append(found[0])
        words = [word for word in words if len(word) > 1]
        if len(words) < _FEWEST_INITIALS or not self._knows_small_letters:
            return False
        small = sum(self._form(word).islower() for word in words)
        return 2 * small >= len(words) and small >= _FEWEST_INITIALS - 1

    def _lowered(self, text: str) -> str:
        """The text in its usual case; sentences begin with a capital."""
        words = {found[0] for found in _WORD.finditer(text) if found.lastgroup == "change"}
        forms = {word: self._form(word) for word in words}
        text = changed(text, _WORD, lambda word: forms[word])
        return _BEGINNING.sub(lambda found: found[0][:-1] + titlecase(found["change"], self._languages[0]), text)

    def _form(self, word: str) -> str:
        """The letter case of a word with the fewest unknown, then the fewest entries; small letters before others."""
        small = lowercase(word, self._languages[0])
        forms = [small, titlecase(small, self._languages[0]), word]
        rows = self._tokenizer.encode([_BEFORE + form for form in forms])
        return min(zip(forms, rows, strict=True), key=lambda found: (found[1].count(UNK), len(found[1])))[0]

    @cached_property
    def _knows_small_letters(self) -> bool:
        """Whether the vocabulary has more entries in small letters than words in capitals."""
        pieces = self._tokenizer.pieces(range(4, self._tokenizer.size))
        return sum(map(str.islower, pieces)) > sum(piece.isupper() and len(piece.strip("▁ ")) > 1 for piece in pieces)
