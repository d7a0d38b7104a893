"""Filters of synthetic pairs, with a reason for each dropped line."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.checks.corpus import is_long
from seq2seq.checks.identified_languages import Identifier, SideLanguages
from seq2seq.console import format_table
from seq2seq.data.cleaning import RATIO_EXEMPT_TOKENS
from seq2seq.data.files import Pair
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank
from seq2seq.synthesis.originals import Original
from seq2seq.synthesis.translations import Translated, read_translations
from seq2seq.tags import TARGET_TAG

REASONS = {
    "empty": "empty line",
    "no letter": "line without a letter",
    "duplicate": "duplicate line",
    "held out": "text of the validation or test set",
    "too long": "too long",
    "no translation": "no translation",
    "cut": "translation cut off at the length limit",
    "copy": "translation copies the line",
    "ratio": "length ratio",
    "language": "wrong language or script",
    "score": "low score",
}
"""Reasons to drop a line, as a table shows them."""

SAMPLE = 5000
"""Lines from which the words of the languages are learned."""
_JUDGED = 1000
_LEAST_PAIRS = 50
_FEWEST_PAIRS = 10
"""Pairs with a target tag from which its language is learned."""
_MOST_OF_THE_OTHER = 3


class FilterOptions(NamedTuple):
    """Limits of the filters."""

    min_score: float = -math.inf
    """Lowest log P(translation | line) per token, in nats."""
    drop_worst: float = 0.0
    """Share of the translations that are dropped for their low scores."""
    max_ratio: float = 3.0
    """Largest ratio of the two sides' token counts; pairs of up to 10 tokens are exempt, as in `data.cleaning`."""


class FilterCounts:
    """Counts of lines: read, and dropped by reason."""

    def __init__(self) -> None:
        self.read = 0
        self.dropped: Counter[str] = Counter()

    @property
    def kept(self) -> int:
        """Lines that became pairs."""
        return self.read - self.dropped.total()

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return {"read": self.read, "kept": self.kept, **{reason: self.dropped[reason] for reason in REASONS}}

    def table(self) -> str:
        """A table of the counts; reasons that dropped no line are left out."""
        rows = [(label, self.dropped[reason]) for reason, label in REASONS.items() if self.dropped[reason]]
        rows = [("read", self.read), *rows, ("kept", self.kept)]
        return format_table(("lines", "count"), [(label, f"{count:,}") for label, count in rows])

    def require_any_kept(self, translations: Path) -> None:
        """Raise `DataError` with the table if no pair is left."""
        if not self.kept:
            table = "\n".join("  " + line for line in self.table().splitlines())
            hint = f"is it the right run? its translations and their scores are in {translations}"
            raise DataError(f"no pair is left\n{table}", hint=hint, code="data.nothing-left")


class PairFilter:
    """Judges the pairs of a file of translations.

    Args:
        path: the complete file.
        originals: the lines of the text; the first ones are a sample of its words.
        languages: names of the languages of line and translation.
        genuine: pairs that people wrote, such as the validation set.
        options: the limits.
    """

    def __init__(
        self,
        path: Path,
        originals: Iterable[Original],
        languages: tuple[str, str],
        genuine: Sequence[Pair],
        options: FilterOptions,
    ) -> None:
        self.options = options
        scores = array("d", (found.score for found in read_translations(path)))
        quantile = float(np.quantile(np.frombuffer(scores), options.drop_worst)) if scores else -math.inf
        self._least = max(options.min_score, quantile if options.drop_worst else -math.inf)
        some = zip(islice(originals, SAMPLE), read_translations(path), strict=False)
        self._sample = [*genuine, *((original.text, found.text) for original, found in some)]
        self._named = languages
        self._languages: dict[str, SideLanguages | None] = {}

    def fault(self, original: Original, found: Translated) -> tuple[str, str] | None:
        """Reason to drop a pair, and its detail; None for a good one."""
        if is_blank(found.text):
            return "no translation", ""
        if found.cut:
            return "cut", f"{found.tokens} tokens"
        if copies_line(original.text, found.text):
            return "copy", ""
        longer, shorter = max(original.tokens, found.tokens), max(1, min(original.tokens, found.tokens))
        if longer > RATIO_EXEMPT_TOKENS and longer > shorter * self.options.max_ratio:
            return "ratio", f"{original.tokens} and {found.tokens} tokens"
        languages = self._languages_of(original.text)
        if languages is not None and (fault := languages.fault(original.text, found.text)):
            return "language", fault[1] if fault[0] == "language" else f"both sides exchanged, {fault[1]}"
        if found.score < self._least:
            return "score", f"{found.score:.3f}"
        return None

    def _languages_of(self, text: str) -> SideLanguages | None:
        """The languages of the lines with the target tag of a text, or without one; None if too few are known."""
        if (tag := _tag_of(text)) not in self._languages:
            own = [pair for pair in self._sample if _tag_of(pair[0]) == tag]
            enough = len(own) >= _FEWEST_PAIRS
            self._languages[tag] = SideLanguages(own, self._named, _identifier()) if enough else None
        return self._languages[tag]


def _tag_of(text: str) -> str:
    """The target tag at the beginning of a text; empty without one."""
    return found[0] if (found := TARGET_TAG.match(text)) else ""


@cache
def _identifier() -> Identifier:
    """Language identification, loaded once: it takes a second."""
    return Identifier()


def copies_line(one: str, other: str) -> bool:
    """True for equal texts that are longer than a name; letter case and punctuation at their ends do not count."""
    left, right = (text.casefold().strip(" .!?…。") for text in (one, other))
    return left == right and is_long(left)


def check_direction(
    originals: Sequence[Original], genuine: Sequence[Pair], languages: tuple[str, str], run: Path
) -> None:
    """Check that a text is in the source language of a run, by the words of the run's own pairs.

    Raises:
        DataError: it is in the language that the run writes.
    """
    if len(genuine) < _LEAST_PAIRS:
        return
    sides = SideLanguages(genuine, languages, _identifier())
    judged = Counter(sides.side_of(original.text) for original in originals[:_JUDGED])
    if judged[1] > _MOST_OF_THE_OTHER * max(1, judged[0]):
        raise DataError(
            f"the text is in {languages[1]}, the language that {run} writes",
            where=originals[0].place,
            hint=f"give a run that translates from {languages[1]}: training text is translated back to the source side",
            code="data.direction",
        )
