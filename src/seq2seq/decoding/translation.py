"""Translations of a line, and those of its parts as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from seq2seq.decoding.segmentation import WORD, join_sentences
from seq2seq.decoding.text_batches import Line


class Translation(NamedTuple):
    """A translation of one line."""

    source: Line
    """The line that was translated."""
    text: str
    """One line: line breaks that the model writes become spaces."""
    score: float
    """log_probability / length^alpha; the length counts the end mark. With a run that reranks, that of both directions.
    -inf for a line that is not translated: a blank or a copied one."""
    log_probability: float
    """Natural log of P(target | source)."""
    pieces: list[str]
    """Subword pieces of the text; of a line in capitals, as the model wrote them."""
    token_scores: tuple[float, ...] | None = None
    """On request: log P of each piece and of the end mark; those of several sentences one after the other."""
    cut: bool = False
    """Whether the output was cut off at the maximum length."""
    sentences: tuple[tuple[str, str], ...] = ()
    """Each sentence with its translation, of a line that was translated in several."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The texts whose words are translations of each other: the sentences, or the line and its translation."""
        return self.sentences or ((self.source.text, self.text),)


def distinct(translations: Iterable[Translation]) -> list[Translation]:
    """The first translation with each text: several hypotheses may be segmentations of one text."""
    found: dict[str, Translation] = {}
    for translation in translations:
        found.setdefault(translation.text, translation)
    return list(found.values())


def join(
    line: Line, parts: Sequence[list[Translation]], alpha: float, sentences: Sequence[str] = ()
) -> list[Translation]:
    """The translations of a line: the k-th ones of its parts joined and scored as one.

    `sentences` are those parts of the line; none if they are not known.
    """
    if len(parts) == 1:
        return parts[0]
    joined = []
    for rank in range(max(len(part) for part in parts)):
        chosen = [part[min(rank, len(part) - 1)] for part in parts]
        total = sum(item.log_probability for item in chosen)
        length = sum(len(item.pieces) + 1 for item in chosen)
        scores = [item.token_scores for item in chosen if item.token_scores is not None]
        texts = [item.text for item in chosen]
        text = join_sentences(texts)
        has_words = len(WORD.findall(text)) == sum(len(WORD.findall(part)) for part in texts)  # Chinese joins them
        joined.append(
            Translation(
                line,
                text,
                sum(item.score * (len(item.pieces) + 1) ** alpha for item in chosen) / length**alpha,
                total,
                [piece for item in chosen for piece in item.pieces],
                tuple(chain.from_iterable(scores)) if scores else None,
                any(item.cut for item in chosen),
                tuple(zip(sentences, texts, strict=True)) if sentences and has_words else (),
            )
        )
    return joined
