"""Target tags: every part of a text has the tag of its line, and a missing or unknown tag is an error."""

from __future__ import annotations

import re

import pytest

from seq2seq.data.corpus import add_tag
from seq2seq.decoding.segmentation import split_sentences
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.decoding.text_batches import Line, encode_chunk
from seq2seq.errors import UsageError

TAGS = TargetTags(("<2de>", "<2pt-BR>"), required=True)


def encode(texts: list[str]) -> list[list[int]]:
    """A token for each word."""
    return [[len(word) for word in text.split()] for text in texts]


@pytest.mark.parametrize("paragraphs", [True, False])
def test_every_part_of_a_long_line_has_the_tag(paragraphs: bool) -> None:
    """Only the first sentence was translated into the language that was asked for."""
    text = "One two three. Four five six, seven eight nine ten eleven. Twelve."
    split = split_sentences if paragraphs else None
    lines = [Line(f"<2de> {text}"), Line("<2de> "), Line("a b")]
    found = list(encode_chunk(lines, 0, encode, 5, split, TAGS, lambda line: line.text))
    parts = [part.text for part in sorted(found, key=lambda part: part.key) if part.key[0] == 0]
    assert len(parts) > 2
    assert all(part.startswith("<2de> ") for part in parts)
    assert " ".join(part.removeprefix("<2de> ") for part in parts) == text
    assert all(1 < len(part.ids) <= 5 and part.ids == encode([part.text])[0] for part in found)
    assert [part.text for part in found if part.key[0]] == ["a b"]  # a tag alone is a blank line


def test_texts_get_the_tag_that_they_lack() -> None:
    assert list(TAGS.add(["a", "", " \u200b", "<2pt-BR> b"], "de", "--x")) == ["<2de> a", "", " \u200b", "<2pt-BR> b"]
    assert list(TAGS._replace(required=False).add(["a", "<2de> b"], None, "--x")) == ["a", "<2de> b"]
    assert list(TargetTags(()).add(["a", "<2de> b"], None, "--x")) == ["a", "<2de> b"]
    assert [TAGS.language(text) for text in ("<2pt-BR> a", "<2fr> a", "a <2de>")] == ["pt-BR", "", ""]


@pytest.mark.parametrize(
    ("tags", "texts", "language", "message"),
    [
        (TAGS, ["<2de> a", "b"], None, r"--x is missing\n.*\n.*its tags: de, pt-BR"),
        (TAGS, ["a"], "fr", r"no target tag fr\n.*\n.*its tags: de, pt-BR"),
        (TAGS, ["<2fr> a"], "de", "no target tag fr"),
        (TargetTags(()), ["a"], "de", "trained without target_tag: leave it out"),
    ],
)
def test_missing_and_unknown_tags(tags: TargetTags, texts: list[str], language: str | None, message: str) -> None:
    """The model chose a language itself, in silence."""
    with pytest.raises(UsageError) as error:
        list(tags.add(texts, language, "--x"))
    assert re.search(message, str(error.value))
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["", " \u00a0", "\0", "\u3164", "\u115f\u200b", "\ufffa", "\u0600", "a\0b", ".", "\u0301"]
)
def test_training_and_translation_tag_the_same_text(text: str) -> None:
    """A Hangul filler had a tag in translation and none in training; an Arabic number sign, the other way round."""
    assert list(TAGS.add([text], "de", "--target-lang")) == [add_tag(text, "<2de>")]
