"""Findings of the check of a corpus: kinds, counts, examples and verdicts."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from seq2seq.data.files import Pair
from seq2seq.data.unreadable_rows import show

_EXAMPLES = 3
_SHOWN_RANGES = 8
_JSON_RANGES = 1000
_LONGEST_EXAMPLE = 160


class Kind(NamedTuple):
    """One kind of fault."""

    title: str
    error_share: float
    """Share of the pairs from which on it is an error; below it is a warning."""
    action: str
    """Action of `--fix`: `drop` the pair, `repair` its text, or `keep` it."""
    advice: str


KINDS = {
    "line-counts": Kind(
        "different numbers of lines",
        0,
        "keep",
        "find the missing lines: misaligned pairs begin there; without any, the end of a file is missing",
    ),
    "languages": Kind(
        "other languages than named",
        0,
        "keep",
        "exchange the two files, or correct data.source_language and data.target_language",
    ),
    "leaked": Kind(
        "pairs of the validation or test set", 0, "drop", "leave them out of training: they make the scores too high"
    ),
    "misaligned": Kind("misaligned pairs", 0, "drop", "find the missing or extra line where each range begins"),
    "swapped": Kind("swapped sides", 0.01, "repair", "exchange source and target of these pairs"),
    "language": Kind("wrong language", 0.05, "drop", "leave these pairs out"),
    "copy": Kind("source copied to target", 0.1, "drop", "leave these pairs out: they teach the model to copy"),
    "blank": Kind("blank sides", 0.2, "drop", "training leaves them out"),
    "duplicate": Kind("duplicate pairs", 0.5, "drop", "training keeps the first of those that are equal in case, too"),
    "length": Kind("length outliers", 0.05, "drop", "one side is cut off, or translates another sentence"),
    "encoding": Kind("damaged characters", 0.01, "drop", "read the original file in its true encoding"),
    "mojibake": Kind("mojibake", 0.001, "repair", "UTF-8 was read as Latin-1 or Windows-1252: convert it back"),
    "tags": Kind("markup tags", 0.1, "repair", "take the tags out"),
    "entities": Kind("character entities", 0.1, "repair", "write the characters that they stand for"),
    "controls": Kind("control characters", 0.05, "repair", "take them out"),
    "bidi": Kind("bidirectional overrides", 0.05, "repair", "take them out"),
    "bom": Kind(
        "byte-order marks inside the text", 0.05, "repair", "take them out: files were joined, each with its mark"
    ),
    "invisible": Kind("zero-width characters", 0.1, "repair", "take them out"),
    "numbers": Kind("different numbers", 0.1, "keep", "compare these pairs by eye"),
}


class Finding:
    """The pairs with one kind of fault: their number, their lines and the first examples.

    `lines` takes at most eight bytes for each pair.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = 0
        self.lines = array("Q")
        self.examples: list[dict[str, Any]] = []
        self.advice = KINDS[kind].advice

    def add(self, detail: str, line: int, pair: Pair) -> None:
        """Add a pair; `line` counts from 1, and is 0 for a fault of the whole corpus."""
        self.count += 1
        if line:
            self.lines.append(line)
        if len(self.examples) < _EXAMPLES:
            source, target, why = (show(text, _LONGEST_EXAMPLE) for text in (*pair, detail))
            self.examples.append({"line": line, "why": why, "source": source, "target": target})

    def verdict(self, pairs: int) -> str:
        """`error` or `warning`, by the share of the pairs."""
        return "error" if self.count >= KINDS[self.kind].error_share * max(pairs, 1) else "warning"

    def shown_lines(self) -> str:
        """The first ranges of lines, for people."""
        ranges = self.ranges()
        listed = ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
        return listed + (", ..." if sum(last - first + 1 for first, last in ranges) < self.count else "")

    def ranges(self, limit: int = _SHOWN_RANGES) -> list[list[int]]:
        """The first ranges of consecutive lines, as [first, last]."""
        found: list[list[int]] = []
        for line in self.lines:
            if found and line == found[-1][1] + 1:
                found[-1][1] = line
            elif len(found) == limit:
                break
            else:
                found.append([line, line])
        return found


class SourceReport:
    """Findings of the check in one corpus."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pairs = 0
        self.statistics: dict[str, dict[str, float | int | str]] = {}
        """Figures of the source and the target side."""
        self.ratio = 0.0
        """Median of target length / source length, in characters."""
        self.findings: dict[str, Finding] = {}
        self.conversions: list[str] = []
        """A hint for each file that is not UTF-8: the first such line, the likeliest encoding, and a command."""

    def add(self, kind: str, detail: str, line: int = 0, pair: Pair = ("", "")) -> None:
        """Add a pair, or the whole corpus, to the finding of a kind."""
        self.findings.setdefault(kind, Finding(kind)).add(detail, line, pair)

    def sorted(self) -> list[Finding]:
        """Errors first, in the order of `KINDS`; but another encoding before all, as the rest may follow from it."""
        order = list(KINDS)

        def key(finding: Finding) -> tuple[bool, bool, int]:
            is_encoding = finding.kind == "encoding" and bool(self.conversions)
            return not is_encoding, finding.verdict(self.pairs) != "error", order.index(finding.kind)

        return sorted(self.findings.values(), key=key)

    @property
    def failed(self) -> bool:
        """True if any finding is an error."""
        return any(finding.verdict(self.pairs) == "error" for finding in self.findings.values())

    @property
    def wants_conversion(self) -> bool:
        """True if most of what `--fix` would drop or repair is undamaged text in another encoding than UTF-8.

        What is judged by letters is left out: text that cannot be read has the wrong ones.
        """
        fixed = sum(
            finding.count
            for finding in self.findings.values()
            if KINDS[finding.kind].action != "keep" and finding.kind not in ("language", "swapped", "length")
        )
        return bool(self.conversions) and 2 * self.findings["encoding"].count > fixed

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "name": show(self.name, 10_000),
            "pairs": self.pairs,
            "length_ratio": round(self.ratio, 3),
            "sides": self.statistics,
            "findings": [
                {
                    "kind": finding.kind,
                    "verdict": finding.verdict(self.pairs),
                    "count": finding.count,
                    "share": round(finding.count / max(self.pairs, 1), 6),
                    "lines": finding.ranges(_JSON_RANGES),
                    "examples": finding.examples,
                    "advice": finding.advice,
                }
                for finding in self.sorted()
            ],
        }
