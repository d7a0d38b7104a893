"""Text of scripts without spaces or capitals: spans that are kept, sentences, letter case."""

from __future__ import annotations

import pytest

from seq2seq.decoding.segmentation import join_sentences, split_sentences
from seq2seq.fixed_text import FIXED_TEXT, has_letter
from seq2seq.letter_case import titlecase, uppercase


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://a.com/b。老人は今日、魚を食べます。", "https://a.com/b"),
        ("老人は魚。https://a.com/bを見ます。", "https://a.com/b"),
        ("https://example.com请看", "https://example.com"),
        ("https://ja.wikipedia.org/wiki/東京 を見る", "https://ja.wikipedia.org/wiki/東京"),
        ("メールはinfo@example.comまで", "info@example.com"),
        ("请联系info@example.com或者打电话", "info@example.com"),
        ("%sさんは", "%s"),
        ("%s个文件", "%s"),
        ("%s님", "%s"),
        ("%dটি বই", "%d"),
        ("https://example.com에서 보다", "https://example.com"),
        ("이메일info@example.com으로", "info@example.com"),
        ("see https://hi.wikipedia.org/wiki/हिन्दी today", "https://hi.wikipedia.org/wiki/हिन्दी"),
        ("see https://th.wikipedia.org/wiki/วันนี้ today", "https://th.wikipedia.org/wiki/วันนี้"),
        ("see https://ko.wikipedia.org/wiki/한국어 today", "https://ko.wikipedia.org/wiki/한국어"),
        ("an jürgen@müller.de schreiben", "jürgen@müller.de"),
        ("संपर्क info@a.com।और", "info@a.com"),
    ],
)
def test_the_word_after_a_span_is_not_part_of_it(text: str, kept: str) -> None:
    """The text after a URL or an address was copied with it, and `%s` before such a letter was not kept."""
    assert [found[0] for found in FIXED_TEXT.finditer(text)] == [kept]
    assert has_letter(text)


@pytest.mark.parametrize("text", ["100 %der", "20%discount", "http:// x", "a@b", "5 %dès lors"])
def test_what_only_looks_like_a_span_is_none(text: str) -> None:
    assert {found.lastgroup for found in FIXED_TEXT.finditer(text)} <= {"numbers"}


def test_georgian_has_no_capitals() -> None:
    """Its letters are small ones to Unicode, and a sentence does not begin with a small letter."""
    assert split_sentences("მე ვარ აქ. ის არის იქ! სად ხარ?") == ["მე ვარ აქ.", "ის არის იქ!", "სად ხარ?"]
    assert uppercase("ეს წიგნი abc") == "ეს წიგნი ABC"


def test_marks_do_not_begin_words() -> None:
    assert titlecase("ọ̀rẹ́ mi я́блоко") == "Ọ̀rẹ́ Mi Я́блоко"


def test_half_width_sentences_are_joined_without_spaces() -> None:
    assert join_sentences(split_sentences("これは本です｡あれはペンです｡")) == "これは本です｡あれはペンです｡"
