"""Small numbers in words, in both languages."""

from __future__ import annotations

_ENGLISH = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_GERMAN = ("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf")


def english_number(number: int) -> str:
    """A number from 2 to 12."""
    return _ENGLISH[number - 2]


def german_number(number: int) -> str:
    """A number from 2 to 12."""
    return _GERMAN[number - 2]
