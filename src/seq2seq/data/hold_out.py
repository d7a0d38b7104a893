"""Held-out pairs: drawn from the training text, which then loses the pairs that share a text with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.files import Pair
from seq2seq.data.raw_pairs import READ_ROWS, RawText


def hold_out(raw: RawText, count: int, seed: int) -> list[Pair]:
    """Remove `count` random pairs of the corpora without a tag, and return them in random order."""
    if count == 0:
        return []
    chosen = np.random.default_rng(seed).choice(raw.untagged(), size=count, replace=False)
    rows = np.empty(count, dtype=np.int64)
    before = 0
    for start, kept in raw.untagged_rows():
        mine = (chosen >= before) & (chosen < before + len(kept))
        rows[mine] = start + kept[chosen[mine] - before]
        before += len(kept)
    return raw.take(rows)


def drop_sources(raw: RawText, held_out: Sequence[Pair], report: CleaningReport) -> None:
    """Drop the pairs whose source text, without its tags, is that of a held-out pair.

    If less than half of the pairs would be left, sources are labels rather than sentences: all are kept, and counted
    as `shared_source`.
    """
    if not held_out:
        return
    marks, found = raw.mark({raw.tags.strip(source) for source, _ in held_out}, set())
    if 2 * found > len(raw):
        report.shared_source = found
        return
    raw.drop(marks, found)
    report.held_out_source += found


def drop_overlap(raw: RawText, held_out: Sequence[Pair], report: CleaningReport) -> None:
    """Drop the pairs that share their source or target text with a held-out pair.

    If less than half of the pairs would be left, targets are labels, and only sources count.
    """
    if not held_out:
        return
    sources = {raw.tags.strip(source) for source, _ in held_out}
    marks, found = raw.mark(sources, {target for _, target in held_out})
    if 2 * found > len(raw):
        marks, found = raw.mark(sources, set())
    raw.drop(marks, found)
    report.overlap += found


def overlap(raw: RawText, held_out: Sequence[Pair]) -> dict[str, int]:
    """Numbers of held-out pairs whose source, and whose target, occurs in training; tags are ignored."""
    texts = [{raw.tags.strip(source) for source, _ in held_out}, {target for _, target in held_out}]
    seen: list[set[str]] = [set(), set()]
    with raw.progress("comparing with held-out text") as progress:
        for _, part in raw.slices(READ_ROWS) if held_out else ():
            rows = part[:]
            seen[0].update(text for source in rows["source"] if (text := raw.tags.strip(source)) in texts[0])
            seen[1].update(texts[1].intersection(rows["target"]))
            progress.update(len(part))
    return {
        "source": sum(raw.tags.strip(source) in seen[0] for source, _ in held_out),
        "target": sum(target in seen[1] for _, target in held_out),
    }
