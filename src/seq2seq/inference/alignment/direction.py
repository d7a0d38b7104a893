"""Which way a model translates, judged by pairs of texts that it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from seq2seq.inference.inspection import Inspector
from seq2seq.inference.text.lines import is_blank

_PAIRS = 20
_LONGEST = 300
"""Characters of a text that is looked at."""
_FEWEST_TOKENS = 20
_CLEAR = 1.0
"""Nats a token; trained models differ by six to eight, the same text on both sides by none."""


def writes_target(inspector: Inspector, pairs: Iterable[tuple[str, str]]) -> bool | None:
    """Whether the model makes targets of sources (True) or sources of targets (False); None where that is not clear.

    It is the direction in which the first pairs are likelier for each token written.
    """
    usable = (pair for pair in pairs if all(not is_blank(text) and len(text) <= _LONGEST for text in pair))
    some = list(islice(usable, _PAIRS))
    forward, backward = inspector.score(some), inspector.score([(target, source) for source, target in some])
    lengths = [sum(item.length for item in found) for found in (forward, backward)]
    if min(lengths) < _FEWEST_TOKENS:
        return None
    means = [
        sum(item.log_probability for item in found) / length
        for found, length in zip((forward, backward), lengths, strict=True)
    ]
    difference = means[0] - means[1]
    return difference > 0 if abs(difference) > _CLEAR else None
