"""Findings about text that is unlike the text of a run."""

from __future__ import annotations

import pytest

from seq2seq.checks.identified_languages import Identifier, SideLanguages
from seq2seq.checks.unlike_training import RunText, text_findings
from seq2seq.config import TokenizerSettings
from seq2seq.data.demo import builtin_pairs
from seq2seq.tokenizers.pair import train_tokenizers

_PAIRS = builtin_pairs("demo", "train")[:600]
_OWN, _TEST = _PAIRS[:300], _PAIRS[300:]


@pytest.fixture(scope="module")
def run() -> RunText:
    settings = TokenizerSettings(kind="wordpunct", vocabulary_size=2000, joint=False)
    tokenizers = train_tokenizers(settings, lambda: iter(_PAIRS), 1)
    return RunText(_OWN, tokenizers, ("en", "de"), Identifier(wanted=False))


def codes(run: RunText, sources: list[str], references: list[str], hypotheses: list[str]) -> list[str]:
    found = list(text_findings(sources, references, hypotheses, run))
    assert all(finding.command.startswith("seq2seq ") and finding.evidence for finding in found)
    return [finding.code for finding in found]


SOURCES, REFERENCES = ([pair[side] for pair in _TEST] for side in (0, 1))


def test_the_text_of_the_run_is_like_itself(run: RunText) -> None:
    assert codes(run, SOURCES, REFERENCES, REFERENCES) == []
    assert codes(run, [], [], []) == []


def test_exchanged_files(run: RunText) -> None:
    assert "swapped" in codes(run, REFERENCES, SOURCES, SOURCES)


def test_translations_in_the_language_of_the_sources(run: RunText) -> None:
    others = [*SOURCES[1:41], *REFERENCES[40:]]  # the sources of other lines: no copies
    assert codes(run, SOURCES, REFERENCES, others) == ["language"]
    assert codes(run, SOURCES, REFERENCES, [*SOURCES[:40], *REFERENCES[40:]]) == []  # copies are found elsewhere


def test_translations_in_a_third_language(run: RunText) -> None:
    pytest.importorskip("py3langid", reason="py3langid is an extra: pip install '.[langid]'")
    french = [f"Les enfants jouent dans le jardin depuis {n} heures, et leur mère les regarde." for n in range(30)]
    found = codes(run._replace(identifier=Identifier()), SOURCES, REFERENCES, [*french, *REFERENCES[30:]])
    assert found == ["language"]


def test_the_language_of_short_texts_is_that_of_most_of_them() -> None:
    """Single short texts were not identified, and a few long ones in another language passed for the whole side."""
    pytest.importorskip("py3langid", reason="py3langid is an extra: pip install '.[langid]'")
    english = ["Come in now.", "He is here.", "We like tea.", "She can swim.", "It was cold.", "Where are you?"] * 40
    german = ["Gestern haben die Kinder im Garten gespielt, obwohl es regnete.", "Der alte Mann liest am Abend."] * 6
    pairs = [(text, text) for text in [*english, *german]]
    assert SideLanguages(pairs, ("en", "en"), Identifier()).languages == ["en", "en"]


def test_text_that_the_tokenizer_does_not_know(run: RunText) -> None:
    assert "tokenizer" in codes(run, [f"zyx{n} wvu{n} is here" for n in range(300)], REFERENCES, REFERENCES)


def test_tokenized_or_lowercased_references(run: RunText) -> None:
    spaced = [reference.replace(".", " .").replace("?", " ?").replace("!", " !") for reference in REFERENCES]
    assert "spacing" in codes(run, SOURCES, spaced, REFERENCES)
    assert "case" in codes(run, SOURCES, [reference.lower() for reference in REFERENCES], REFERENCES)


def test_few_pairs_tell_nothing_about_languages(run: RunText) -> None:
    assert "swapped" not in codes(run._replace(pairs=_OWN[:20]), REFERENCES, SOURCES, SOURCES)
