"""Text that stays as it is, whatever the model writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from seq2seq.config import DecodingSettings
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.glossary import read_glossary
from seq2seq.decoding.kept_text import KeptText, check_kinds
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translator import TranslationOptions, Translator, translation_options
from seq2seq.errors import UsageError
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import CharTokenizer, WordPunctTokenizer
from tests.decoding.tiny_models import LetterTokenizer, RecurrentModel, letters

KINDS = ("urls", "emails", "placeholders", "tags", "numbers")


def translator(tokenizers: TokenizerPair, settings: DecodingSettings | None = None) -> Translator:
    model = RecurrentModel(tokenizers.target.size, seed=1)
    settings = settings or DecodingSettings(max_length_ratio=1.0, max_length_offset=5)
    return Translator(NativeEngine(model, torch.device("cpu"), "fp32"), tokenizers, settings)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("See https://example.org/a/b?c=1&d=2#e.", ["https://example.org/a/b?c=1&d=2#e"]),
        ("(www.example.org), anna.b@example.org!", ["www.example.org", "anna.b@example.org"]),
        ("{name} has {0} of ${n}, {{ x }}", ["{name}", "{0}", "${n}", "{{ x }}"]),
        ("%s, %5.2f, %(name)s and %1$s are 50% sure", ["%s", "%5.2f", "%(name)s", "%1$s", "50"]),
        ("%lu of %lld, %@, %2$@ and %zu: 5%dx", ["%lu", "%lld", "%@", "%2$@", "%zu"]),
        ('<b>tea</b> <br/> <a href="x">1 < 2', ["<b>", "</b>", "<br/>", '<a href="x">']),
        ("7 of 31, 1,234.56 at 12:30. +49 170 123", ["31", "1,234.56", "12:30", "+49 170 123"]),
        ("１，２３４ and ١٬٢٣٤٫٥ and １２：３０", ["１，２３４", "١٬٢٣٤٫٥", "１２：３０"]),
        ("No part of this", []),
    ],
)
def test_spans(text: str, parts: list[str]) -> None:
    kept = KeptText(letters(), KINDS, False)
    assert [span.text for span in kept.spans(text)] == parts
    assert KeptText(letters(), (), True).spans(text) == []


def test_only_what_the_vocabulary_spells_is_unseen() -> None:
    words = WordPunctTokenizer([" Room", " 31", "."], "nfc")
    kept = KeptText(TokenizerPair(words, words), ("unseen",), True)
    text = "Room 31. Room 4077."
    assert [span.text for span in kept.spans(text)] == ["4077"]
    masked = kept.masked(text)
    assert words.encode([masked])[0].count(UNK) == 1
    assert kept.restored(masked, text) == text
    assert kept.lost(masked, text, "Raum 31.")
    assert not kept.lost(masked, text, "Raum 31, 4077.")


@pytest.mark.parametrize(
    ("text", "output", "is_lost"),
    [
        ("77 photos", "377 Fotos", True),
        ("77 photos", "77 Fotos", False),
        ("in the 90s, 1990", "in den 90ern, 1990", False),
        ("see https://a.example/3 now", "siehe https://a.example/34", True),
        ("see https://a.example/3 now", "siehe (https://a.example/3).", False),
        ("12 and 12", "12 und 120", True),
        ("{0} of %s", "{0} von %s", False),
        # As other languages write them.
        ("visit www.example.com", "请访问www.example.com了解", False),
        ("see https://a.example now", "siehe https://a.example/, jetzt", False),
        ("mail info@example.com", "info@example.com-Adresse", False),
        ("mail info@example.com", "info@example.community", True),
        ("mail info@example.com", "info@example.com.au", True),
        ("visit www.example.com", "www.example.com.au", True),
        ("visit www.example.com", "www.example.com. Danke", False),
        ("%d items", "还剩%d个项目", False),
        ("10 am, 25 December 2019", "10:00 Uhr, 25.12.2019", False),
        ("between 10 and 20", "10-20", False),
    ],
)
def test_a_number_within_another_is_lost(text: str, output: str, is_lost: bool) -> None:
    assert KeptText(letters(), KINDS, False).lost(text, text, output) == is_lost


def test_lines_without_a_letter_are_copied_and_rank_last() -> None:
    """`31` became `31 31!`, and a blank line had the score 0, the best that there is."""
    lines = ["31", "♪", " 😀 !", "https://example.org/x", "<b>{name}</b>", "", "\u200b"]
    found = [best for [best] in translator(letters()).stream(lines)]
    assert [item.text for item in found] == [*lines[:5], "", ""]
    assert {item.score for item in found} == {-math.inf}
    made = translator(letters(), DecodingSettings(keep=(), max_length_offset=5))
    assert made.translate(["31"]) != ["31"]
    [[begun]] = translator(letters()).stream([Line("31", prefix="a")])
    assert begun.text.startswith("a")


def test_a_model_of_symbols_translates_lines_without_letters() -> None:
    digits = CharTokenizer(list("0123456789 "), "identity")
    assert not KeptText(TokenizerPair(digits, digits), ("unseen",), False).copies("12 3")


def test_a_lost_span_is_required_in_a_second_search() -> None:
    tokenizers = letters("abcdef{} ")
    text = "ab {cd} ef"
    lost = translator(tokenizers, DecodingSettings(keep=(), max_length_offset=5)).translate([text])
    assert "{cd}" not in lost[0]
    options = translation_options(DecodingSettings(max_length_offset=5))._replace(keep=("placeholders",))
    assert "{cd}" in next(translator(tokenizers).stream([text], options))[0].text


class _Twins(LetterTokenizer):
    """Two tokens for each letter, so that every text has many segmentations."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [text.lower() for text in super().decode(ids)]


def test_n_best_holds_no_text_twice_and_is_filled() -> None:
    twins = _Twins("abcABC")
    made = translator(TokenizerPair(twins, twins))
    for count in (2, 4):
        search = translation_options(made.settings).search._replace(n_best=count, beam_size=count)
        for found in made.stream(["abc", "cab", "bb"], TranslationOptions(search)):
            texts = [item.text for item in found]
            assert len(set(texts)) == len(texts) > 1
            assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


def test_a_glossary_beyond_the_vocabulary_takes_the_place_of_unknown_words(tmp_path: Path) -> None:
    """Every entry of a glossary was left out where the demo's vocabulary of words could not write it."""
    words = WordPunctTokenizer([" The", " old", " man", " drinks", " tea", "."], "nfc")
    tokenizers = TokenizerPair(words, words)
    (tmp_path / "g.tsv").write_text("tea\tKräutertee (\u201egrün\u201c)\nold man\ttea\n3.50\tdrei\n", encoding="utf-8")
    glossary = read_glossary(tmp_path / "g.tsv", words, replaces_unknown=True)
    kept = KeptText(tokenizers, KINDS, True).with_glossary(glossary)
    line = "The old man drinks tea, Tea, 3.50 or 4.50."
    masked = kept.masked(line)
    assert [span.text for span in kept.spans(line)] == ["Kräutertee („grün“)"] * 2 + ["drei", "4.50"]
    assert kept.restored(masked, line) == "The old man drinks Kräutertee („grün“), Kräutertee („grün“), drei or 4.50."
    assert glossary.phrases(line) == (tuple(words.encode(["tea"])[0]),)
    assert kept.lost(masked, line, "Kräutertee („grün“), drei or 4.50")

    options = translation_options(DecodingSettings())._replace(glossary=glossary, replace_unknown=True)
    found = translator(tokenizers).translate(["The old man drinks tea."])
    assert "Kräutertee" not in found[0]
    [[best, *_]] = translator(tokenizers).stream(["The man drinks tea."], options)
    assert "Kräutertee („grün“)" in best.text


def test_kinds() -> None:
    assert check_kinds("urls, numbers,urls", "--keep") == ("urls", "numbers")
    assert check_kinds(["none"], "keep") == ()
    with pytest.raises(UsageError, match="url"):
        check_kinds("url", "--keep")
