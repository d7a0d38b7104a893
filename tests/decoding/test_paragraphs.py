"""Paragraphs are split where sentences end, in many scripts, and put together again."""

from __future__ import annotations

import random

import pytest

from seq2seq.decoding.segmentation import join_sentences, split_sentences
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translation import Translation, join

# The bar marks where a sentence ends.
PARAGRAPHS = [
    ("en", "Hello there.| How are you?| I'm fine!"),
    ("en", "Mr. J. Smith lives at No. 5, e.g. there.| No.| He left at 5 p.m. sharp."),
    ("en", '"Why?" he asked.| "Because!"| She left (in haste).| (Nobody knew.)| Wait... what?| So…'),
    ("en", "Pi is 3.14.| See example.com for more, or ask Dr. No.| The U.S. Army came in 1999.| It left."),
    ("en", "1. Open the door.| 2. Close it."),
    ("de", "Am 3. Mai kam Dr. Meier z. B. um 5 Uhr.| „Gut.“| Das 19. Jahrhundert kostete 5 Mio. Euro."),
    ("fr", "Que veux-tu ?| M. Dupont et Mme. Durand, p. ex., dorment.| « Non ! »| Oui."),
    ("es", "¿Qué?| ¡No!| El Sr. García llegó.| Sí."),
    ("ru", "Это проф. Иванов.| Он ушёл.| Куда?"),
    ("el", "Τι κάνεις;| Καλά."),
    ("zh", "他来了。|我走了！|真的吗？|是的"),
    ("ja", "「はい。」と彼は言った。|次の文。|「いや。」|「そう。行こう。」"),
    ("ko", "안녕하세요.| 저는 갑니다."),
    ("hi", "यह है।| वह है।| क्या?"),
    ("ar", "هل أنت هنا؟| نعم.| شكرا."),
    ("ur", "یہ ہے۔| وہ ہے۔"),
    ("hi", "डॉ. शर्मा आए।| वे गए।"),
    ("ar", "جاء د. سامي.| ثم ذهب."),
    ("hy", "Նա եկավ։| Ես գնացի։"),
    ("am", "ሰላም።| እንዴት ነህ፧"),
    ("my", "သူလာ။| ငါသွား။"),
    ("th", "เขามาแล้ว ฉันไปแล้ว"),
    ("he", "הוא בא.| הלכתי!"),
]


@pytest.mark.parametrize(("language", "marked"), [pair for pair in PARAGRAPHS if pair[0] != "el"], ids=lambda t: t[:12])
def test_sentences_end_where_a_reader_says(language: str, marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    assert split_sentences(marked.replace("|", ""), language) == expected


@pytest.mark.parametrize(("language", "marked"), PARAGRAPHS, ids=lambda text: text[:12])
def test_joining_undoes_splitting(language: str, marked: str) -> None:
    text = marked.replace("|", "")
    assert join_sentences(split_sentences(text, language)) == text


@pytest.mark.parametrize("marked", ["یہ ہے۔|وہ ہے۔", "သူလာ။|ငါသွား။", "គាត់មក។|ខ្ញុំទៅ។", "ሰላም።|እሱ መጣ።"])
def test_a_stop_without_a_space_ends_a_sentence(marked: str) -> None:
    assert split_sentences(marked.replace("|", "")) == marked.split("|")


def test_ordinals_depend_on_the_language() -> None:
    text = "It was number 3. Then came another."
    assert len(split_sentences(text, "en")) == 2
    assert len(split_sentences("Es war am 3. Mai.", "de-AT")) == 1


def test_nothing_visible_is_lost() -> None:
    draws = random.Random(1)
    for _ in range(500):
        text = "".join(draws.choices("aB. !?。」「»\"') 3\u3000…।\t", k=draws.randrange(60)))
        sentences = split_sentences(text, draws.choice(["", "de", "ja"]))
        assert "".join("".join(sentences).split()) == "".join(text.split())
        assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_sentences_of_a_translation_have_its_words() -> None:
    """Sentences of Chinese are joined without a space, and their words then were numbered as if there was one."""
    for texts, known in ((("一。", "二。"), False), (("One.", "Two."), True)):
        parts = [[Translation(Line("a b"), text, -1.0, -1.0, [text])] for text in texts]
        (joined,) = join(Line("a b"), parts, 1.0, ["a", "b"])
        assert joined.pairs == ((("a", texts[0]), ("b", texts[1])) if known else (("a b", "".join(texts)),))


def test_blank_and_long_paragraphs() -> None:
    assert split_sentences("") == split_sentences(" \t\u3000") == []
    assert join_sentences([]) == ""
    assert join_sentences(["A.", "", "B."]) == "A. B."
    assert len(split_sentences("中「文。" * 100_000)) == 1  # a bracket that never closes: whole, and in no time
    assert len(split_sentences("Word word. " * 50_000)) == 50_000
