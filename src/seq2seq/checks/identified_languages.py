"""Languages of the two sides of a corpus, learned from a sample of it: swapped sides, wrong language and script."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import repeat
from typing import Any

from seq2seq.data.files import Pair
from seq2seq.languages import language_of

_WORD = re.compile(r"[^\W\d_]+")
_LEAST_COUNT = 3
_LEAST_SCORE = 10.0
"""Least log odds with which the words of a text decide between the languages of the two sides."""
_LEAST_OF_ONE, _LEAST_OF_BOTH = 1.5, 7.0
"""Least log odds of each text, and of both together, for a pair with swapped sides."""
_LARGEST_WEIGHT = 4.0
_ROUNDS = 3
"""Rounds of the estimate; each leaves out the pairs that the one before judged swapped."""

_IDENTIFIED = 2000
"""Sample texts of each side whose language is identified."""
_JOINED_LETTERS = 100
_KNOWN_SHARE = 0.6
"""Least share of known words in a text that is taken to be in its side's language."""
_HARDLY_KNOWN = 0.25
_LEAST_LETTERS = 20
_LEAST_WORDS = 4
_LEAST_PROBABILITY = 0.95
_LEAST_OF_UNKNOWN = 0.7
"""Least probability for a text with hardly any known word of its side."""
_OWN_SHARE = 0.3
"""Least share of a side's own scripts among the letters of a text."""


_LATIN = re.compile("[\0-\u024f\u1e00-\u1eff\u2000-\u206f\u20ac]*")
"""Texts of Latin letters and signs alone, which are most of most corpora and need no look at each letter."""


@cache
def _script(char: str) -> str:
    name = unicodedata.name(char, "").partition(" ")[0]
    return {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "FULLWIDTH": "LATIN"}.get(name, name)


def scripts_of(text: str) -> Counter[str]:
    """Scripts of the letters of a text with their counts, such as LATIN or CYRILLIC.

    The Japanese scripts count as Chinese characters (CJK), since Japanese mixes them.
    """
    return Counter(_script(char) for char in text if char.isalpha())


class Identifier:
    """Language identification by py3langid, an extra; `available` is false without it, or if it is not `wanted`."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._model: Any = None
        with suppress(ImportError):
            if wanted:
                from py3langid import langid

                self._model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
        self.available = self._model is not None

    def __call__(self, text: str, least: float = _LEAST_PROBABILITY) -> str:
        """Language code of a text; empty if it is short, or less probable than `least`."""
        if self._model is None or sum(map(str.isalpha, text)) < _LEAST_LETTERS:
            return ""
        language, probability = self._model.classify(text)
        return str(language) if probability >= least else ""


class SideLanguages:
    """Languages and scripts of the two sides of a corpus; `named` are those that a config or a file name states."""

    def __init__(self, sample: Sequence[Pair], named: tuple[str, str], identifier: Identifier) -> None:
        self._identify = identifier
        self.named = tuple(language_of(name) for name in named)
        self.scripts = tuple(self._own_scripts([pair[side] for pair in sample]) for side in (0, 1))
        self._weights = _side_weights(sample)
        self.languages = ["", ""]
        self._known: list[frozenset[str]] = [frozenset(), frozenset()]
        if identifier.available:
            for side in (0, 1):
                self._learn_words(side, [pair[side] for pair in sample])

    @staticmethod
    def _own_scripts(texts: Sequence[str]) -> frozenset[str]:
        """The scripts of at least a quarter of the letters of a side."""
        counts = scripts_of("".join(texts[:_IDENTIFIED]))
        return frozenset(name for name, count in counts.items() if count >= 0.25 * counts.total())

    def _learn_words(self, side: int, texts: Sequence[str]) -> None:
        """Find a side's main language, and the words of its texts."""
        joined = _joined(texts[:_IDENTIFIED])
        counted = Counter(code for text in joined if (code := self._identify(text)))
        if not counted:
            return
        self.languages[side] = counted.most_common(1)[0][0]
        codes = [self._identify(text) for text in texts[:_IDENTIFIED]]
        words = [_WORD.findall(text.casefold()) for text in texts]
        own = [found for found, code in zip(words, codes, strict=False) if code == self.languages[side]]
        self._known[side] = _frequent(own)
        # Texts whose words are known are in the same language, and have further words.
        self._known[side] = _frequent([*own, *(found for found in words if self._share(side, found) >= _KNOWN_SHARE)])

    def exchanged(self) -> str:
        """Description of a corpus whose sides have each other's languages; empty if they do not."""
        found, named = self.languages, self.named
        if all(found) and all(named) and found[0] != found[1] and (found[1], found[0]) == named:
            return f"the source is {found[0]} and the target {found[1]}, named {named[0]} and {named[1]}"
        return ""

    def side_of(self, text: str) -> int | None:
        """Side (0 or 1) to which a text belongs by its words; None if they do not decide."""
        score = self._score(_WORD.findall(text.casefold()))
        return None if abs(score) < _LEAST_OF_ONE else int(score < 0)

    def fault(self, source: str, target: str) -> tuple[str, str] | None:
        """`swapped` or `language` with a detail, for a pair whose texts differ; None if nothing is wrong."""
        foreign = [self._foreign_script(side, text) for side, text in enumerate((source, target))]
        if all(foreign) and foreign[0] in self.scripts[1] and foreign[1] in self.scripts[0]:
            return "swapped", "by script"
        for side, script in zip(("source", "target"), foreign, strict=True):
            if script:
                return "language", f"{side} in {script.capitalize()} script"
        words = [_WORD.findall(text.casefold()) for text in (source, target)]
        left, right = (self._score(found) for found in words)
        if min(-left, right) > _LEAST_OF_ONE and right - left > _LEAST_OF_BOTH:
            return "swapped", "by its words"
        for side, score, found in (("source", left, words[0]), ("target", -right, words[1])):
            if score < -_LEAST_SCORE and len(found) >= _LEAST_WORDS:
                other = "target" if side == "source" else "source"
                return "language", f"{side} in the language of the {other}"
        for number, (side, text) in enumerate((("source", source), ("target", target))):
            if self.languages[number] and (code := self._foreign_language(number, text, words[number])):
                return "language", f"{side} in {code}"
        return None

    def _foreign_script(self, side: int, text: str) -> str:
        """The main script of a text that is hardly written in its side's own; else empty."""
        own = self.scripts[side]
        if not own or ("LATIN" in own and (text.isascii() or _LATIN.fullmatch(text))):
            return ""
        counts = scripts_of(text)
        letters = counts.total()
        if letters < _LEAST_WORDS or sum(counts[name] for name in own) >= _OWN_SHARE * letters:
            return ""
        # Names and terms in Latin letters are common in every language.
        main = counts.most_common(1)[0][0]
        return "" if main == "LATIN" and letters < _LEAST_LETTERS else main

    def _foreign_language(self, side: int, text: str, words: Sequence[str]) -> str:
        """The language of a text that is surely not in its side's main language; else empty."""
        share = self._share(side, words)
        if len(words) < _LEAST_WORDS or share >= _KNOWN_SHARE:
            return ""
        code = self._identify(text, _LEAST_OF_UNKNOWN if share < _HARDLY_KNOWN else _LEAST_PROBABILITY)
        return "" if code in ("", self.languages[side]) else code

    def _share(self, side: int, words: Sequence[str]) -> float:
        """Share of words that are known as words of a side's main language."""
        known = self._known[side]
        return sum(map(known.__contains__, words)) / max(len(words), 1)

    def _score(self, words: Sequence[str]) -> float:
        """Log odds of the source side over the target side."""
        return sum(map(self._weights.get, words, repeat(0.0)))


def _joined(texts: Sequence[str]) -> list[str]:
    """Texts joined to a hundred letters or more: of single short texts, only unusual ones would be identified."""
    joined: list[str] = []
    letters = _JOINED_LETTERS
    for text in texts:
        if letters >= _JOINED_LETTERS:
            joined.append(text)
            letters = len(text)
        else:
            joined[-1] += f" {text}"
            letters += len(text)
    return joined


def _frequent(texts: Sequence[Sequence[str]]) -> frozenset[str]:
    """Words that occur at least twice."""
    counts = Counter(word for words in texts for word in words)
    return frozenset(word for word, count in counts.items() if count >= 2)


def _side_weights(sample: Sequence[Pair]) -> dict[str, float]:
    """Log odds of words between the sides: large for words of one side, such as its articles.

    Words that both sides have alike (names) have a weight near 0 and are left out.
    """
    words = [tuple(_WORD.findall(text.casefold()) for text in pair) for pair in sample]
    weights: dict[str, float] = {}
    for _ in range(_ROUNDS):
        counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for left, right in words:
            if weights:
                scores = [sum(weights.get(word, 0.0) for word in side) for side in (left, right)]
                if scores[0] < scores[1]:  # swapped
                    left, right = right, left
                elif scores[0] < 0 or scores[1] > 0:  # both in one language
                    continue
            counts[0].update(left)
            counts[1].update(right)
        totals = [max(side.total(), 1) for side in counts]
        weights = {}
        for word in counts[0].keys() | counts[1].keys():
            one, other = counts[0][word], counts[1][word]
            if one + other >= _LEAST_COUNT:
                odds = math.log((one + 0.5) / totals[0] * totals[1] / (other + 0.5))
                if abs(odds) > 0.5:
                    weights[word] = max(-_LARGEST_WEIGHT, min(_LARGEST_WEIGHT, odds))
    return weights
