"""Which entries of a glossary a line holds, and what is wrong with a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from seq2seq.config.settings import TokenizerSettings
from seq2seq.decoding.glossary import Entry, Glossary, phrase_tokens, read_glossary
from seq2seq.errors import DataError
from seq2seq.tokenizers.sentencepiece import SubwordTokenizer, train_subwords
from seq2seq.tokenizers.symbols import WordTokenizer
from tests.decoding.tiny_models import LetterTokenizer

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(content: str) -> Path:
        path = tmp_path / "glossary.tsv"
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return file


@pytest.fixture
def glossary(write: Write) -> Callable[[dict[str, str]], Glossary]:
    def build(entries: dict[str, str]) -> Glossary:
        lines = "".join(f"{source}\t{target}\n" for source, target in entries.items())
        return read_glossary(write(lines), LetterTokenizer("abcdefghijklmnopqrstuvwxyz 学机器习"))

    return build


def held(glossary: Glossary, text: str) -> list[str]:
    return [entry.target for entry in glossary.entries(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", ["d"]),
        ("a dog and a dog", ["d", "d"]),
        ("Dogs dogma hotdog dog2 dog_ 2dog", []),
        ("Dog, DOG; (dog) dog's hot-dog", ["d"] * 5),
        ("the dog house is for the dog", ["dh", "d"]),
        ("dog   house", ["dh"]),
        ("dog\thouse\u00a0door", ["dhd"]),
        ("dog house doors", ["dh"]),
        ("house of the dog", ["d"]),
        ("", []),
        ("   ", []),
    ],
)
def test_words_and_longest_match(
    glossary: Callable[[dict[str, str]], Glossary], text: str, expected: list[str]
) -> None:
    found = glossary({"dog": "d", "dog house": "dh", "dog house door": "dhd", "house door": "hd"})
    assert held(found, text) == expected


def test_the_first_of_two_that_overlap(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    assert held(glossary({"a b": "x", "b c d": "y", "d": "z"}), "a b c d") == ["x", "z"]


def test_case(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    """Small letters stand for all; capitals for themselves; as written wins."""
    found = glossary({"apple": "fruit", "Apple": "firm", "it": "pronoun", "IT": "computing", "iPhone": "phone"})
    assert held(found, "Apple apple APPLE") == ["firm", "fruit", "fruit"]
    assert held(found, "It IT it") == ["pronoun", "computing", "pronoun"]
    assert held(found, "iphone IPHONE iPhone") == ["phone"]


def test_letters_whose_small_form_is_longer(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    """İ.lower() has two characters: places after it used to be one off."""
    found = glossary({"dog": "d", "straße": "s"})
    assert held(found, "İİİ dog, İSTANBUL Dog Straße STRASSE") == ["d", "d", "s"]


def test_composed_and_decomposed_letters_are_equal(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    found = glossary({"cafe\u0301": "c", "e": "x"})
    assert held(found, "caf\u00e9 cafe\u0301") == ["c", "c"]


def test_scripts_without_spaces(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    found = glossary({"机器学习": "ml", "学习": "l", "ひと": "man", "คน": "man"})
    assert held(found, "我们学习机器学习。") == ["l", "ml"]
    assert held(found, "あのひとは") == held(found, "ผู้คนไทย") == ["man"]
    # The beginning of a letter with its marks was taken for a word.
    assert held(glossary({"ก": "k", "क": "k"}), "กี กำ कि ก क") == ["k", "k"]


def test_tokens_are_those_of_the_target(glossary: Callable[[dict[str, str]], Glossary]) -> None:
    found = glossary({"dog": "ba", "dog house": "c"})
    assert found.phrases("a dog, a dog house, a dog") == ((5, 4), (6,), (5, 4))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        ("dog\td\nno tab here\n", 2, "0 tabs", "put a tab between the phrases"),
        ("dog\td\tq\n", 1, "2 tabs", "one tab alone; `cut -f 1,2`"),
        ("dog\t\td\n", 1, "2 tabs", "one tab alone: 'dog', tab, 'd'"),
        ("dog\td\t\t\n", 1, "3 tabs", "one tab alone: 'dog', tab, 'd'"),
        ("\n\n\td\n", 3, "the source phrase is blank", "fill it in"),
        ("dog\t \n", 1, "the target phrase is blank", "fill it in"),
        ("dog\td\ncat\tc\n dog \te\n", 3, "another translation in line 1: 'd'", "keep one"),
    ],
)
def test_wrong_lines_are_named(write: Write, content: str, line: int, message: str, hint: str) -> None:
    """A line with two tabs was told to have a tab put in."""
    path = write(content)
    with pytest.raises(DataError, match=message) as error:
        read_glossary(path, LetterTokenizer("abcdefghij"))
    assert error.value.where == f"{path}:{line}"
    assert (error.value.hint or "").startswith(hint)


def test_a_header_is_no_entry(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    letters = LetterTokenizer("abcdefghijklmnopqrstuvwxyzT ")
    found = read_glossary(write("\nSource term\tTarget term\ndog\td\n"), letters)
    assert held(found, "source term, dog") == ["d"]
    assert "'Source term' and 'Target term', is taken for a header" in capsys.readouterr().err
    for first in ("german\tdeutsch", "is\tes", "input\toutput"):
        entry = first.split("\t")
        assert held(read_glossary(write(f"{first}\ndog\td\n"), letters), f"{entry[0]} dog") == [entry[1], "d"]
    assert held(read_glossary(write("dog\td\nsource\ttarget\n"), letters), "source") == ["target"]


def test_files_as_they_come(write: Write, tmp_path: Path) -> None:
    tokenizer = LetterTokenizer("abcdefghij")
    found = read_glossary(write("\ufeffdog\td\r\n\r\ncat\tc\r\ndog\td\r\n"), tokenizer)
    assert held(found, "dog cat") == ["d", "c"]
    assert len(read_glossary(write(""), tokenizer)) == 0
    with pytest.raises(DataError, match="no such file"):
        read_glossary(tmp_path / "missing.tsv", tokenizer)
    (tmp_path / "latin").write_bytes(b"caf\xe9\tc\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_glossary(tmp_path / "latin", tokenizer)


def test_what_the_vocabulary_cannot_write_is_left_out(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """Demanding <unk> in the output would be no help to anyone."""
    path = write("dog\tHund\ncat\tKatze\nbird\tVogel Strauss\n")
    found = read_glossary(path, WordTokenizer(["Hund", "Vogel"], "identity"))
    assert found.phrases("a dog, a cat and a bird") == ((4,),)
    warning = capsys.readouterr().err
    assert "2 of 3 glossary entries are left out" in warning
    assert f"{path}:2, 'Katze'" in warning


def subwords(sentences: Sequence[str], **changes: object) -> SubwordTokenizer:
    settings = TokenizerSettings(vocabulary_size=320, **changes)  # type: ignore[arg-type]
    return train_subwords(settings, sentences, "target")


@pytest.mark.parametrize("normalization", ["identity", "nfkc"])
def test_phrases_bring_no_space_into_chinese(normalization: str) -> None:
    """A subword tokenizer begins every text with a space, which would be written into the middle of the line."""
    tokenizer = subwords(["我们学习机器学习", "机器学习很好", "好 dog runs", "a dog"] * 5, normalization=normalization)
    chinese, english = phrase_tokens(tokenizer, ["机器学习", "dog"])
    before, after = tokenizer.encode(["我们很好", "a"])
    assert tokenizer.decode([[*before, *chinese]]) == ["我们很好机器学习"]
    assert tokenizer.decode([[*after, *english]]) == ["a dog"]


def test_a_large_glossary_takes_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is looked up in a table, never compared with each entry."""

    class Table(dict[str, Entry]):
        lookups = 0

        def get(self, key: str, default: object = None) -> Entry | None:  # type: ignore[override]
            self.lookups += 1
            return super().get(key)

    words = [f"word{number}" for number in range(2_000)]
    glossary = Glossary([Entry(word, "x", (4,), 1) for word in words])
    table = Table(glossary._entries)
    monkeypatch.setattr(glossary, "_entries", table)
    assert len(glossary.entries(" ".join(words[:20]))) == 20
    assert 20 <= table.lookups <= 20 * 2 * len({len(word) for word in words})
