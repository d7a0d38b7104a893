"""Noisy channel reranking (Yee et al. 2019): of several translations, the one that explains its source best, too.

    score = log P(target | source) / length^alpha + weight * log P(source | target) / (length of the source)

A run of the opposite direction gives the second term. The lengths count the end mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.decoding.forced_decoding import Scorer, TargetScore
from seq2seq.decoding.translation import Translation

WEIGHT = 0.2
"""Default weight; 0.1 to 0.3 are best on Multi30k, in both directions (`configs/README.md`)."""


class Reranker(NamedTuple):
    """Orders the hypotheses of a beam by both directions."""

    scorer: Scorer
    """Of a run that translates the target language to the source language."""
    weight: float = WEIGHT

    def reranked(self, sentences: Sequence[list[Translation]], sources: Sequence[str]) -> list[list[Translation]]:
        """The translations of each sentence in the order of the scores of both directions, which replace their own."""
        pairs = [(item.text, source) for found, source in zip(sentences, sources, strict=True) for item in found]
        backward = iter(self.scorer.score(pairs))
        return [
            sorted((self._scored(item, next(backward)) for item in found), key=lambda item: -item.score)
            for found in sentences
        ]

    def _scored(self, item: Translation, backward: TargetScore) -> Translation:
        return item._replace(score=item.score + self.weight * backward.log_probability / backward.length)
