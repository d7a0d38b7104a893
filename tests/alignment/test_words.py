"""Pieces and words of the same text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.alignment.words import Segmenter, Segments
from seq2seq.config.settings import TokenizerSettings
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers

TEXT = [
    "der alte mann trinkt tee am strand",
    "die katze , die milch trinkt .",
    "Ein Mann schläft heute 12 Stunden!",
    "das ½ ﬁnden wir gut",
]


@pytest.fixture(scope="module", params=["unigram", "bpe", "char", "word"])
def tokenizers(request: pytest.FixtureRequest) -> TokenizerPair:
    settings = TokenizerSettings(kind=request.param, vocabulary_size=90 if request.param == "char" else 360)
    return train_tokenizers(settings, lambda: iter([(text, text) for text in TEXT] * 5), 1, ["de"])


def segment(tokenizer: Tokenizer, text: str) -> Segments:
    return Segmenter(tokenizer).segment([text])[0]


def owners(segments: Segments) -> list[str]:
    """What the pieces of each word spell."""
    found = ["" for _ in segments.words]
    for piece, share in zip(segments.pieces, segments.shares, strict=True):
        if share.sum() > 0:
            found[int(share.argmax())] += piece
    return [text.replace("▁", "") for text in found]


@pytest.mark.parametrize("text", TEXT[:3])
def test_pieces_spell_their_words(tokenizers: TokenizerPair, text: str) -> None:
    found = segment(tokenizers.source, text)
    assert found.words == text.split()
    assert owners(found) == text.split()
    torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(len(found.pieces)))


@given(text=st.text(st.sampled_from("aeinstr zßü½ﬁ中😀▁\u00a0\t\u0301\u200b"), max_size=30))
def test_every_word_has_pieces_and_every_piece_a_word(tokenizers: TokenizerPair, text: str) -> None:
    found = segment(tokenizers.source, text)
    assert found.shares.shape == (len(found.pieces), len(found.words))
    if found.words:
        torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(len(found.pieces)))
        # Order is kept: a later piece never belongs to an earlier word.
        firsts = found.shares.gt(0).int().argmax(dim=1).tolist()
        assert firsts == sorted(firsts)


def test_normalisation_does_not_shift_the_words() -> None:
    """NFKC writes one character as three: counting characters of the raw text put all later pieces a word too late."""
    settings = TokenizerSettings(kind="bpe", vocabulary_size=330, normalization="nfkc")
    tokenizer = train_tokenizers(settings, lambda: iter([(text, text) for text in TEXT] * 5), 1).source
    found = segment(tokenizer, "½ ﬁ gut\u00a0! das ㎜")
    assert found.words == ["½", "ﬁ", "gut\u00a0!", "das", "㎜"]
    assert owners(found) == ["1⁄2", "fi", "gut!", "das", "mm"]


def test_words_end_at_ascii_space_only(tokenizers: TokenizerPair) -> None:
    """Tools that read Pharaoh links count `Bonjour\u00a0!` as one word."""
    assert segment(tokenizers.source, "  der\talte\u00a0mann  tee ").words == ["der", "alte\u00a0mann", "tee"]


def test_blank_text_has_no_words(tokenizers: TokenizerPair) -> None:
    for text in ("", "  ", "\0", "\u200b \u00a0"):
        found = segment(tokenizers.source, text)
        assert (found.ids, found.pieces, found.words) == ([], [], [])
        assert found.shares.shape == (0, 0)


def test_a_tag_is_no_word() -> None:
    settings = TokenizerSettings(kind="unigram", vocabulary_size=360)
    tokenizer = train_tokenizers(settings, lambda: iter([(text, text) for text in TEXT] * 5), 1, ["<2de>"]).source
    assert tokenizer.tags == ["<2de>"]
    found, plain = (segment(tokenizer, text) for text in ("<2de> der alte mann", "der alte mann"))
    assert found.words == plain.words
    assert owners(found) == owners(plain)
    assert found.shares.sum() == len(plain.pieces)


def test_cut_text_keeps_its_words(tokenizers: TokenizerPair) -> None:
    whole = segment(tokenizers.source, TEXT[0])
    found = Segmenter(tokenizers.source).segment([TEXT[0]], 2)[0]
    assert found.cut
    assert not whole.cut
    assert found.words == whole.words
    assert found.pieces == whole.pieces[:2]
    width = found.shares.shape[1]
    torch.testing.assert_close(found.shares, whole.shares[:2, :width])
    assert not whole.shares[:2, width:].any()
    # Words times pieces were held in memory, and words times words.
    (long,) = Segmenter(tokenizers.source).segment([f"{TEXT[0]} " * 20_000], 4)
    assert len(long.words) == 20_000 * len(whole.words)
    assert long.shares.shape[1] <= 4
