"""Vocabularies that are extended by new text: what they knew stays as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import load_config
from seq2seq.config.settings import TokenizerSettings
from seq2seq.data.demo import builtin_pairs
from seq2seq.errors import ConfigError
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers

RUSSIAN = [
    ("Кошка спит в доме.", "Собака спит."),
    ("Кошка видит дом.", "Собака видит <2de> дом."),
    ("Дом.", "Спит."),
] * 2
KINDS = ["unigram", "bpe", "char", "word", "wordpunct"]


def settings(kind: str, joint: bool) -> TokenizerSettings:
    words = kind in ("word", "wordpunct")
    return TokenizerSettings(kind=kind, joint=joint, vocabulary_size=500 if words else 330)  # type: ignore[arg-type]


def trained(kind: str, joint: bool) -> TokenizerPair:
    return train_tokenizers(settings(kind, joint), lambda: iter(builtin_pairs("demo", "train")[:120]), 1)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_new_text_is_learned_and_old_text_stays(kind: str, joint: bool, tmp_path: Path) -> None:
    """Russian was spelled in bytes by subwords, and unknown to words."""
    old = trained(kind, joint)
    new = old.extended(settings(kind, joint), iter(RUSSIAN), 1)
    assert new.joint == joint
    texts = [side for pair in builtin_pairs("demo", "train")[:120] for side in pair]
    for before, after in zip(old, new, strict=True):
        added = after.pieces(range(before.size, after.size))
        assert added
        assert after.pieces(range(before.size)) == before.pieces(range(before.size))
        assert after.tags == before.tags
        known = [row for row in before.encode(texts) if UNK not in row]
        assert known
        assert [row for row in after.encode(texts) if UNK not in row] == known
    russian = [pair[0] for pair in RUSSIAN]
    rows = new.source.encode(russian)
    assert not any(UNK in row for row in rows)
    assert new.source.decode(rows) == russian
    assert sum(map(len, rows)) <= sum(map(len, old.source.encode(russian))) / (2 if kind in ("unigram", "bpe") else 1)
    assert not [piece for piece in new.source.pieces(rows[0]) if re.fullmatch("<0x..>", piece)]
    again = new.extended(settings(kind, joint), iter(RUSSIAN), 1)
    assert (again.source, again.target) == (new.source, new.target)  # there is nothing left to add
    new.save(tmp_path)
    assert TokenizerPair.load(tmp_path).fingerprint == new.fingerprint


OLD = {kind: trained(kind, True) for kind in ("unigram", "bpe")}
NEW = {kind: pair.extended(settings(kind, True), iter(RUSSIAN), 1) for kind, pair in OLD.items()}
LETTERS = "".join(sorted({letter for pair in builtin_pairs("demo", "train")[:120] for side in pair for letter in side}))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@given(text=st.text(alphabet=LETTERS, max_size=40))
def test_any_text_of_known_letters_is_encoded_as_before(kind: str, text: str) -> None:
    assert NEW[kind].source.encode([text]) == OLD[kind].source.encode([text])


def test_the_model_file_normalizes_new_scripts_by_itself(tmp_path: Path) -> None:
    """Exports read the file without this package; rules for Korean are left out of a model that has no use for them."""
    new = OLD["unigram"].extended(settings("unigram", True), iter([("집은 크다", "집이 크다")] * 3), 1)
    new.source.save(tmp_path / "new.model")
    processor = sentencepiece.SentencePieceProcessor(str(tmp_path / "new.model"))
    composed, decomposed = "집은", "\u110c\u1175\u11b8\u110b\u1173\u11ab"
    assert processor.encode(composed) == processor.encode(decomposed)
    assert new.source.encode([composed]) == new.source.encode([decomposed]) == [processor.encode(composed)]


def test_a_vocabulary_has_a_limit_and_its_setting_a_run() -> None:
    old = trained("word", True)
    few = TokenizerSettings(kind="word", vocabulary_size=8)
    assert old.extended(few, iter(RUSSIAN * 3), 1).source.size == old.source.size + 8
    with pytest.raises(ConfigError, match="adds to the vocabulary of a run"):
        load_config([], ["tokenizer.extend=true"])
