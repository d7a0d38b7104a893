"""The language of a text and how sure that is."""

from __future__ import annotations

from seq2seq.serving.detection import Detector

SAMPLES = {
    "en": ["The old man drinks a cup of tea in the kitchen.", "Where is the hospital?", "She reads this book today."],
    "de": [
        "Der alte Mann trinkt in der Kueche eine Tasse Tee.",
        "Wo ist das Krankenhaus?",
        "Sie liest das Buch heute.",
    ],
}


def test_the_languages_are_told_apart() -> None:
    detector = Detector(SAMPLES)
    for language, text in (("en", "the man reads a book"), ("de", "der Mann liest das Buch")):
        best, other = detector.detect(text)
        assert best.language == language
        assert 100 >= best.confidence > 70 > 30 > other.confidence


def test_text_of_another_language_is_taken_for_none() -> None:
    """One language alone answered 100 % to anything."""
    for samples in (SAMPLES, {"en": SAMPLES["en"]}):
        for text in ("私は学生です", "", "12345"):
            assert all(guess.confidence == 0 for guess in Detector(samples).detect(text))
    (guess,) = Detector({"en": SAMPLES["en"]}).detect("the old book")
    assert guess.confidence > 70


def test_little_text_makes_no_language_likelier() -> None:
    """Unknown n-grams were likelier, the less text a language had."""
    few, many = SAMPLES["en"][:1], SAMPLES["en"] * 40
    for samples in ({"de": SAMPLES["de"], "en": few}, {"de": SAMPLES["de"], "en": many}):
        found = {guess.language: guess.confidence for guess in Detector(samples).detect("xq zzyx qwv the")}
        assert found["en"] > found["de"]
        found = {guess.language: guess.confidence for guess in Detector(samples).detect("xq zzyx qwv das")}
        assert found["de"] > found["en"]


def test_a_language_without_samples_is_not_preferred() -> None:
    """Its n-grams were all equally likely, and so likelier than those that another language has not seen."""
    detector = Detector({**SAMPLES, "fr": []})
    for text in ("Der Ausschuss genehmigte gestern die Finanzvorschriften.", "私は学生です", ""):
        assert detector.detect(text)[-1].language == "fr"
    assert len(Detector({"fr": [], "it": []}).detect("ciao")) == 2
