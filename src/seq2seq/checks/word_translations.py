"""Word translations learned from a sample of a corpus: evidence that a target translates a source."""

from __future__ import annotations

import re
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import chain

from seq2seq.data.files import Pair
from seq2seq.fixed_text import MARKS
from seq2seq.languages import WITHOUT_SPACES

SHIFTS = (-3, -2, -1, 1, 2, 3)
"""Distances at which the translation of a misaligned line is searched."""

_REACH = max(SHIFTS)
_WORD = re.compile(rf"[\w{MARKS}]+")
_UNSPACED = re.compile(f"[{WITHOUT_SPACES}]")
_BIGRAM = re.compile(f"(?=([{WITHOUT_SPACES}]{{2}}))")
"""Two letters of a script without spaces, in place of a word."""
_LEAST_COUNT = 3
_LARGEST_SHARE = 0.1
"""Words of more sentences than this say nothing about which sentence it is."""
_PARTNERS = 4
_LEAST_DICE = 0.2


class WordTranslations:
    """The likeliest translations of each source word, by Dice's coefficient (Smadja et al. 1996)."""

    def __init__(self, sample: Sequence[Pair]) -> None:
        sides = [[frozenset(_words(pair[side])) for pair in sample] for side in (0, 1)]
        counts = [Counter(word for words in side for word in words) for side in sides]
        largest = max(_LEAST_COUNT, _LARGEST_SHARE * len(sample))
        useful = [{word for word, count in side.items() if _LEAST_COUNT <= count <= largest} for side in counts]
        together: Counter[tuple[str, str]] = Counter()
        for left, right in zip(*sides, strict=True):
            others = right & useful[1]
            for word in left & useful[0]:
                together.update((word, other) for other in others)
        partners: dict[str, list[tuple[float, str]]] = {}
        for (word, other), count in together.items():
            dice = 2 * count / (counts[0][word] + counts[1][other])
            if count >= _LEAST_COUNT and dice >= _LEAST_DICE:
                partners.setdefault(word, []).append((dice, other))
        self._partners = {
            word: frozenset(other for _, other in sorted(found, reverse=True)[:_PARTNERS])
            for word, found in partners.items()
        }

    def hits(self, pairs: Iterable[Pair]) -> dict[int, array[int]]:
        """Numbers of source words of each pair with a translation in the target at each shift, 0 included."""
        found: dict[int, array[int]] = {shift: array("B") for shift in (0, *SHIFTS)}
        nothing: frozenset[str] = frozenset()
        targets = deque([nothing] * (2 * _REACH + 1), maxlen=2 * _REACH + 1)
        sources: deque[list[frozenset[str]]] = deque([[] for _ in range(_REACH + 1)], maxlen=_REACH + 1)
        end: list[Pair] = [("", "")] * _REACH
        for number, (source, target) in enumerate(chain(pairs, end)):
            partners = self._partners
            targets.append(frozenset(_words(target)))
            sources.append([partners[word] for word in _words(source) if word in partners][:250])
            if number < _REACH:
                continue
            looked_for = sources[0]
            for shift, counts in found.items():
                apart = targets[_REACH + shift].isdisjoint
                counts.append(len(looked_for) - sum(map(apart, looked_for)))
        return found


def _words(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    return [*words, *_BIGRAM.findall(text)] if _UNSPACED.search(text) else words
