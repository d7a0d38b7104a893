"""Unknown words become the source word that was looked at."""

from __future__ import annotations

import pytest
import torch

from seq2seq.decoding.unknown_words import replace_unknowns, symbol_sides
from seq2seq.errors import UsageError
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import CharTokenizer, WordTokenizer
from tests.decoding.tiny_models import letters

WORDS = TokenizerPair(WordTokenizer(["<2de>", "the", "dog", "⁇"], "nfkc"), WordTokenizer(["der", "Hund", "⁇"], "nfkc"))
CHARACTERS = TokenizerPair(CharTokenizer("abc ", "identity"), CharTokenizer("xyz ", "identity"))


def looking(*places: int, width: int) -> torch.Tensor:
    """Attention whose rows look at these places, and a little elsewhere."""
    return torch.nn.functional.one_hot(torch.tensor(places), width) + 0.1


def test_words() -> None:
    (ids,) = WORDS.source.encode(["the Zyx dog"])
    assert ids == [5, UNK, 6]
    attention = looking(0, 1, 2, 3, width=4)
    assert replace_unknowns(WORDS, "the Zyx dog", [4, UNK, 5], attention) == "der Zyx Hund"
    assert replace_unknowns(WORDS, "the Zyx dog", [UNK, UNK], looking(2, 0, 3, width=4)) == "dog the"
    assert replace_unknowns(WORDS, "the Zyx dog", [4, 5], None) == "der Hund"
    # As the tokenizer reads them: several spaces, and compatible forms of letters.
    assert replace_unknowns(WORDS, "the  \ufb01sh", [4, UNK], looking(0, 1, 2, width=3)) == "der fish"


def test_a_known_question_mark_stays() -> None:
    """The sign that stands for <unk> in text may be a word of its own."""
    assert replace_unknowns(WORDS, "the Zyx dog", [6, UNK, 6], looking(0, 1, 2, 3, width=4)) == "⁇ Zyx ⁇"


def test_end_mark_and_tags_are_never_copied() -> None:
    attention = looking(0, 3, 3, width=4) + torch.tensor([0.0, 0.0, 0.2, 0.0])
    assert replace_unknowns(WORDS, "<2de> the Zyx", [UNK, UNK], attention) == "Zyx Zyx"
    assert replace_unknowns(WORDS, "<2de>", [UNK], looking(0, 1, width=2)) == "⁇"
    assert replace_unknowns(WORDS, "", [UNK], looking(0, 0, width=1)) == "⁇"


def test_characters() -> None:
    assert replace_unknowns(CHARACTERS, "ab-c", [4, UNK, 7, UNK], looking(0, 2, 1, 0, 4, width=5)) == "x- a"


def test_an_untouched_output_is_what_the_tokenizer_decodes() -> None:
    for pair, rows in ((WORDS, [[], [4], [4, 5, 6, 4]]), (CHARACTERS, [[], [4, 7, 5], [7, 7]])):
        for row in rows:
            assert replace_unknowns(pair, "a", row, None) == pair.target.decode([row])[0]


def test_errors() -> None:
    symbol_sides(WORDS)
    with pytest.raises(UsageError, match="no attention"):
        replace_unknowns(WORDS, "the", [UNK], None)
    for pair in (letters(), TokenizerPair(WORDS.source, letters().target)):
        with pytest.raises(UsageError, match="words or characters, not of letters"):
            symbol_sides(pair)
