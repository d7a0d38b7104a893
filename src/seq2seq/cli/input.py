"""Input of the commands: lines of files and of standard input, and pairs of lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.console import write_stderr
from seq2seq.errors import DataError, UsageError
from seq2seq.signals import Stop

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors
    from seq2seq.decoding.text_batches import Line
    from seq2seq.runs.load import LoadedRun
    from seq2seq.tokenizers.base import Tokenizer

REPLACE = "--errors replace"
"""Option that replaces bytes that are not UTF-8, for hints."""


def input_lines(file: Path | None, errors: DecodingErrors) -> Iterable[str]:
    """The lines of a file or of standard input; at a terminal those that a person types."""
    from seq2seq.data.files import decode_lines, read_lines

    if file is not None and str(file) != "-":
        return read_lines(file, errors, option=REPLACE)
    if sys.stdin.isatty():
        return _prompt()
    return decode_lines(sys.stdin.buffer, "stdin", errors, option=REPLACE)


def _prompt() -> Iterator[str]:
    """Lines typed at a terminal, until the end of input."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
        except Stop:
            write_stderr("")  # later messages begin on a new line, not behind the prompt
            raise


def tagged(lines: Iterable[str], tag: str, tokenizer: Tokenizer) -> Iterable[str]:
    """The lines with a target tag before each, as in training. Raises as `known_tag`."""
    from seq2seq.data.corpus import add_tag

    symbol = known_tag(tag, tokenizer)
    return (add_tag(line, symbol) for line in lines)


def known_tag(tag: str, tokenizer: Tokenizer) -> str:
    """The symbol of a target tag: `<2de>` for `de`.

    Raises:
        UsageError: the run knows no such tag.
    """
    from seq2seq.data.corpus import tag_symbol

    symbol = tag_symbol(tag)
    if symbol not in (known := tokenizer.tags):
        raise UsageError(
            f"the run knows no target tag {tag}",
            where="--target-tag",
            hint=f"its tags: {tag_names(known)}" if known else "it was trained without target_tag: leave it out",
            code="search.target-tag",
        )
    return symbol


def tag_names(tags: Iterable[str]) -> str:
    """The languages of such symbols as `<2de>`."""
    return ", ".join(tag.removeprefix("<2").removesuffix(">") for tag in tags)


def same_file(one: Path, other: Path) -> bool:
    """Whether both names are those of one ordinary file."""
    return one.is_file() and other.is_file() and one.samefile(other)


def check_output(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise `UsageError` where the output is one of the inputs, which would be lost, or where it is a folder."""
    if output is None or str(output) == "-":
        return
    if any(file is not None and same_file(file, output) for file in inputs):
        raise UsageError(
            f"{output} is the input: its text would be lost", hint="choose another file with -o", code="usage.same-file"
        )
    if output.is_dir():
        raise UsageError(
            f"cannot write {output}: it is a folder", hint="choose a file with -o", code="usage.unwritable"
        )


def with_prefixes(lines: Iterable[str], name: str, path: Path | None) -> Iterator[Line]:
    """The lines of `name`, each with the line of the file that its translation begins with, where there is one.

    Raises:
        DataError: one of the two has more lines.
    """
    from seq2seq.data.files import read_lines
    from seq2seq.decoding.text_batches import Line

    if path is None:
        yield from map(Line, lines)
        return
    source, prefixes = iter(lines), iter(read_lines(path))
    number = 0
    for number, line in enumerate(source, start=1):
        prefix = next(prefixes, None)
        if prefix is None:
            raise DataError(
                f"{path} has {number - 1:,} lines, {name} has more",
                where=f"{name}:{number}",
                hint="one prefix a line, an empty line for none",
                code="data.line-counts",
            )
        yield Line(line, prefix)
    if next(prefixes, None) is not None:
        raise DataError(
            f"{name} has {number:,} lines, {path} has more",
            where=f"{path}:{number + 1}",
            hint="one prefix a line, an empty line for none",
            code="data.line-counts",
        )


Pair = tuple[str, str]


class PairText(NamedTuple):
    """Source of pairs of lines: a file or standard input, with their translations."""

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
        from seq2seq.data.files import read_lines

        if self.target is not None:
            yield from _paired(lines, read_lines(self.target, self.errors, option=REPLACE))
        elif singly:
            for line in lines:
                yield line, loaded.translate([with_tag(line, symbol)])[0]
        else:
            for translations in loaded.translator.stream(with_tag(line, symbol) for line in lines):
                line = translations[0].source.text
                yield line.removeprefix(f"{symbol} ") if symbol else line, translations[0].text


def with_tag(line: str, symbol: str) -> str:
    """The line with a target tag, where there is one."""
    from seq2seq.data.corpus import add_tag

    return add_tag(line, symbol) if symbol else line


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
