"""Lines in capitals, or with initial capitals: translated in the letter case that the vocabulary knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seq2seq.config import DecodingSettings
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.glossary import read_glossary
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translator import Translator, translation_options
from seq2seq.decoding.truecasing import Truecaser
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import CharTokenizer, WordPunctTokenizer
from tests.decoding.tiny_models import RecurrentModel

WORDS = ["Then", " we", " fly", " to", " Rome", " with", " NASA", ".", ",", " then"]


def words() -> TokenizerPair:
    source = WordPunctTokenizer(WORDS, "nfc")
    return TokenizerPair(
        source,
        WordPunctTokenizer(
            [" dann", " fliegen", " wir", " nach", " Rom", " und", " gern", " oft", " bald", "."], "nfc"
        ),
    )


def translator(tokenizers: TokenizerPair, **settings: object) -> Translator:
    model = RecurrentModel(tokenizers.target.size, seed=2)
    chosen = DecodingSettings.model_validate({"max_length_ratio": 1.0, "max_length_offset": 5, **settings})
    return Translator(NativeEngine(model, torch.device("cpu"), "fp32"), tokenizers, chosen)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("THEN WE FLY TO ROME.", True),
        ("SEE https://example.org/a AND {name}, PLEASE", True),
        ("<2de> THEN WE FLY TO ROME.", True),
        ("Then WE FLY TO ROME.", False),
        ("NASA, ESA", False),
        ("ATTENTION!", False),
        ("1234567890 12345", False),
        ("飞往罗马 然后我们飞往罗马", False),
        ("", False),
    ],
)
def test_lines_in_capitals(text: str, taken: bool) -> None:
    assert Truecaser(words(), ("", "")).is_in_capitals(text) == taken


def test_a_vocabulary_of_capitals_reads_capitals() -> None:
    capitals = WordPunctTokenizer([word.upper() for word in WORDS], "nfc")
    caser = Truecaser(TokenizerPair(capitals, capitals), ("", ""))
    assert caser.usual("THEN WE FLY TO ROME.") == "THEN WE FLY TO ROME."


def test_the_vocabulary_knows_the_letter_case() -> None:
    """Names and acronyms that it has keep their capitals, and sentences begin with one."""
    caser = Truecaser(words(), ("", ""))
    text = "THEN WE FLY TO ROME WITH NASA. THEN <b>WE</b> FLY."
    assert caser.usual(text) == "Then we fly to Rome with NASA. Then <b>we</b> fly."
    assert caser.raised("Dann fliegen wir {name} nach Rom, groß.") == "DANN FLIEGEN WIR {name} NACH ROM, GROSS."


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("Then We Fly To Rome Then.", "Then we fly to Rome then."),
        ("We Fly To NASA With Rome", "We fly to NASA with Rome"),
        ("Then We Fly To", "Then We Fly To"),
        ("Then We Fly to Rome With NASA.", "Then We Fly to Rome With NASA."),
        ("Rome, Anna, NASA, Then, Rome, NASA", "Rome, Anna, NASA, Then, Rome, NASA"),
    ],
)
def test_initial_capitals(text: str, usual: str) -> None:
    """Of five words or more, most of which the vocabulary writes in small letters: other lines may be names."""
    assert Truecaser(words(), ("", "")).usual(text) == usual


def test_the_dot_of_i_in_turkish() -> None:
    symbols = CharTokenizer(list("abcdefghijklmnopqrstuvwxyzı İIL"), "nfc")
    caser = Truecaser(TokenizerPair(symbols, symbols), ("tr", "tr"))
    assert caser.usual("ILIK SÜT İÇİN")[:4] == "Ilık"
    assert caser.raised("için") == "İÇİN"


def test_a_line_in_capitals_is_translated_as_its_usual_form() -> None:
    ours = translator(words())
    usual, unlike = "Then we fly to Rome.", ["Then we fly to ROME.", "NASA"]
    shouted, plain, *others = ours.translate(["THEN WE FLY TO ROME.", usual, *unlike])
    assert shouted == plain.upper() != plain
    assert others == translator(words(), truecase=False).translate(unlike)


def test_it_can_be_turned_off() -> None:
    line = "THEN WE FLY TO ROME."
    off = translator(words(), truecase=False).translate([line])
    assert off != translator(words()).translate([line])


def test_n_best_outputs_are_distinct_in_capitals() -> None:
    options = translation_options(DecodingSettings(beam_size=4))
    options = options._replace(search=options.search._replace(n_best=4))
    [found] = translator(words()).stream(["THEN WE FLY TO ROME."], options)
    texts = [translation.text for translation in found]
    assert len(set(texts)) == len(texts) > 1
    assert all(text == text.upper() for text in texts)


def test_a_given_text_keeps_its_letter_case(tmp_path: Path) -> None:
    """A phrase of the glossary in the line, or a prefix of the output."""
    ours, line = translator(words()), "THEN WE FLY TO ROME."
    off = translator(words(), truecase=False)
    (tmp_path / "glossary.tsv").write_text("ROME\twir\n", encoding="utf-8")
    glossary = read_glossary(tmp_path / "glossary.tsv", ours.tokenizers.target)
    options = translation_options(ours.settings)
    for given, with_options in ((Line(line, "nach"), options), (Line(line), options._replace(glossary=glossary))):
        [[mine, *_]], [[theirs, *_]] = (list(one.stream([given], with_options)) for one in (ours, off))
        assert mine.text == theirs.text
