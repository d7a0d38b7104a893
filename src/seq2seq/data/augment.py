"""Noisy copies of training pairs: capitals, small letters, missing full stops, typing errors (`data.augment`).

Copies are made once, when the data are prepared, and each epoch reads another part of them (`Mixture.with_copies`). A
copy is a function of its pair and of `data.seed` alone, so that neither the order of the corpus nor the number of
processes matters.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seq2seq.config.settings import DataSettings
from seq2seq.data.files import Pair
from seq2seq.data.raw_pairs import RawText
from seq2seq.languages import script_of
from seq2seq.letter_case import FIXED, TURKIC, lowercase, titlecase, uppercase
from seq2seq.random_streams import scramble, stream_key

COPIES = 100_000
"""From this many copies of a kind on, only as many are stored as an epoch reads, rather than one of each pair."""

_ROWS = 10_000
_CASES = ("uppercase", "titlecase", "lowercase")

_MISSPELLED = re.compile(rf"{FIXED}|(?P<change>[^\W\d_]{{4,}})")
_FULL_STOP = re.compile(r"(?<![.\s])\s*[.。．｡।۔։።]\s*$")
_TYPING_ERRORS = 0.1
"""Share of the words with a typing error; at least one word has one."""


class Augmentation(NamedTuple):
    """The kinds of noisy copies of a corpus, and how often each is read."""

    rates: dict[str, float]
    """Copies per pair in an epoch, of each kind."""
    languages: tuple[str, str]
    """Language of source and target (ISO 639-1); empty if unknown."""
    seed: int

    @classmethod
    def of(cls, data: DataSettings) -> Augmentation:
        """The augmentation of a config; without rates if it is off."""
        rates = {kind: rate for kind, rate in data.augment.model_dump().items() if rate}
        return cls(rates, data.languages, data.seed)

    def key(self) -> dict[str, object]:
        """What the stored copies depend on, for JSON."""
        return {**self.rates, "turkic": [language in TURKIC for language in self.languages]}

    def share(self, kind: str, pairs: int) -> float:
        """Share of the pairs of a corpus that have a stored copy of this kind."""
        return min(1.0, max(self.rates[kind], COPIES / max(1, pairs)))

    def chosen(self, kind: str, hashes: npt.NDArray[np.uint64], share: float) -> npt.NDArray[np.bool_]:
        """Mask of the pairs with these hashes that have a copy of this kind: a random choice of the given share."""
        drawn = scramble(hashes ^ np.uint64(stream_key(self.seed, "augment", kind)))
        return np.asarray(drawn.astype(np.float64) < share * 2.0**64)

    def copy(self, kind: str, pair: Pair) -> Pair | None:
        """The noisy copy of a pair; None if it would be the pair itself, as for capitals of a script without case."""
        source, target = pair
        mine, other = self.languages
        match kind:
            case "uppercase":
                copied = uppercase(source, mine), uppercase(target, other)
            case "titlecase":
                copied = titlecase(source, mine), target
            case "lowercase":
                copied = lowercase(source, mine), target
            case "no_full_stop":
                bare = without_full_stop(source), without_full_stop(target)
                copied = bare if bare[0] != source and bare[1] != target else pair
            case "typos":
                copied = misspell(source, self.seed), target
            case _:
                raise ValueError(f"unknown kind of copy: {kind}")
        return None if copied[0] == source else copied

    def tokenizer_pairs(self, raw: RawText) -> Iterator[Pair]:
        """Pairs for the training of tokenizers: all pairs, with copies in other letter case at their rates.

        Last comes a line of the letters that occur in none of them: the case of a rare letter that no copy has shown.
        """
        kinds = [kind for kind in _CASES if kind in self.rates]
        seen: tuple[set[str], set[str]] = set(), set()
        for rows, part in raw.slices(_ROWS):
            texts = part[:]
            pairs = list(zip(texts["source"], texts["target"], strict=True))
            yield from pairs
            for kind in kinds:
                for number in np.flatnonzero(self.chosen(kind, raw.hashes[rows], self.rates[kind])):
                    if copied := self.copy(kind, pairs[number]):
                        pairs.append(copied)
                        yield copied
            for side, characters in enumerate(seen):
                characters.update(*(pair[side] for pair in pairs))
        if "uppercase" in kinds:
            missing = [sorted(set(uppercase("".join(characters))) - characters) for characters in seen]
            if any(missing):
                yield " ".join(missing[0]), " ".join(missing[1])


def without_full_stop(text: str) -> str:
    """The text without the full stop at its end; an ellipsis stays."""
    return _FULL_STOP.sub("", text) or text


def misspell(text: str, seed: int) -> str:
    """The text with typing errors, a function of text and seed. Scripts without spaces, and Hangul, stay as they are.

    Replacing letters come from the text itself, so that no alphabet or keyboard is assumed.
    """
    words = [found for found in _MISSPELLED.finditer(text) if found.lastgroup == "change"]
    if not words or script_of([text]):
        return text
    draw = random.Random(stream_key(seed, "typos", text)).random
    wrong = [word for word in words if draw() < _TYPING_ERRORS] or [words[int(draw() * len(words))]]
    letters = "".join(word[0] for word in words).lower()
    parts, end = [], 0
    for word in wrong:
        parts += [text[end : word.start()], _mistyped(word[0], letters, draw)]
        end = word.end()
    return "".join([*parts, text[end:]])


def _mistyped(word: str, letters: str, draw: Callable[[], float]) -> str:
    """A word with one error behind its first letter."""
    place = 1 + int(draw() * (len(word) - 2))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    match int(draw() * 4):
        case 0:
            return before + after[0] + letter + after[1:]
        case 1:
            return before + after
        case 2:
            return before + letter + letter + after
        case _:
            return before + letters[int(draw() * len(letters))] + after
