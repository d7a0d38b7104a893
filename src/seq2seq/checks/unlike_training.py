"""Findings about text that is unlike the text of training: its languages, its tokens, and how it is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from seq2seq.checks.diagnosis import EXAMPLE_LENGTH, Diagnosis, is_copy, line_share
from seq2seq.checks.identified_languages import Identifier, SideLanguages
from seq2seq.data.files import Pair
from seq2seq.sanitize import shorten
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.base import BYTE_PIECE, Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair

_LEAST_PAIRS = 100
"""Least number of held-out pairs from which the words of the two languages are learned."""
_MOST_JUDGED = 400
"""Lines that are judged, spread over the text: most findings are about shares."""
_FOREIGN = 0.05
_MOST_UNKNOWN, _MOST_BYTES, _MOST_PIECES = 0.05, 0.15, 1.6
"""Share of unknown tokens and of single bytes; pieces for a character, against the text of training."""
_SPACED_MARK = re.compile(r"\w [.,!?](?: |$)")
_MOSTLY, _HARDLY = 0.5, 0.05
_LEAST_LINES = 20


class RunText(NamedTuple):
    """Properties of the text that a run was trained on."""

    pairs: Sequence[Pair]
    """Held-out pairs of its corpus."""
    tokenizers: TokenizerPair
    named: tuple[str, str]
    """Source and target language, as the config names them."""
    identifier: Identifier


def text_findings(
    sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], run: RunText
) -> Iterator[Diagnosis]:
    """Findings about a test set and its translations, against the text of the run."""
    stride = max(1, -(-len(sources) // _MOST_JUDGED))
    lines = range(0, len(sources), stride)
    judged = [(line, sources[line], references[line], hypotheses[line]) for line in lines]
    if len(run.pairs) >= _LEAST_PAIRS:
        yield from _language_findings(judged, run)
    yield from _token_findings([source for _, source, _, _ in judged], run)
    yield from _writing_findings(judged, run)


def _language_findings(judged: Sequence[tuple[int, str, str, str]], run: RunText) -> Iterator[Diagnosis]:
    languages = SideLanguages(run.pairs, run.named, run.identifier)
    if what := languages.exchanged():
        message = "the run has its languages the other way round than named"
        yield Diagnosis("languages", message, what, "seq2seq data check RUN/config.yaml", 0.9)
    exchanged = [line for line, left, right, _ in judged if (languages.fault(left, right) or ("",))[0] == "swapped"]
    if len(exchanged) > _MOSTLY * len(judged):
        yield Diagnosis(
            "swapped",
            "sources and references are exchanged",
            line_share(len(exchanged), len(judged)),
            "seq2seq evaluate RUN --source REFERENCES --references SOURCES",
            1.0,
        )
        return
    foreign: list[tuple[int, str, str]] = []
    for line, source, reference, written in judged:
        fault = (
            languages.fault(source, written) if written.strip() and not is_copy(source, reference, written) else None
        )
        if fault is not None and fault[1].startswith("target") and languages.fault(source, reference) is None:
            foreign.append((line, fault[1].removeprefix("target "), written))
    if len(foreign) >= max(3, _FOREIGN * len(judged)):
        line, where, written = foreign[0]
        yield Diagnosis(
            "language",
            "translations are in another language than the references",
            f"{line_share(len(foreign), len(judged))}; line {line + 1:,} ({where}): {shorten(written, EXAMPLE_LENGTH)}",
            "seq2seq data check RUN/config.yaml",
            max(0.5, len(foreign) / len(judged)),
        )


def _token_findings(sources: Sequence[str], run: RunText) -> Iterator[Diagnosis]:
    """Text that the tokenizer cuts into far more pieces than the text of training, or does not know."""
    tokenizer = run.tokenizers.source
    here = _Pieces.of(sources, tokenizer)
    before = _Pieces.of([source for source, _ in run.pairs[:_MOST_JUDGED]], tokenizer)
    reasons = []
    if here.unknown > max(_MOST_UNKNOWN, 2 * before.unknown):
        reasons.append(f"{here.unknown:.0%} of the tokens of the sources are unknown")
    if here.bytes > max(_MOST_BYTES, 2 * before.bytes):
        reasons.append(f"{here.bytes:.0%} of the tokens of the sources are single bytes")
    if before.per_character and here.per_character > _MOST_PIECES * before.per_character:
        reasons.append(
            f"{here.per_character:.2f} pieces for a character of the sources, {before.per_character:.2f} in the run's "
            "own text"
        )
    if reasons:
        message = "the tokenizer does not fit this text, which is unlike the text of training"
        command = "seq2seq train RUN/config.yaml training.init_from=RUN -o RUN-adapted"
        yield Diagnosis("tokenizer", message, "; ".join(reasons), command, 0.6)


class _Pieces(NamedTuple):
    unknown: float
    bytes: float
    per_character: float

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> _Pieces:
        ids = [number for row in tokenizer.encode(texts) for number in row]
        counts, total = Counter(ids), max(1, len(ids))
        numbers = list(counts)
        spelled = sum(
            counts[number]
            for number, piece in zip(numbers, tokenizer.pieces(numbers), strict=True)
            if BYTE_PIECE.fullmatch(piece)
        )
        return cls(counts[UNK] / total, spelled / total, len(ids) / max(1, sum(map(len, texts))))


def _writing_findings(judged: Sequence[tuple[int, str, str, str]], run: RunText) -> Iterator[Diagnosis]:
    """Sources or references written differently from those of the run: tokenized, or in lower case."""
    own = [pair for pair in run.pairs[:_MOST_JUDGED] if all(map(str.strip, pair))]
    given = [(source, reference) for _, source, reference, _ in judged if source.strip() and reference.strip()]
    if min(len(own), len(given)) < _LEAST_LINES:
        return
    kinds: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
        ("spacing", "a space before punctuation marks", lambda text: _SPACED_MARK.search(text) is not None),
        ("case", "capital letters", lambda text: text != text.lower()),
    )
    for code, what, has in kinds:
        for side, name in enumerate(("sources", "references")):
            here, before = (sum(has(pair[side]) for pair in pairs) / len(pairs) for pairs in (given, own))
            if min(here, before) <= _HARDLY and max(here, before) >= _MOSTLY:
                yield Diagnosis(
                    code,
                    f"the {name} are written otherwise than the text of training",
                    f"{here:.0%} of them have {what}, {before:.0%} of the run's own text",
                    "seq2seq evaluate RUN --source FILE --references FILE   # text as it was in training",
                    0.7,
                )
