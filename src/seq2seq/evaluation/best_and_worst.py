"""The best and the worst translations of a set by chrF, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import CHRF

_MOST_SCORED = 300
"""Sentences among which they are chosen, spread over the set."""
_SHOWN = 5


class ScoredLine(NamedTuple):
    """Sentence-level chrF of one translation."""

    score: float
    line: int
    """Place in the set, from 0."""


def best_and_worst(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[ScoredLine], list[ScoredLine]]:
    """The translations with the highest and with the lowest chrF, the most extreme first; none is in both.

    Among equal scores the longest reference comes first: exact matches of short lines say little.
    """
    stride = max(1, -(-len(references) // _MOST_SCORED))
    metric = CHRF(eps_smoothing=True)
    scored = [
        ScoredLine(metric.sentence_score(hypotheses[line], [references[line]]).score, line)
        for line in range(0, len(references), stride)
    ]
    scored.sort(key=lambda item: (-item.score, -len(references[item.line])))
    count = min(_SHOWN, len(scored) // 2)
    return scored[:count], scored[len(scored) - count :][::-1]
