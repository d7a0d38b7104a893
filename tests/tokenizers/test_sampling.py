"""Another segmentation of the same text: the right distribution, repeatable anywhere, never another text."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import ConfigError
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers import sampling
from seq2seq.tokenizers.normalization import normalize
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers
from seq2seq.tokenizers.sampling import SubwordSampler
from seq2seq.tokenizers.sentencepiece import SubwordTokenizer, parse_model

PAIRS = [
    (f"<2de> the {colour} cat number {n} sat on the mat", f"die Katze {n} saß auf der Matte, {colour}")
    for n in range(60)
    for colour in ("red", "blue", "green")
]
TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\u2581\ue000\t  <2de>acht")))


def tokenizers(kind: str, **changes: object) -> TokenizerPair:
    made = TokenizerSettings(**{"kind": kind, "vocabulary_size": 400, **changes})  # type: ignore[arg-type]
    return train_tokenizers(made, lambda: iter(PAIRS), 1, ["<2de>"])


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def pair(request: pytest.FixtureRequest) -> TokenizerPair:
    return tokenizers(request.param)


def sample(
    sampler: SubwordSampler, texts: list[str], epoch: int = 0, numbers: range | None = None, longest: int = 10**6
) -> list[list[int]]:
    rows = [np.array(row, dtype=np.int32) for row in sampler.tokenizers.source.encode(texts)]
    places = np.array(numbers if numbers is not None else range(len(rows)), dtype=np.int64)
    return [row.tolist() for row in sampler.sample(rows, 0, (epoch, 0, 0), places, longest)]


def test_the_text_never_changes(pair: TokenizerPair) -> None:
    sampler = SubwordSampler(pair, 0.3, 1)

    @given(st.lists(TEXT, min_size=1, max_size=5), st.integers(0, 5))
    def check(texts: list[str], epoch: int) -> None:
        rows = sample(sampler, texts, epoch)
        assert pair.source.decode(rows) == [normalize(text, "nfc") for text in texts]
        assert all(UNK < number < pair.source.size for row in rows for number in row)

    check()
    assert sample(sampler, ["", ""]) == [[], []]


def test_epochs_differ_and_repeat(pair: TokenizerPair) -> None:
    texts = [source for source, _ in PAIRS[:40]]
    one, other = SubwordSampler(pair, 0.2, 1), SubwordSampler(pair, 0.2, 1)
    epochs = [sample(one, texts, epoch) for epoch in range(4)]
    assert len({str(rows) for rows in epochs}) == 4
    assert [sample(other, texts, epoch) for epoch in (3, 2, 1, 0)] == epochs[::-1]
    assert sample(SubwordSampler(pair, 0.2, 2), texts) != epochs[0]


def test_a_row_does_not_depend_on_its_neighbours(pair: TokenizerPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks hold different rows of a batch; and a full cache is emptied at another moment in each process."""
    texts = [source for source, _ in PAIRS[:30]]
    whole = sample(SubwordSampler(pair, 0.2, 1), texts)
    monkeypatch.setattr(sampling, "_CACHED_WORDS", 5)
    share = SubwordSampler(pair, 0.2, 1)
    assert sample(share, texts[1::3], numbers=range(1, 30, 3)) == whole[1::3]
    assert sample(share, texts[2::3], numbers=range(2, 30, 3)) == whole[2::3]


def test_another_process_draws_the_same(pair: TokenizerPair, tmp_path: Path) -> None:
    """sentencepiece's own generator, given the same seed, draws otherwise in another process."""
    pair.save(tmp_path)
    script = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from seq2seq.tokenizers.pair import TokenizerPair; from seq2seq.tokenizers.sampling import SubwordSampler\n"
        "pair = TokenizerPair.load(Path(sys.argv[1]))\n"
        "rows = [np.array(row, dtype=np.int32) for row in pair.source.encode(['the red cat sat on the mat'] * 20)]\n"
        "drawn = SubwordSampler(pair, 0.2, 1).sample(rows, 0, (0, 0, 0), np.arange(20), 10**6)\n"
        "print([row.tolist() for row in drawn])\n"
    )
    found = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(sample(SubwordSampler(pair, 0.2, 1), ["the red cat sat on the mat"] * 20))


def test_tags_and_bytes_stay(pair: TokenizerPair) -> None:
    tag = pair.source.encode(["<2de>"])[0][-1]
    assert pair.source.pieces([tag]) == ["<2de>"]
    rows = sample(SubwordSampler(pair, 0.6, 1), ["<2de> the red cat 中 sat"] * 50)
    stored = pair.source.encode(["中"])[0]
    for row in rows:
        assert row.count(tag) == 1
        assert [number for number in row if number in stored[-3:]] == stored[-3:]
    assert len({tuple(row) for row in rows}) > 5


def test_rows_over_the_limit_stay(pair: TokenizerPair) -> None:
    text = "the red cat number 7 sat on the mat"
    stored = pair.source.encode([text])[0]
    rows = sample(SubwordSampler(pair, 0.5, 1), [text] * 200, longest=len(stored) + 3)
    assert max(map(len, rows)) == len(stored) + 3
    assert rows.count(stored) > 10


@pytest.mark.parametrize("kind", ["char", "word"])
def test_other_tokenizers_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)0\.1 needs subwords.*tokenizer\.kind=unigram"):
        SubwordSampler(tokenizers(kind), 0.1, 1)


def segmentations(text: str, ids: dict[str, int]) -> Iterator[tuple[int, ...]]:
    """Every way to write a text in pieces."""
    if not text:
        yield ()
    for end in range(1, len(text) + 1):
        if (number := ids.get(text[:end])) is not None:
            yield from ((number, *rest) for rest in segmentations(text[end:], ids))


SYLLABLES = ["\u2581", *"numberk", "nu", "mb", "er", "num", "ber", "\u2581num", "\u2581n", "umb", "\u2581number"]
IDS = {text: number for number, text in enumerate(SYLLABLES, start=4)}
TEXTS = [None, None, None, None, *SYLLABLES]
SCORES = [0.0] * 4 + [-float(2 + (7 * number) % 11) for number in range(len(SYLLABLES))]
COUNT = 40_000


def many_draws(words: sampling._Words) -> Counter[tuple[int, ...]]:
    """Draws of one word, past the cache and its choice among few."""
    return Counter(words.draw((IDS["\u2581number"],), "\u2581number", place) for place in range(0, 7 * COUNT, 7))


def test_unigram_draws_by_flattened_probability() -> None:
    """Against every segmentation of a word and the formula; 3 % of total variation is what chance allows."""
    alpha = (1 - 0.2) / (10 * math.sqrt(0.2))
    weights = {
        way: math.exp(alpha * sum(SCORES[number] for number in way)) for way in segmentations("\u2581number", IDS)
    }
    assert len(weights) > 20
    total = sum(weights.values())
    found = many_draws(sampling._Lattice(TEXTS, SCORES, 0.2, 1))
    assert sum(abs(found[way] / COUNT - weight / total) for way, weight in weights.items()) / 2 < 0.03
    assert set(found) <= set(weights)


def dropout_chances(parts: tuple[str, ...], scores: dict[str, float], skipped: float) -> Counter[tuple[str, ...]]:
    """Exact distribution of BPE-dropout by its definition: at each step every merge is skipped by itself."""
    merges = sorted(
        (-scores[parts[n] + parts[n + 1]], n) for n in range(len(parts) - 1) if parts[n] + parts[n + 1] in scores
    )
    result: Counter[tuple[str, ...]] = Counter()
    left = 1.0
    for _, n in merges:
        merged = (*parts[:n], parts[n] + parts[n + 1], *parts[n + 2 :])
        for way, chance in dropout_chances(merged, scores, skipped).items():
            result[way] += left * (1 - skipped) * chance  # type: ignore[assignment]
        left *= skipped
    result[parts] += left  # type: ignore[assignment]
    return result


def test_bpe_drops_merges_as_published() -> None:
    """Against the exact distribution of Provilkov et al. 2020, and without dropout against sentencepiece."""
    known = dict(zip(SYLLABLES, SCORES[4:], strict=True))
    expected = dropout_chances(tuple("\u2581number"), known, 0.2)
    assert math.isclose(sum(expected.values()), 1)
    assert len(expected) > 10
    found = many_draws(sampling._Dropout(TEXTS, SCORES, 0.2, 1))
    drawn = {tuple(str(TEXTS[number]) for number in way): chance / COUNT for way, chance in found.items()}
    assert sum(abs(drawn.get(way, 0) - chance) for way, chance in expected.items()) / 2 < 0.03
    assert set(drawn) <= set(expected)
    none = SubwordSampler(tokenizers("bpe"), 1e-12, 1)
    lines = [side for pair in PAIRS for side in pair]
    assert sample(none, lines) == none.tokenizers.source.encode(lines)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_noise_is_mild_at_a_tenth(shared_data: Path, kind: str) -> None:
    """The meaning of `sampling`: about one word in seven otherwise, texts 10 to 25 % longer, for both kinds."""
    lines = (shared_data / "multi30k" / "train.en").read_text(encoding="utf-8").split("\n")[:4000]
    made = TokenizerSettings(kind=kind, vocabulary_size=3000)  # type: ignore[arg-type]
    pair = train_tokenizers(made, lambda: iter((line, line) for line in lines), 1)
    sampler = SubwordSampler(pair, 0.1, 1)
    rows = [np.array(row, dtype=np.int32) for row in pair.source.encode(lines[:500])]
    assert 1.08 < sampler.growth((rows, rows)) < 1.3
    drawn = sample(sampler, lines[:500])

    def words(ids: list[int]) -> list[str]:
        return " ".join(pair.source.pieces(ids)).split(" \u2581")

    compared = [
        left != right
        for before, after in zip(rows, drawn, strict=True)
        for left, right in zip(words(before.tolist()), words(after), strict=True)
    ]
    assert 0.08 < sum(compared) / len(compared) < 0.22


def test_the_model_file_is_read_as_the_library_reads_it(pair: TokenizerPair, request: pytest.FixtureRequest) -> None:
    tokenizer = pair.source
    assert isinstance(tokenizer, SubwordTokenizer)
    theirs = sentencepiece.SentencePieceProcessor()
    theirs.LoadFromSerializedProto(tokenizer.to_bytes())
    texts, scores, merges = tokenizer.subwords()
    numbers = range(theirs.get_piece_size())
    assert merges == ("bpe" in request.node.callspec.id)
    assert np.allclose(scores, [theirs.get_score(number) for number in numbers])
    special = {n for n in numbers if theirs.is_byte(n) or theirs.is_control(n) or theirs.is_unknown(n)}
    special.add(theirs.piece_to_id("<2de>"))
    assert texts == [None if number in special else theirs.id_to_piece(number) for number in numbers]
    for broken in (tokenizer.to_bytes()[:-1], b"\x0a", b"\x0f"):
        with pytest.raises(ValueError, match="not a sentencepiece model"):
            parse_model(broken)
