"""Whatever goes in comes out again, and whatever is saved is the same when loaded."""

from __future__ import annotations

import io
import pickle
import re
import unicodedata
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError, ConfigError, DataError
from seq2seq.special_tokens import BOS, EOS, PAD, UNK
from seq2seq.tokenizers.base import UNKNOWN
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers
from seq2seq.tokenizers.sentencepiece import SubwordTokenizer, read_model
from seq2seq.tokenizers.symbols import WordTokenizer

PAIRS = [
    (f"the {colour} cat number {n} sat on the mat", f"die Katze {n} saß auf der Matte, {colour}")
    for n in range(100)
    for colour in ("red", "blue", "green")
]
AWKWARD = "\t\u00a0\u2028\u0085\u2581\u2585\ue000\ue001\n\r\0⁇😀\u0301\ufeff\u200b <>s/"
TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(AWKWARD + "   abc")))
NAMED = [
    "",
    " ",
    "  two  spaces  ",
    "a\u00a0b",
    "▁",
    "a▁b \ue000\ue001",
    "<s> </s> <unk> <0x41>",
    "👩‍👩‍👧 e\u0301",
]


def train(pairs: list[tuple[str, str]] = PAIRS, seed: int = 1, **changes: object) -> TokenizerPair:
    return train_tokenizers(TokenizerSettings(**{"vocabulary_size": 500, **changes}), lambda: iter(pairs), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_subword_round_trip_is_lossless(kind: str, joint: bool) -> None:
    """sentencepiece alone folds spaces, and turns a real U+2581 into a space."""
    pair = train(kind=kind, joint=joint, normalization="identity")

    @given(st.lists(TEXT, max_size=4))
    def check(texts: list[str]) -> None:
        for tokenizer in pair:
            rows = tokenizer.encode(texts)
            assert tokenizer.decode(rows) == texts
            assert all(UNK < number < tokenizer.size for row in rows for number in row)

    check()
    for tokenizer in pair:
        assert tokenizer.decode(tokenizer.encode(NAMED)) == NAMED
    assert pair.joint == joint


def test_char_round_trip_is_lossless_for_known_characters() -> None:
    pair = train(kind="char", normalization="identity")
    known = "".join(sorted({char for sides in PAIRS for side in sides for char in side}))

    @given(st.lists(st.text(known)))
    def check(texts: list[str]) -> None:
        assert pair.source.decode(pair.source.encode(texts)) == texts

    check()
    assert pair.source.decode(pair.source.encode(["caЖt"])) == [f"ca{UNKNOWN}t"]
    assert pair.source.pieces(pair.source.encode(["a b"])[0]) == ["a", "▁", "b"]


def test_words_split_at_spaces_only() -> None:
    pair = train([("a\u00a0b c\u2028d", "e\tf")], kind="word", normalization="identity")
    assert set(pair.source.symbols) == {"a\u00a0b", "c\u2028d", "e\tf"}  # type: ignore[attr-defined]
    assert pair.source.decode(pair.source.encode(["c\u2028d a\u00a0b", " e\tf  x "])) == [
        "c\u2028d a\u00a0b",
        f"e\tf {UNKNOWN}",
    ]


def test_symbols_by_frequency_then_code_point() -> None:
    pair = train([("c b a a", "z z z"), ("b", "y")], kind="word", joint=False, vocabulary_size=8)
    assert pair.source.encode(["a b c d"]) == [[4, 5, 6, UNK]]
    assert pair.target.size == 6
    capped = train([("b b a a c", "d")], kind="word", vocabulary_size=8, min_frequency=2)
    assert capped.source.symbols == ("a", "b")  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_nfkc(kind: str) -> None:
    text = "ﬁne ｆｕｌｌ ① cafe\u0301"
    normal = unicodedata.normalize("NFKC", text)
    pair = train([(text, normal)] * 20, kind=kind, normalization="nfkc")
    assert pair.source.decode(pair.source.encode([text])) == [normal]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word", "wordpunct"])
def test_accents_and_spaces_that_look_the_same_are_the_same(kind: str) -> None:
    """Decomposed accents (macOS) or a no-break space gave other tokens, and "alter Bäcker" became a driver."""
    text = "Lê ệ Äpfel 한 ein Hund"
    pair = train([(text, text)] * 20, kind=kind)
    restored = pickle.loads(pickle.dumps(pair.source))
    expected = pair.source.encode([text])
    assert pair.source.decode(expected) == [text]
    spellings = [unicodedata.normalize("NFD", text), "Lê e\u0302\u0323 Äpfel 한 ein Hund"]
    for odd in (*spellings, text.replace(" ", "\u00a0"), f"\u3000{text} ".replace(" ", "\t \u2003")):
        assert pair.source.encode([odd]) == restored.encode([odd]) == expected
    # Marks in another order, for which no single character exists.
    marks = ["\u0628\u064e\u0651", "\u0628\u0651\u064e"]
    assert pair.source.encode(marks[:1]) == pair.source.encode(marks[1:])


def test_a_model_file_carries_the_normalization() -> None:
    """Exports are used without this package: there, the library alone must read a text as the model was trained."""
    tokenizer = train([("한국 Äpfel ein", "x")] * 20).source
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.to_bytes())
    letters = map(chr, chain(range(0xA0, 0x3000), range(0xF900, 0xFB50)))
    composed = [letter for letter in letters if unicodedata.decomposition(letter)[:1] not in ("", "<")]
    syllables = "".join(map(chr, range(0xAC00, 0xD7A4)))
    for text in (*composed, syllables):
        nfc, nfd = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
        assert library.normalize(nfd) == library.normalize(text) == ("▁" + nfc if nfc.strip() else "")
    assert library.encode(" ein\u00a0\t Äpfel\u3000") == library.encode("ein Äpfel")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_too_small_for_the_characters_spells_rare_ones(kind: str, capsys) -> None:
    """300 lines of Japanese have more characters than 500 entries hold, and no tokenizer could be trained on them."""
    common, rare = "日本語の本", "".join(map(chr, range(0x5000, 0x5400)))
    pairs = [(common, "a book")] * 50 + [(rare[start : start + 8], "x") for start in range(0, len(rare), 8)]
    pair = train(pairs, kind=kind)
    assert pair.source.size <= 500
    assert all("<0x" not in piece for piece in pair.source.pieces(pair.source.encode([common])[0]))
    assert pair.source.decode(pair.source.encode([rare])) == [rare]
    hint = re.search(r"tokenizer.vocabulary_size=(\d+) has room for all", capsys.readouterr().err)
    assert hint
    pair = train(pairs, kind=kind, vocabulary_size=int(hint[1]))
    assert all("<0x" not in piece for piece in pair.source.pieces(pair.source.encode([rare])[0]))
    assert "characters have entries" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_special_tokens(kind: str) -> None:
    tokenizer = train(kind=kind).source
    (row,) = tokenizer.encode(["the cat"])
    assert tokenizer.decode([[PAD, BOS, *row, EOS, PAD], [], [EOS], [UNK]]) == ["the cat", "", "", UNKNOWN]
    assert tokenizer.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert len(tokenizer.pieces(row)) == len(row)
    assert tokenizer.encode([""]) == [[]]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_saved_and_loaded(tmp_path: Path, kind: str, joint: bool) -> None:
    pair = train(kind=kind, joint=joint)
    pair.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.fingerprint == pair.fingerprint
    assert loaded.joint == joint
    assert pickle.loads(pickle.dumps(pair)).joint == joint
    for before, after in zip(pair, loaded, strict=True):
        assert (after.size, after.encode(["die Katze 7 ▁"])) == (
            before.size,
            before.encode(["die Katze 7 ▁"]),
        )


@pytest.mark.parametrize(
    "content", ["[]", "{}", "null", '{"format": 1, "joint": true, "files": []}', '{"format": 99}', "\0"]
)
def test_odd_indexes_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError):
        TokenizerPair.load(tmp_path)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("pairs", [PAIRS, [("a", "b")], [("▅▁", "\t")], [("中", "文")]])
def test_a_small_corpus_shrinks_the_vocabulary(capsys: pytest.CaptureFixture[str], kind: str, pairs) -> None:
    """sentencepiece stops with an internal error where the corpus cannot fill the vocabulary."""
    pair = train(pairs, kind=kind, vocabulary_size=8000)
    assert pair.source.size < 8000
    assert f"{pair.source.size:,} entries instead of 8,000" in capsys.readouterr().err


def test_a_vocabulary_below_the_characters_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"need 2[89]\d entries") as caught:
        train(vocabulary_size=100)
    assert train(vocabulary_size=int(str(caught.value.hint).split("=")[1])).source.size > 256
    text = "".join(map(chr, range(0x5000, 0x5400)))
    with pytest.raises(ConfigError) as caught:
        train([(text, text)], character_coverage=1.0)
    assert "tokenizer.character_coverage=auto" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["unigram", "word"])
def test_no_text_no_tokenizer(kind: str) -> None:
    with pytest.raises(DataError, match="no text"):
        train([], kind=kind)


def test_long_lines_are_not_dropped() -> None:
    """The trainer skips lines above 4,192 bytes without a word: 'zebra' would be known by its bytes alone."""
    line = " ".join(["zebra"] * 3000)
    pair = train([(line, line)], kind="bpe", vocabulary_size=300)
    assert pair.source.pieces(pair.source.encode(["zebra"])[0]) == ["▁zebra"]


def test_training_is_deterministic_and_samples_evenly() -> None:
    assert train(sample_size=100).fingerprint == train(sample_size=100).fingerprint
    assert train(sample_size=100).fingerprint != train(sample_size=100, seed=2).fingerprint
    words = [(f"w{n}", "x") for n in range(1000)]
    seen = [int(word[1:]) for word in train(words, kind="word", joint=False, sample_size=200).source.symbols]  # type: ignore[attr-defined]
    assert len(seen) == 200
    assert 400 < sum(seen) / len(seen) < 600
    assert sum(number < 200 for number in seen) > 20


def foreign_model(**options: int | str) -> bytes:
    """A model that sentencepiece has trained by itself."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(side for pair in PAIRS for side in pair), model_writer=model, vocab_size=400,
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    return model.getvalue()


@pytest.mark.parametrize(
    "ids",
    [{}, {"unk_id": 3, "bos_id": -1, "eos_id": 0, "pad_id": 7}, {"unk_id": 0, "bos_id": -1, "eos_id": -1}],
)
def test_foreign_models_get_our_ids(tmp_path: Path, ids: dict[str, int]) -> None:
    """sentencepiece's own order is unk 0, bos 1, eos 2 and no pad."""
    path = tmp_path / "foreign.model"
    path.write_bytes(foreign_model(**ids))
    pair = train(source_model=str(path))
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = ["the red cat", "die Katze 中", ""]
    rows = pair.source.encode(texts)
    assert pair.joint
    assert [pair.source.pieces(row) for row in rows[:1]] == [theirs.encode(texts[0], out_type=str)]
    assert all(number >= 4 or number == UNK for row in rows for number in row)
    assert UNK in rows[1]
    assert pair.source.decode(rows)[0] == texts[0]
    pair.save(tmp_path / "saved")
    assert TokenizerPair.load(tmp_path / "saved").source.encode(texts) == rows


@pytest.mark.fault(25)
def test_damaged_foreign_models_cannot_hurt(tmp_path: Path) -> None:
    model = foreign_model()
    path = tmp_path / "foreign.model"
    for broken in (
        b"",
        b"hello",
        model[: len(model) // 2],
        b"\xff" * 100,
        model[:200] + b"\xff" * 60 + model[260:],
    ):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            read_model(path)
    with pytest.raises(CheckpointError, match=r"did you mean .*foreign\.model"):
        read_model(tmp_path / "foreing.model")
    with pytest.raises(CheckpointError):
        SubwordTokenizer.from_bytes(b"junk", "junk")


def test_the_corpus_is_streamed() -> None:
    """Larger than memory: pairs are asked for one by one, and only a sample of them is kept."""
    alive = most = 0

    class Text(str):
        __slots__ = ()

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def corpus() -> Iterator[tuple[str, str]]:
        nonlocal alive, most
        for number in range(20_000):
            alive += 2
            most = max(most, alive)
            yield Text(f"word{number}"), Text("x")

    pair = train_tokenizers(TokenizerSettings(kind="word", sample_size=100), corpus, 1)
    assert pair.source.size == 50 + 1 + 4
    assert most <= 2 * 53


@pytest.mark.fault(23)
@pytest.mark.parametrize("symbols", ['["\\ud800"]', "[1]", '["a", "a"]', '"ab"', "null", "[" * 100_000])
def test_a_crafted_vocabulary_is_refused(symbols: str) -> None:
    """A lone surrogate among the symbols ended in a traceback when it was written."""
    content = f'{{"kind": "word", "normalization": "nfc", "symbols": {symbols}}}'
    with pytest.raises(CheckpointError, match="word vocabulary"):
        WordTokenizer.from_bytes(content.encode(), "x")
