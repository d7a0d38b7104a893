"""Which tokens go on in a word."""

from __future__ import annotations

from seq2seq.decoding.segmentation import in_word, word_tokens
from seq2seq.special_tokens import SPECIAL_TOKENS
from seq2seq.tokenizers.symbols import CharTokenizer, WordTokenizer

FIRST = len(SPECIAL_TOKENS)


def test_letters_of_scripts_with_spaces_go_on_in_words() -> None:
    assert all(map(in_word, "aZéß7_ж\u0301"))
    assert not any(map(in_word, " .-▁!中あก"))


def test_words_of_a_vocabulary() -> None:
    letters = word_tokens(CharTokenizer(["a", " ", "(", "中", "7"], "identity"))
    assert letters.inner == (FIRST, FIRST + 4)
    assert letters.endings == {FIRST, FIRST + 4}
    signs = "+})%.\"('-$/"
    closed = word_tokens(CharTokenizer(list(signs), "identity")).endings
    assert [sign for number, sign in enumerate(signs, FIRST) if number in closed] == ["+", "}", ")", "%", "."]
    assert word_tokens(WordTokenizer(["ein", "Hut", "."], "identity")).inner == ()
