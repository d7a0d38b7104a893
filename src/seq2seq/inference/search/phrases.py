"""Which of its phrases an output has written so far: an automaton over tokens.

Every phrase gets a place of its own in the output: places do not overlap, and a phrase that is listed twice occurs
twice. A state knows every way to find the phrases written so far, so that an overlap or a false start is never a dead
end, and how many tokens the rest takes at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import mul

Counts = tuple[int, ...]
"""How often each phrase has been written."""

OTHER = -1
"""Stands for every token that is in no phrase."""


class Phrases:
    """The phrases of one sentence, and the states of the automaton as far as they have been met.

    Attributes:
        start: the state of an output that is still empty.
        total: tokens of all phrases together.
    """

    def __init__(self, phrases: Iterable[Sequence[int]]) -> None:
        wanted: dict[tuple[int, ...], int] = {}
        for phrase in filter(None, map(tuple, phrases)):
            wanted[phrase] = wanted.get(phrase, 0) + 1
        self.phrases = tuple(wanted)
        self.wanted: Counts = tuple(wanted.values())
        self.lengths = tuple(map(len, wanted))
        self.alphabet = {token for phrase in wanted for token in phrase}
        self.longest = max(map(len, wanted), default=1)
        self.total = sum(len(phrase) * count for phrase, count in wanted.items())
        self._states: dict[tuple[tuple[int, ...], tuple[frozenset[Counts], ...]], Progress] = {}
        nothing: Counts = (0,) * len(wanted)
        self.start = self.state((), (frozenset({nothing}),))

    def state(self, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> Progress:
        """The one state with this past."""
        key = (tail, found)
        if key not in self._states:
            self._states[key] = Progress(self, tail, found)
        return self._states[key]

    def ended(self, tokens: Sequence[int], endings: frozenset[int]) -> bool:
        """Whether an output ends with a phrase whose last token is one of `endings`."""
        return any(phrase[-1] in endings and tuple(tokens[-len(phrase) :]) == phrase for phrase in self.phrases)

    def after(self, tokens: Iterable[int]) -> Progress:
        """The state of an output."""
        state = self.start
        for token in tokens:
            state = state.then(token)
        return state


class Progress:
    """A state: what may have been found, seen from the end of the output.

    Attributes:
        missing: the fewest tokens that complete all phrases; 0 where all are there.
        useful: the tokens that begin or continue a phrase that is still wanted.
        beginning: those of them that continue none.
    """

    def __init__(self, phrases: Phrases, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> None:
        # `tail` are the last tokens, `found[j]` the counts that are possible j tokens ago; only counts that no other
        # one exceeds are kept, for having found more never hurts.
        self._phrases, self._tail, self._found = phrases, tail, found
        self._next: dict[int, Progress] = {}
        self.missing, self.useful, self.beginning = 0, frozenset[int](), frozenset[int]()
        if phrases.wanted not in found[0]:
            begun = list(self._begun())
            self.missing = min(phrases.total - self._written(counts) - size for _, size, counts in begun)
            self.useful = frozenset(phrase[size] for phrase, size, _ in begun)
            self.beginning = self.useful - {phrase[size] for phrase, size, _ in begun if size}

    def then(self, token: int) -> Progress:
        """The state after one more token."""
        token = token if token in self._phrases.alphabet else OTHER
        if token not in self._next:
            self._next[token] = self._advanced(token)
        return self._next[token]

    def _advanced(self, token: int) -> Progress:
        tail = (*self._tail, token)
        now = set(self._found[0])
        for number, phrase in enumerate(self._phrases.phrases):
            if tail[-len(phrase) :] == phrase:
                for counts in self._found[len(phrase) - 1]:
                    if counts[number] < self._phrases.wanted[number]:
                        now.add((*counts[:number], counts[number] + 1, *counts[number + 1 :]))
        longest = self._phrases.longest
        return self._phrases.state(tail[max(0, len(tail) - longest + 1) :], (_largest(now), *self._found)[:longest])

    def _begun(self) -> Iterator[tuple[tuple[int, ...], int, Counts]]:
        """Every phrase that is wanted after some counts, and how many of its tokens end the output already."""
        for number, phrase in enumerate(self._phrases.phrases):
            for begun in range(min(len(phrase), len(self._tail) + 1)):
                if begun and self._tail[-begun:] != phrase[:begun]:
                    continue
                for counts in self._found[begun]:
                    if counts[number] < self._phrases.wanted[number]:
                        yield phrase, begun, counts

    def _written(self, counts: Counts) -> int:
        return sum(map(mul, counts, self._phrases.lengths))


def least_tokens(prefix: Sequence[int], phrases: Iterable[Sequence[int]]) -> int:
    """Tokens, EOS not counted, that every output with this beginning and these phrases has at least."""
    return len(prefix) + Phrases(phrases).after(prefix).missing


def _largest(counts: set[Counts]) -> frozenset[Counts]:
    """Those that no other exceeds in every part."""
    return frozenset(
        one
        for one in counts
        if not any(one != other and all(a <= b for a, b in zip(one, other, strict=True)) for other in counts)
    )
