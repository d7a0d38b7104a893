"""Pairs of lines, read from two files or made by translating."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.cli.streams import REPLACE, input_lines
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.data.lines import DecodingErrors
    from seq2seq.experiment import LoadedRun

Pair = tuple[str, str]


class PairText(NamedTuple):
    """Where pairs come from."""

    source: Path | None
    """None is standard input."""
    target: Path | None
    """None for the model's own translations."""
    errors: DecodingErrors

    def pairs(self, loaded: LoadedRun, symbol: str, *, singly: bool = False) -> Iterator[Pair]:
        """Source lines with their translations; `singly` does not wait for the next line.

        The model reads `symbol`, a target tag, before each line that it translates.
        """
        yield from self._of(input_lines(self.source, self.errors), loaded, symbol, singly)

    def some(self, loaded: LoadedRun, symbol: str, line: int, count: int) -> list[Pair]:
        """The pairs from a line on, counted from 1. Other lines are not translated."""
        lines = input_lines(self.source, self.errors)
        first, last = line - 1, line - 1 + count
        if self.target is None:
            pairs = list(self._of(islice(lines, first, last), loaded, symbol, False))
        else:
            pairs = list(islice(self._of(lines, loaded, symbol, False), first, last))
        if not pairs:
            raise UsageError(
                f"--line {line} is beyond the end of the text",
                hint="lines are counted from 1 to the end of the text",
                code="usage.picture",
            )
        return pairs

    def _of(self, lines: Iterable[str], loaded: LoadedRun, symbol: str, singly: bool) -> Iterator[Pair]:
        from seq2seq.data.lines import read_lines

        if self.target is not None:
            yield from _paired(lines, read_lines(self.target, self.errors, option=REPLACE))
        elif singly:
            for line in lines:
                yield line, loaded.translate([with_tag(line, symbol)])[0]
        else:
            yield from _translated(lines, loaded, symbol)


def with_tag(line: str, symbol: str) -> str:
    """The line with a target tag, where there is one."""
    from seq2seq.data.corpus import add_tag

    return add_tag(line, symbol) if symbol else line


def _translated(lines: Iterable[str], loaded: LoadedRun, symbol: str) -> Iterator[Pair]:
    waiting: deque[str] = deque()

    def noted() -> Iterator[str]:
        for line in lines:
            waiting.append(line)
            yield with_tag(line, symbol)

    for found in loaded.translator.stream(noted()):
        yield waiting.popleft(), found[0].text


def _paired(sources: Iterable[str], targets: Iterable[str]) -> Iterator[Pair]:
    counts = [0, 0]
    for source, target in zip_longest(sources, targets):
        counts[0] += source is not None
        counts[1] += target is not None
        if source is not None and target is not None:
            yield source, target
    if counts[0] != counts[1]:
        raise DataError(
            f"the source has {counts[0]:,} lines, the target {counts[1]:,}",
            hint="the two files must match line by line",
            code="data.line-counts",
        )
