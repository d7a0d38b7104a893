"""Which characters words are made of, and which tokens go on in a word."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from seq2seq.data.tokenizer import Tokenizer
from seq2seq.inference.request import Words
from seq2seq.tokens import SPECIAL_TOKENS

_UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""How Unicode names of characters begin whose scripts put no spaces between words."""


def whole_words(tokenizer: Tokenizer) -> Words:
    """Where words end and go on in a target vocabulary. Where a token is a word, none goes on."""
    pieces = tokenizer.pieces(range(tokenizer.size)) if tokenizer.kind != "word" else []
    real = [(number, piece) for number, piece in enumerate(pieces) if piece and number >= len(SPECIAL_TOKENS)]
    return Words(
        frozenset(number for number, piece in real if in_word(piece[-1])),
        tuple(number for number, piece in real if in_word(piece[0])),
    )


@lru_cache(maxsize=4096)
def in_word(letter: str) -> bool:
    """Whether spaces would part it from the next word: letters, digits and what joins them, of scripts with spaces."""
    return (unicodedata.category(letter)[0] in "LNM" or letter == "_") and not is_unspaced(letter)


def is_unspaced(letter: str) -> bool:
    """Whether a character belongs to a script that puts no spaces between words."""
    return unicodedata.name(letter, "").startswith(_UNSPACED)
