"""Attention of the translations that a report shows, computed where the model is at hand."""

from __future__ import annotations

from collections.abc import Sequence

from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention, WordAligner
from seq2seq.errors import UserError
from seq2seq.evaluation.best_and_worst import best_and_worst
from seq2seq.fixed_text import is_blank
from seq2seq.sealed_records import SentenceAttention


def sample_attention(aligner: WordAligner, pairs: Sequence[tuple[str, str]]) -> list[SentenceAttention]:
    """Attention over the words of (source, translation) pairs.

    Left out are blank texts and those beyond the model's limits. A model without attention, or too little memory for
    it, gives none: it is only shown.
    """
    shown = [pair for pair in dict.fromkeys(pairs) if not any(map(is_blank, pair))]
    try:
        whole = aligner.within_limits(shown)
        return [_over_words(pair, found) for pair, found in zip(whole, aligner.attention(whole), strict=True)]
    except UserError:
        return []


def pairs_to_show(
    sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]
) -> list[tuple[str, str]]:
    """The (source, translation) pairs with the highest and the lowest chrF, which the report shows."""
    best, worst = best_and_worst(references, hypotheses)
    return [(sources[found.line], hypotheses[found.line]) for found in (*best, *worst)]


def _over_words(pair: tuple[str, str], found: PairAttention) -> SentenceAttention:
    matrix = found.matrix(AlignmentOptions(), words=True)
    percent = (100 * matrix.weights).round().clamp(0, 100).int().tolist()
    return SentenceAttention(
        source=pair[0],
        translation=pair[1],
        source_words=matrix.source_pieces,
        target_words=matrix.target_pieces,
        weights=percent,
    )
