"""Numbers, ordinals, dates and times of day in words, in both languages."""

from __future__ import annotations

from .lexicon import MONTHS

_EN_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_EN_TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_DE_SMALL = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
]
_DE_TENS = ["-", "-", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
_EN_ORDINALS = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
_DE_ORDINALS = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}

# Minutes of the hour: English words, German words, and whether German counts towards the next hour.
MINUTES = (
    ("five past", "fünf nach", False),
    ("ten past", "zehn nach", False),
    ("a quarter past", "Viertel nach", False),
    ("twenty past", "zwanzig nach", False),
    ("half past", "halb", True),
    ("twenty to", "zwanzig vor", False),
    ("a quarter to", "Viertel vor", False),
    ("ten to", "zehn vor", False),
    ("five to", "fünf vor", False),
    ("o'clock", "Uhr", False),
)


def _check(number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise ValueError(f"{number} is not between {low} and {high}")


def english_number(number: int) -> str:
    """0 to 99 in English words."""
    _check(number, 0, 99)
    if number < 20:
        return _EN_SMALL[number]
    tens, ones = divmod(number, 10)
    return f"{_EN_TENS[tens]}-{_EN_SMALL[ones]}" if ones else _EN_TENS[tens]


def german_number(number: int) -> str:
    """0 to 99 in German words, as one counts."""
    _check(number, 0, 99)
    if number < 20:
        return _DE_SMALL[number]
    tens, ones = divmod(number, 10)
    if not ones:
        return _DE_TENS[tens]
    return ("ein" if ones == 1 else _DE_SMALL[ones]) + "und" + _DE_TENS[tens]


def english_ordinal(number: int) -> str:
    """1 to 31 as an English ordinal."""
    _check(number, 1, 31)
    if number > 20 and number % 10:
        return f"{_EN_TENS[number // 10]}-{english_ordinal(number % 10)}"
    if number in _EN_ORDINALS:
        return _EN_ORDINALS[number]
    word = english_number(number)
    return (word[:-1] + "ie" if word.endswith("y") else word) + "th"


def german_ordinal(number: int) -> str:
    """1 to 31 as a German ordinal in the dative (`am dritten`)."""
    _check(number, 1, 31)
    if number in _DE_ORDINALS:
        return _DE_ORDINALS[number]
    return german_number(number) + ("ten" if number < 20 else "sten")


def date(day: int, month: int) -> tuple[str, str]:
    """`on the third of May` and `am dritten Mai`; months count from 1."""
    english, german, last = MONTHS[month - 1]
    _check(day, 1, last)
    return f"on the {english_ordinal(day)} of {english}", f"am {german_ordinal(day)} {german}"


def clock(hour: int, minute: int) -> tuple[str, str]:
    """A time of day without preposition; `minute` is an index into `MINUTES`."""
    _check(hour, 1, 12)
    english, german, next_hour = MINUTES[minute]
    name = english_number(hour)
    if english == "o'clock":
        return f"{name} o'clock", f"{'ein' if hour == 1 else german_number(hour)} Uhr"
    german_hour = hour % 12 + 1 if next_hour else hour
    return f"{english} {name}", f"{german} {german_number(german_hour)}"
