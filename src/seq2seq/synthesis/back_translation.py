"""Back-translation (Sennrich et al. 2016): how the source of a target text is made.

Text that a search finds best is too regular to learn much from, so sources can be sampled, or noise can be put into
them: words are dropped, replaced by a blank, and moved (Edunov et al. 2018, "Understanding back-translation at scale").
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.translator import TranslationOptions, translation_options
from seq2seq.languages import script_of
from seq2seq.random_streams import stream_key
from seq2seq.runs.loaded_run import LoadedRun

BLANK = "␣"
"""The filler token: a sign that no text has, and that is one entry of a vocabulary."""

_DROPPED = 0.1
_BLANKED = 0.1
_FARTHEST = 3
"""Largest distance that a word moves, in places, as in Lample et al. 2018."""


class Method(NamedTuple):
    """Method of translation: `beam`, `sampling`, or `noised-beam`."""

    name: str
    beam_size: int | None
    top_k: int
    temperature: float
    seed: int

    def options(self, loaded: LoadedRun) -> TranslationOptions:
        """The options of the translator."""
        is_sampled = self.name == "sampling"
        sampling = Sampling(self.temperature, self.top_k, seed=self.seed) if is_sampled else None
        return translation_options(loaded.translator.settings, beam_size=self.beam_size, sampling=sampling)

    def identity(self) -> dict[str, Any]:
        """Settings that translations depend on; noise is none, since it is put into them later."""
        if self.name == "sampling":
            return {"method": self.name, "top_k": self.top_k, "temperature": self.temperature, "seed": self.seed}
        return {"beam_size": self.beam_size}

    def source(self, translation: str, line: int) -> str:
        """The source text made of a translation, with the noise that the method adds."""
        return add_noise(translation, self.seed, line) if self.name == "noised-beam" else translation


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
