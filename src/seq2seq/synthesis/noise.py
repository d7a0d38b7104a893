"""Noise of back-translations made by beam search (Edunov et al. 2018, "Understanding back-translation at scale").

Text that a search finds best is too regular to learn much from. Words are dropped, replaced by a blank, and moved.
"""

from __future__ import annotations

import random

from seq2seq.languages import script_of
from seq2seq.random_streams import stream_key

BLANK = "␣"
"""The filler token: a sign that no text has, and that is one entry of a vocabulary."""

_DROPPED = 0.1
_BLANKED = 0.1
_FARTHEST = 3
"""A word moves by at most so many places, as in Lample et al. 2018."""


def add_noise(text: str, seed: int, number: int) -> str:
    """The text with noise, a function of the text, the seed and the number of the line.

    The units are words; in scripts without spaces, characters. At least one unit is left.
    """
    is_spaced = script_of([text]) in ("", "Hangul")
    units = text.split() if is_spaced else [*text]
    draw = random.Random(stream_key(seed, "noise", number, text)).random
    left = [unit for unit in units if draw() >= _DROPPED] or units[:1]
    blanked = [BLANK if draw() < _BLANKED else unit for unit in left]
    # Sorting by the old place plus a random part below 4 moves nothing by more than 3 places.
    places = sorted(
        range(len(blanked)), key=[place + draw() * (_FARTHEST + 1) for place in range(len(blanked))].__getitem__
    )
    return (" " if is_spaced else "").join(blanked[place] for place in places)
