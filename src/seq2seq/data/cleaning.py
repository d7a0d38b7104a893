"""Cleaning of training pairs: filters, and a report with one reason for each dropped pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from seq2seq.config.settings import CleaningSettings
from seq2seq.console import format_table
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank

RATIO_EXEMPT_TOKENS = 10
"""Maximum length of the longer side, in tokens, for which the length ratio is not checked: 1 to 9 can be right."""

_LABELS = {
    "unreadable": "unreadable row of a table",
    "empty": "empty side",
    "invisible": "NUL or zero-width only",
    "duplicate": "duplicate",
    "held_out": "held out for validation and test",
    "held_out_source": "source of a held-out pair",
    "overlap": "text of a validation or test pair",
    "too_short": "too short",
    "too_long": "too long",
    "ratio": "length ratio",
}


@dataclass
class CleaningReport:
    """Counts of pairs: read, kept, and dropped by reason.

    `read` is `kept` plus the sum of the reasons; `copies` and `shared_source` are not reasons.
    """

    read: int = 0
    kept: int = 0
    unreadable: int = 0
    empty: int = 0
    invisible: int = 0
    duplicate: int = 0
    held_out: int = 0
    held_out_source: int = 0
    """Pairs with the source text of a held-out one, such as its translation into another language."""
    overlap: int = 0
    """Pairs that share a side with a validation or test pair, where `drop_test_overlap` is set."""
    too_short: int = 0
    too_long: int = 0
    ratio: int = 0
    copies: int = 0
    """Pairs with the same text on both sides; they are not dropped."""
    shared_source: int = 0
    """Pairs with a held-out source that stay, because most of the corpus would be dropped otherwise."""

    @property
    def usable(self) -> int:
        """Pairs with text on both sides."""
        return self.read - self.unreadable - self.empty - self.invisible

    def rows(self) -> list[tuple[str, str]]:
        """Rows (reason, count) for `console.format_table`."""
        labels = {name: label for name, label in _LABELS.items() if name != "unreadable" or self.unreadable}
        counts = [("read", self.read), *((label, getattr(self, name)) for name, label in labels.items())]
        counts.append(("kept", self.kept))
        return [(label, f"{count:,}") for label, count in counts]

    def table(self) -> str:
        """Format the counts as a table."""
        return format_table(("training pairs", "count"), self.rows())

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, counts: dict[str, int]) -> CleaningReport:
        """Invert `as_dict`; unknown names are ignored."""
        return cls(**{field.name: int(counts[field.name]) for field in fields(cls) if field.name in counts})

    def require_any_kept(self) -> None:
        """Raise DataError with the table if no pair is left."""
        if not self.kept:
            table = "\n".join("  " + line for line in self.table().splitlines())
            raise DataError(
                f"no training pair is left after cleaning\n{table}",
                hint="check the files, or relax data.cleaning (min_tokens, max_tokens, max_ratio)",
                code="data.nothing-left",
            )


def text_fault(source: str, target: str) -> str | None:
    """Reason to drop a pair before tokenization: "empty", "invisible", or None."""
    if not source.strip() or not target.strip():
        return "empty"
    if "\0" in source or "\0" in target:
        return "invisible"
    return "invisible" if is_blank(source) or is_blank(target) else None


def hash_pairs(pairs: Iterable[tuple[str, str]]) -> npt.NDArray[np.uint64]:
    """Compute a 64-bit BLAKE2b hash of each pair, for the search for duplicates.

    With 100 million different pairs, one corpus in 3,700 is expected to have a false duplicate.
    """
    digests = b"".join(
        blake2b(f"{source}\n{target}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for source, target in pairs
    )
    return np.frombuffer(digests, dtype="<u8")


def judge_lengths(
    source_lengths: npt.NDArray[np.integer],
    target_lengths: npt.NDArray[np.integer],
    settings: CleaningSettings,
    report: CleaningReport,
) -> npt.NDArray[np.bool_]:
    """Mask of the pairs to keep, by their token counts (without EOS); the others are added to the report."""
    shorter, longer = np.minimum(source_lengths, target_lengths), np.maximum(source_lengths, target_lengths)
    too_short = shorter < settings.min_tokens
    too_long = (longer > settings.max_tokens) & ~too_short
    skewed = (longer > shorter * settings.max_ratio) & (longer > RATIO_EXEMPT_TOKENS) & ~too_short & ~too_long
    report.too_short += int(too_short.sum())
    report.too_long += int(too_long.sum())
    report.ratio += int(skewed.sum())
    keep = ~(too_short | too_long | skewed)
    report.kept += int(keep.sum())
    return np.asarray(keep, dtype=np.bool_)
