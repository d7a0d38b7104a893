"""Pairs are dropped whole, counted once, and never for another reason than the one that is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config.settings import CleaningSettings
from seq2seq.data.cleaning import (
    CleaningReport,
    hash_pairs,
    judge_lengths,
    text_fault,
)
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a", None),
        ("", "empty"),
        (" \t\u00a0\u3000\u2028\u0085\r", "empty"),
        ("\u200b", "invisible"),
        ("\ufeff \u200d\u2060\u00ad", "invisible"),
        ("nul\0inside", "invisible"),
        ("\x01\x7f", "invisible"),
        ("\u3164\uffa0", "invisible"),
        ("\ufff9\ufffb", "invisible"),
        ("a\u200b", None),
        ("\u0600", None),
        ("😀", None),
        (".", None),
        ("\u0301", None),
        ("שלום", None),
    ],
)
def test_text_faults(text: str, fault: str | None) -> None:
    assert text_fault(text, "other side") == fault
    assert text_fault("other side", text) == fault


def test_every_printable_character_is_visible() -> None:
    """A filter for zero-width text must not drop a writing system."""
    hidden = [chr(code) for code in range(0x110000) if chr(code).isprintable() and is_blank(chr(code))]
    # Python counts fillers and variation selectors as printable; a space is what it says.
    assert all(char == " " or 0xFE00 <= ord(char) <= 0xFE0F or ord(char) in _FILLERS for char in hidden)


_FILLERS = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x3164,
    0xFFA0,
    *range(0x180B, 0x1810),
    *range(0xE0000, 0xE1000),
}


def test_hashes_tell_the_sides_apart() -> None:
    hashes = hash_pairs([("ab", "c"), ("a", "bc"), ("c", "ab"), ("abc", ""), ("", "abc")])
    assert len(set(hashes.tolist())) == 5


lengths = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1)


@given(lengths, st.integers(1, 4), st.integers(5, 30), st.sampled_from([1.5, 2.0, 9.0]))
def test_length_rules_against_a_loop(pairs: list[tuple[int, int]], shortest: int, longest: int, ratio: float) -> None:
    settings = CleaningSettings(min_tokens=shortest, max_tokens=longest, max_ratio=ratio)
    report = CleaningReport(read=len(pairs))
    keep = judge_lengths(*np.array(pairs, dtype=np.int32).T, settings, report)

    def reason(left: int, right: int) -> str:
        if min(left, right) < shortest:
            return "too_short"
        if max(left, right) > longest:
            return "too_long"
        return "ratio" if max(left, right) > 10 and max(left, right) / min(left, right) > ratio else "kept"

    reasons = [reason(*pair) for pair in pairs]
    assert keep.tolist() == [told == "kept" for told in reasons]
    counts = report.as_dict()
    assert all(counts[name] == reasons.count(name) for name in ("too_short", "too_long", "ratio", "kept"))
    assert counts["read"] == sum(count for name, count in counts.items() if name != "read")
    assert CleaningReport.from_dict(counts) == report


def test_nothing_left_shows_the_table() -> None:
    with pytest.raises(DataError, match=r"(?s)no training pair.*empty side +3\n.*kept +0") as caught:
        CleaningReport(read=3, empty=3).require_any_kept()
    assert caught.value.exit_code == 3
