"""Corpora that cannot be meant so: one text on both sides, and files that hold nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from seq2seq import console
from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, Source, TextSource, TsvSource
from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.corpus import Pair, read_pairs
from seq2seq.data.files import DecodingErrors
from seq2seq.errors import DataError, UsageError

_MOST_COPIES = 0.8
"""Of the pairs. Where spelling is corrected, half of the sentences may well be right already."""

_EXAMPLES: dict[type, str] = {
    TextSource: "{source: corpus.en, target: corpus.de}",
    TsvSource: "{tsv: corpus.tsv, source: 0, target: 1}",
    JsonlSource: "{jsonl: corpus.jsonl, source: en, target: de}",
    HubSource: "{hub: ID, source: en, target: de}",
}


def check_sides(split: str, sources: Sequence[Source]) -> None:
    """Refuse a corpus whose two sides are one: a model of it learns to copy, and its scores look wonderful.

    Beside other corpora copied text is a known help for rare words (Currey et al. 2017): there it is only told.

    Raises:
        UsageError: one file, column or key stands for both sides of the only corpus of a split.
    """
    for number, source in enumerate(sources):
        if (side := _one_side(source)) is None:
            continue
        what = f"source and target are the same {side}: a model of it learns to copy"
        where = f"data.{split}.{number}"
        if len(sources) == 1:
            hint = "name a text and its translation: " + _EXAMPLES[type(source)]
            raise UsageError(what, where=where, hint=hint, code="usage.same-file")
        console.warn(f"{where}: {what}")


def _one_side(source: Source) -> str | None:
    """What stands for both sides of a corpus."""
    match source:
        case TextSource():
            one, other = Path(source.source), Path(source.target)
            same = one == other or (one.exists() and other.exists() and one.samefile(other))
            return f"file, {source.source}" if same else None
        case TsvSource():
            return f"column, {source.source}" if source.source == source.target else None
        case JsonlSource():
            return f"key, {source.source}" if source.source == source.target else None
        case HubSource():
            return f"column, {source.source}" if source.source == source.target else None
        case BuiltinSource():
            return None


def warn_of_copies(report: CleaningReport) -> None:
    """Tell where by far most pairs are one text twice, in whatever files they lay."""
    if report.copies > _MOST_COPIES * report.usable:
        console.warn(
            f"{report.copies:,} of {report.usable:,} training pairs are the same text on both sides: "
            "a model of them learns to copy; are these the right files?"
        )


def warn_of_shared_sources(report: CleaningReport) -> None:
    """Tell where the pairs of held-out source texts are trained on, since little else would be left."""
    if report.shared_source:
        console.warn(
            f"{report.shared_source:,} training pairs have the source text of a held-out pair, with another target; "
            "they stay, for less than half would be left without them"
        )


def full_corpora(sources: Sequence[Source], errors: DecodingErrors) -> Iterator[Iterator[Pair]]:
    """The pairs of each source; an empty one is told.

    Raises:
        DataError: as `read_pairs`, or none of the sources holds a pair.
    """
    empty: list[str] = []
    for source in sources:
        yield _noted(source, errors, empty)
    if sources and len(empty) == len(sources):
        raise DataError(
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty",
            where=empty[0],
            hint="is it the right file? line i of the source side is translated by line i of the target side",
            code="data.no-lines",
        )
    for name in empty:
        console.warn(f"{name} is empty")


def _noted(source: Source, errors: DecodingErrors, empty: list[str]) -> Iterator[Pair]:
    pairs = read_pairs(source, errors)
    if (first := next(pairs, None)) is None:
        empty.append(_name(source))
        return
    yield first
    yield from pairs


def _name(source: Source) -> str:
    match source:
        case TextSource():
            return source.source
        case TsvSource():
            named = isinstance(source.source, str) or isinstance(source.target, str)
            return f"{source.tsv}, below its header," if named else source.tsv
        case JsonlSource():
            return source.jsonl
        case HubSource():
            return f"{source.hub} ({source.split})"
        case BuiltinSource():
            return f"{source.builtin} ({source.split})"
