"""Significance of differences between systems."""

from __future__ import annotations

import random

import pytest

from seq2seq.evaluation.metrics import bleu
from seq2seq.evaluation.significance import _places, paired_tests

WORDS = [
    "the",
    "old",
    "man",
    "drinks",
    "a",
    "cup",
    "of",
    "tea",
    "in",
    "his",
    "small",
    "garden",
    "near",
    "the",
    "river",
    "today",
]


def noisy(lines: list[str], share: float, seed: int) -> list[str]:
    """Lines of which some words are replaced."""
    draws = random.Random(seed)
    return [
        " ".join(word if draws.random() > share else draws.choice("xyz") for word in line.split()) for line in lines
    ]


@pytest.fixture(scope="module")
def references() -> list[str]:
    draws = random.Random(1)
    return [" ".join(draws.choices(WORDS, k=draws.randrange(6, 14))) for _ in range(60)]


def test_a_clear_difference_is_significant_and_none_is_not(references: list[str]) -> None:
    good = noisy(references, 0.1, 1)
    systems = {"good": good, "good again": list(good), "bad": noisy(references, 0.5, 2)}
    for test in paired_tests(systems, references, target_language=""):
        baseline, again, bad = test.scores
        assert (baseline.p_bootstrap, baseline.significant) == (None, False)
        assert again.value == baseline.value > bad.value
        assert (again.significant, bad.significant) == (False, True)
        assert 0 < baseline.interval < 15


def test_scores_are_those_of_the_metrics(references: list[str]) -> None:
    systems = {"one": noisy(references, 0.2, 3), "other": noisy(references, 0.2, 4)}
    test = paired_tests(systems, references, target_language="")[0]
    assert [score.value for score in test.scores] == pytest.approx(
        [bleu(lines, references).value for lines in systems.values()], abs=1e-4
    )
    assert "tok:13a" in test.signature
    assert test.scores == paired_tests(systems, references, target_language="")[0].scores


@pytest.mark.parametrize(("changed", "least"), [(1, 1.0), (2, 0.5), (4, 0.125)])
def test_few_changed_lines_are_no_significant_difference(changed: int, least: float, references: list[str]) -> None:
    """All exchanges of k lines are equally likely, and two of 2^k give the difference observed."""
    before = noisy(references, 0.3, 5)
    places = [place for place, line in enumerate(before) if line != references[place]][:changed]
    after = [references[place] if place in places else line for place, line in enumerate(before)]
    for test in paired_tests({"before": before, "after": after}, references, target_language=""):
        score = test.scores[1]
        assert score.value > test.scores[0].value
        assert least <= score.p_randomisation <= least + 0.05  # type: ignore[operator]
        assert not score.significant


def test_lines_that_count_alike_are_not_changed(references: list[str]) -> None:
    """One wrong word for another in many lines made four better lines significant."""
    before = [line + " aaaaa" for line in noisy(references, 0.3, 5)]
    places = [place for place, line in enumerate(before) if line != references[place] + " aaaaa"][:4]
    after = [f"{references[place]} aaaaa" if place in places else line for place, line in enumerate(before)]
    after = [line.replace("aaaaa", "bbbbb") for line in after]
    for test in paired_tests({"before": before, "after": after}, references, target_language=""):
        assert test.scores[1].p_randomisation >= 0.125  # type: ignore[operator]
        assert not test.scores[1].significant


@pytest.mark.parametrize("lines", [0, 1, 9_999, 10_000, 10_001, 25_000])
def test_large_sets_are_represented_by_ten_thousand_lines(lines: int) -> None:
    places = _places(lines)
    assert len(set(places)) == min(lines, 10_000)
    assert places == sorted(places)
    assert all(0 <= place < lines for place in places)
