"""Invented names and nouns, the same in both languages: they teach the model to copy words that it does not know."""

from __future__ import annotations

from .dice import Dice

NAME = "{name}"
NOUN = "{noun}"
GERMAN_NOUN = "{Noun}"
"""Placeholders that the grammar treats as words; nouns are neuter and have a capital letter in German."""

_CONSONANTS = "bcdfghjklmnprstvwz"
_ONSETS = (*_CONSONANTS, *"bdkmrst", "br", "ch", "fr", "gr", "kr", "pl", "sh", "st", "tr", "th", "qu")
_VOWELS = (*"aeiou", *"aeiou", "ai", "ea", "ee", "ie", "oo", "y", "ä", "ö", "ü")
_CODAS = (*[""] * 12, *"lmnrst", "ck", "ng", "rt", "ll", "mp", "x", "tz", "b")


class Inventor:
    """Puts an invented word in place of every placeholder; `taken` are the words that exist, in small letters."""

    def __init__(self, dice: Dice, taken: set[str]) -> None:
        self._dice = dice
        self._taken = taken

    def fill(self, pair: tuple[str, str]) -> tuple[str, str]:
        """The pair with the same invented words on both sides."""
        english, german = pair
        if NAME in english:
            name = " ".join(self._word().capitalize() for _ in range(2 if self._dice.chance(0.3) else 1))
            english, german = english.replace(NAME, name), german.replace(NAME, name)
        if NOUN in english:
            noun = self._word(self._dice.pick(_CONSONANTS))  # after `a`, never `an`
            english, german = english.replace(NOUN, noun), german.replace(GERMAN_NOUN, noun.capitalize())
        return english, german

    def _word(self, first: str | None = None) -> str:
        dice, word = self._dice, ""
        while len(word) < 3:
            word = ""
            for at in range(dice.pick((1, 2, 2, 2, 3, 3))):
                onset = first if first and not at else dice.pick(_ONSETS) if at or dice.chance(0.8) else ""
                word += onset + dice.pick(_VOWELS) + dice.pick(_CODAS)
        return word + "o" if word in self._taken else word
