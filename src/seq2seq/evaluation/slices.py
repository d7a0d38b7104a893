"""Scores by slice of a test set: corpora, source length, rare words, numbers, capitals, no full stop, and tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from seq2seq.evaluation.metrics import bleu_tokenizer, composed
from seq2seq.tags import TARGET_TAG, language_of

_TAG = re.compile(f"^{TARGET_TAG.pattern} ?")
_TARGET_TAG = "target tag"
_LEAST = 5
"""Smaller slices have no score."""


class Slice(NamedTuple):
    """Scores of some sentences of a test set."""

    name: str
    sentences: int
    bleu: float
    chrf: float


def slice_scores(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    tags: Sequence[str] = (),
    corpora: Sequence[str] = (),
    target_language: str,
) -> list[Slice]:
    """Scores of every slice that has at least 5 sentences, but not all of them.

    Args:
        tags: target tag of each sentence; empty if there is a single target language.
        corpora: name of the corpus of each sentence; empty if there is a single one.
    """
    # A metric caches what it has counted in the references: each slice has metrics of its own.
    tokenizer = bleu_tokenizer(target_language, references)
    scores = []
    if tags:  # a tag is no word, number or capital of its text
        sources = [_TAG.sub("", source) for source in sources]
    for name, places in chain(_groups("corpus", corpora), _slices(sources), _groups(_TARGET_TAG, tags)):
        if not _LEAST <= len(places) < len(sources):
            continue
        chosen, wanted = (composed([lines[place] for place in places]) for lines in (hypotheses, references))
        if name.startswith(_TARGET_TAG):
            tokenizer = bleu_tokenizer(language_of(tags[places[0]]), wanted)
        bleu = BLEU(tokenize=tokenizer, force=True).corpus_score(chosen, [wanted]).score
        scores.append(Slice(name, len(places), float(bleu), float(CHRF().corpus_score(chosen, [wanted]).score)))
    return scores


def _groups(kind: str, names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    for name in dict.fromkeys(names):
        yield f"{kind} {name}", [n for n, other in enumerate(names) if other == name]


def _slices(sources: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    lengths = [len(source.split()) for source in sources]
    for low, high in ((0, 5), (6, 10), (11, 20), (21, 40), (41, None)):
        name = f"source of {low} to {high} words" if high else f"source of more than {low - 1} words"
        yield name, [n for n, length in enumerate(lengths) if low <= length and (high is None or length <= high)]
    counts = Counter(word for source in sources for word in source.split())
    yield (
        "a word that is unique in the test set",
        [n for n, source in enumerate(sources) if any(counts[word] == 1 for word in source.split())],
    )
    yield "numbers", [n for n, source in enumerate(sources) if any(map(str.isdigit, source))]
    yield (
        "capitals after the first word",
        [n for n, source in enumerate(sources) if any(word[0].isupper() for word in source.split()[1:])],
    )
    yield (
        "no final full stop",
        [n for n, source in enumerate(sources) if not source.rstrip(" \"')»”’").endswith((".", "。", "।", "．"))],
    )
