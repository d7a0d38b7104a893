"""The automaton of phrases against plain search for places, over all outputs of small alphabets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.decoding.constraints import Phrases, least_tokens

Tokens = tuple[int, ...]


def has_all(output: Tokens, phrases: Sequence[Tokens], taken: frozenset[int] = frozenset()) -> bool:
    """Whether every phrase finds places that no other has, by trying all of them."""
    if not phrases:
        return True
    first, *rest = phrases
    for begin in range(len(output) - len(first) + 1):
        places = frozenset(range(begin, begin + len(first)))
        if output[begin : begin + len(first)] == first and not places & taken and has_all(output, rest, taken | places):
            return True
    return False


def plain_missing(output: Tokens, phrases: Sequence[Tokens], alphabet: Tokens) -> int:
    """The shortest continuation that completes the phrases, by trying all."""
    for length in itertools.count():
        if any(has_all(output + more, phrases) for more in itertools.product(alphabet, repeat=length)):
            return length
    raise AssertionError


CASES: list[list[Tokens]] = [
    [(1,)],
    [(1, 2)],
    [(1, 1)],
    [(1, 1, 2)],
    [(1, 2), (1, 2)],
    [(1, 1), (1, 1)],
    [(1, 2), (2, 1)],
    [(1, 2), (2,)],
    [(1, 2), (1,)],
    [(1,), (1,), (1,)],
    [(1, 2, 1), (2, 1)],
    [(1, 2, 1, 2), (1,)],
    [(1, 1, 2), (1, 2, 2)],
]


@pytest.mark.parametrize("phrases", CASES, ids=str)
def test_every_output_of_six_tokens(phrases: list[Tokens]) -> None:
    """Tracking one place at a time loses false starts (1 1 1 2 for 1 1 2) and phrases inside others."""
    automaton = Phrases(phrases)
    for length in range(7):
        for output in itertools.product((1, 2, 3), repeat=length):
            state = automaton.after(output)
            assert (state.missing == 0) == has_all(output, phrases)
            if state.missing:
                assert any(state.then(token).missing < state.missing for token in state.useful)
            else:
                assert not state.useful


@pytest.mark.parametrize("phrases", CASES, ids=str)
def test_missing_is_the_shortest_completion(phrases: list[Tokens]) -> None:
    for length in range(4):
        for output in itertools.product((1, 2, 3), repeat=length):
            assert Phrases(phrases).after(output).missing == plain_missing(output, phrases, (1, 2))


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), max_size=4),
    st.lists(st.integers(0, 3), max_size=12).map(tuple),
)
def test_random_phrases_and_outputs(phrases: list[Tokens], output: Tokens) -> None:
    automaton = Phrases(phrases)
    state = automaton.start
    assert state.missing == automaton.total == sum(map(len, phrases))
    for place, token in enumerate(output):
        before, state = state.missing, state.then(token)
        assert (state.missing == 0) == has_all(output[: place + 1], phrases)
        # One token can complete no more than one token's worth, and what is complete remains so.
        assert state.missing >= before - 1
        assert state.missing == 0 or before > 0


def test_nothing_wanted() -> None:
    assert Phrases([]).after([5, 6, 7]).missing == 0
    assert Phrases([(), ()]).start.missing == 0


def test_states_are_few() -> None:
    """Each state is made once, however long the output: a long one must not fill memory or take longer a token."""
    automaton = Phrases([(1, 2, 3), (4,)])
    state = automaton.after([7, 8, 9] * 10)
    assert automaton.after([7, 8, 9] * 1000) is state
    assert automaton.after([1, 2, 3, 9, 9, 9]) is automaton.after([9, 1, 2, 3, 8, 8, 8, 8])


def test_least_tokens() -> None:
    assert least_tokens((), [(1, 2), (3,)]) == 3
    assert least_tokens((9, 1), [(1, 2), (3,)]) == 4
    assert least_tokens((1, 2, 3), [(1, 2), (3,)]) == 3
    assert least_tokens((9, 9), []) == 2
