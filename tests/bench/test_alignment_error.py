"""Alignment error rate and the formats of gold alignments."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts.bench.alignment_error import GoldAlignment, read_gold, score_alignments

from seq2seq.data.files import read_lines

LINKS = st.frozensets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10)


def test_figures_by_hand() -> None:
    """A = 4, S = 2, P = 4 (S within P); A and S share 2, A and P share 3: AER = 1 - (2 + 3) / (4 + 2)."""
    gold = GoldAlignment(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (1, 2), (2, 2)}))
    score = score_alignments([[(0, 0), (1, 1), (1, 2), (5, 5)]], [gold])
    assert score.error_rate == pytest.approx(100 / 6)
    assert (score.precision, score.recall, score.links) == (75.0, 100.0, 4)
    assert str(score) == "AER 16.7 (precision 75.0, recall 100.0, 4 links)"


@given(pairs=st.lists(st.tuples(LINKS, LINKS), min_size=1, max_size=5))
def test_with_sure_links_alone_it_is_the_f_measure(pairs: list[tuple[frozenset[tuple[int, int]], ...]]) -> None:
    gold = [GoldAlignment(sure, sure) for _, sure in pairs]
    if not any(sure for sure, _ in gold):
        return
    score = score_alignments([found for found, _ in pairs], gold)
    harmonic = 2 * score.precision * score.recall / max(1e-9, score.precision + score.recall)
    assert score.error_rate == pytest.approx(100 - harmonic)
    assert score_alignments([sure for sure, _ in gold], gold).error_rate == 0


def test_formats_agree() -> None:
    lines = read_gold(["0-0 1?2", "", "2-1 2p3"])
    assert lines == read_gold(["1 0 0 S", "1 1 2 P", "3 2 1", "3 2 3 P"])
    assert lines[0] == GoldAlignment(frozenset({(0, 0)}), frozenset({(0, 0), (1, 2)}))
    assert lines == read_gold(["1 1 1 S", "1 2 3 P", "3 3 2 S", "3 3 4 P"], first=1)


def test_pairs_without_links_count() -> None:
    """In the numbered format the last pairs may have no line at all: gold and found were then of different length."""
    assert len(read_gold(["1 0 0 S"], lengths=[(1, 1)] * 3)) == 3


def test_links_beyond_the_sentence_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    gold = read_gold(["0-0 4-1", "0-3"], name="gold.wa", lengths=[(4, 2), (1, 3)])
    assert [len(pair.sure) for pair in gold] == [1, 0]
    assert "gold.wa: 2 links lie beyond" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0-0", "0-0 1:2"], "g.wa:2: not an alignment .*: '1:2'"),
        (["1 0 0 S", "1 0 S"], "g.wa:2: not an alignment .*: '1 0 S'"),
        (["0 0 0 S"], "not an alignment"),
        (["3 0 0 S"], "a link of pair 3, but there are 2 pairs"),
    ],
)
def test_malformed_files(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_gold(lines, name="g.wa", lengths=[(9, 9), (9, 9)])


def test_counted_from_one_or_not() -> None:
    with pytest.raises(ValueError, match="counts words from 0"):
        read_gold(["0-0"], first=1)


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="2 alignments but 1 gold"):
        score_alignments([[], []], read_gold(["0-0"]))
    with pytest.raises(ValueError, match="no sure link"):
        score_alignments([[]], read_gold([""]))


def test_published_gold(shared_data: Path) -> None:
    """100 sentences in both formats, with a byte-order mark and one link out of bounds."""
    folder = shared_data / "alignments" / "bicici_de-en"
    sizes = [
        (len(source.split()), len(target.split()))
        for source, target in zip(read_lines(folder / "test.de"), read_lines(folder / "test.en"), strict=True)
    ]
    gold = read_gold(read_lines(folder / "de-en.ref.wa"), lengths=sizes)
    assert gold == read_gold(read_lines(folder / "de-en.wa"), lengths=sizes)
    assert sum(len(pair.sure) for pair in gold) == 1232
    assert score_alignments([pair.sure for pair in gold], gold).error_rate == 0
