"""Input of the commands: lines of files and of standard input, and pairs of lines."""

from __future__ import annotations

import os
import select
import shlex
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from seq2seq.console import counted, muted, say
from seq2seq.errors import DataError, UsageError, UserError

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors, Pair
    from seq2seq.decoding.text_batches import Line, More
    from seq2seq.runs.loaded_run import LoadedRun

REPLACE = "--errors replace"
"""Option that replaces bytes that are not UTF-8, for hints."""


_RECEIVED = 1 << 16
_LONGEST_LINE = 1 << 26
"""Bytes after which a line is handed over without its end; `decode_lines` refuses it."""
_PAUSE_SECONDS = 0.1
"""Time without input after which a pipe counts as waiting for the translations of the lines sent so far."""


class InputText(NamedTuple):
    """Lines of a file or of a stream."""

    lines: Iterable[str]
    more: More | None = None
    """For a pipe or a terminal: whether another line can be read without a long wait."""


def input_text(file: Path | None, errors: DecodingErrors) -> InputText:
    """The text of a file or of standard input, which is empty if it is closed."""
    from seq2seq.data.files import decode_lines
    from seq2seq.data.formats import read_text

    if file is not None and str(file) != "-" and not file.is_fifo():
        return InputText(read_text(file, errors, option=REPLACE))
    name = "stdin" if file is None else str(file)
    if file is not None and str(file) != "-":
        stream = _Stream(os.open(file, os.O_RDONLY))
    elif sys.stdin is None:
        return InputText(())
    elif (number := _stream_number()) is not None:
        if sys.stdin.isatty():
            say("reading lines from the terminal; Ctrl-D ends")
        stream = _Stream(number)
    else:
        return InputText(decode_lines(sys.stdin.buffer, name, errors, option=REPLACE))
    return InputText(decode_lines(cast(BinaryIO, stream), name, errors, option=REPLACE), stream.more)


def _stream_number() -> int | None:
    """The descriptor of standard input if it is a pipe, a socket or a terminal; else None."""
    try:
        number = sys.stdin.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):
        return None
    live = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()
    return number if live and os.name == "posix" else None  # elsewhere, `select` is for sockets


class _Stream:
    """Lines of a pipe or a terminal as they arrive.

    Python's own buffers cannot tell whether they hold another line.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lines: deque[bytes] = deque()
        self._begun: list[bytes] = []
        """The line that has not ended yet."""
        self._begun_size = 0
        self._ended = False

    def readline(self, limit: int) -> bytes:
        """The next line with its end, or `limit` bytes of a longer one; empty at the end of the input."""
        while not self._lines and not self._ended:
            self._receive()
        if not self._lines:
            return b""
        line = self._lines.popleft()
        if len(line) > limit:
            self._lines.appendleft(line[limit:])
        return line[:limit]

    def more(self) -> bool:
        """True if `readline` would not block for long."""
        while not self._lines and not self._ended:
            if not select.select([self._number], [], [], _PAUSE_SECONDS)[0]:
                return False
            self._receive()
        return True

    def _receive(self) -> None:
        data = os.read(self._number, _RECEIVED)
        self._ended = not data
        *lines, rest = data.split(b"\n")
        if lines:
            self._lines.append(b"".join([*self._begun, lines[0], b"\n"]))
            self._lines.extend(line + b"\n" for line in lines[1:])
            self._begun, self._begun_size = [], 0
        self._begun.append(rest)
        self._begun_size += len(rest)
        if self._begun_size and (self._ended or self._begun_size >= _LONGEST_LINE):
            self._lines.append(b"".join(self._begun))
            self._begun, self._begun_size = [], 0


def same_file(one: Path, other: Path) -> bool:
    """True for two paths to the same regular file; a path to a member of an archive is one to the archive."""
    from seq2seq.data.archives import file_on_disk

    one, other = file_on_disk(one), file_on_disk(other)
    return one.is_file() and other.is_file() and one.samefile(other)


def check_stdin(files: Iterable[Path | None]) -> None:
    """Raise `UsageError` if several of the files are standard input, whose lines they would share."""
    if sum(str(file) == "-" for file in files) > 1:
        raise UsageError(
            "standard input is one text, and - stands for it twice", hint="name a file", code="usage.same-file"
        )


def check_output(
    output: Path | None,
    inputs: Iterable[Path | None] = (),
    runs: Iterable[Path | None] = (),
    *,
    option: str = "-o",
) -> None:
    """Raise `UsageError` if the output is an input, a file or a corpus of a run, a folder, or named as compressed.

    Args:
        output: the file to write; None and `-` are standard output.
        inputs: the files to read.
        runs: the run directories and exports to read.
        option: option that names the output; empty for an argument.
    """
    from seq2seq.data.files import is_compressed
    from seq2seq.runs.directory import run_of_file

    if output is None or str(output) == "-":
        return
    by = option and f" with {option}"
    if any(file is not None and same_file(file, output) for file in inputs):
        raise UsageError(
            f"{output} is the input: its text would be lost",
            hint=f"choose another file{by}",
            code="usage.same-file",
        )
    if output.is_dir():
        raise UsageError(f"cannot write {output}: it is a folder", hint=f"choose a file{by}", code="usage.unwritable")
    if is_compressed(output) and (output.is_file() or not output.exists()):
        raise UsageError(
            f"cannot write {output}: outputs are not compressed",
            hint=f"choose {output.with_suffix('')}{by} and compress it afterwards",
            code="usage.unwritable",
        )
    if run := run_of_file(output):
        raise UsageError(
            f"{output} is a file of the run {run}, which would be damaged",
            hint=f"choose another file{by}",
            code="usage.same-file",
        )
    if output.is_file() and (run := next((run for run in runs if run is not None and _reads(run, output)), None)):
        raise UsageError(
            f"{output} is a corpus of the run {run}: its text would be lost",
            hint=f"choose another file{by}",
            code="usage.same-file",
        )


def _reads(run: Path, file: Path) -> bool:
    """True for a corpus in the config of a run or of an export; a damaged config, told when it is loaded, has none."""
    from seq2seq.config import load_config
    from seq2seq.runs.corpus_files import corpus_files, folder_of_corpora

    configs = [path for name in ("config.yaml", "settings.yaml") if (path := run / name).is_file()]
    with suppress(UserError, OSError), muted():
        config = load_config(configs[:1])
        folder = folder_of_corpora(run, config)
        return any(same_file(folder / name, file) for name in corpus_files(config))
    return False


def check_prefix(output: str, option: str) -> None:
    """Raise `UsageError` if files named OUTPUT.SUFFIX cannot be written: an empty name, or a missing folder."""
    path = Path(output)
    if output in ("", "-") or output.endswith("/"):
        what, hint = f"{option} {shlex.quote(output)} is no name that files can begin with", f"{option} clean"
    elif path.is_dir():
        what, hint = f"{output} is a folder", f"{option} {shlex.quote(str(path / 'clean'))}"
    elif not path.parent.is_dir():
        what, hint = f"there is no folder {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}"
    else:
        return
    raise UsageError(what, where=option, hint=hint, code="usage.unwritable")


def unwrapped(lines: Iterable[str]) -> Iterator[str]:
    """The paragraphs of hard-wrapped text: consecutive lines joined by spaces. Blank lines are kept."""
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line.strip())
            continue
        if paragraph:
            yield " ".join(paragraph)
        paragraph = []
        yield line
    if paragraph:
        yield " ".join(paragraph)


def with_prefixes(lines: Iterable[str], name: str, path: Path | None) -> Iterator[Line]:
    """The lines of `name`, each with the beginning of its translation from the file at `path`, if there is one.

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
                f"{path} has {counted(number - 1, 'line')}, {name} has more",
                where=f"{name}:{number}",
                hint="one prefix a line, an empty line for none",
                code="data.line-counts",
            )
        yield Line(line, prefix)
    if next(prefixes, None) is not None:
        raise DataError(
            f"{name} has {counted(number, 'line')}, {path} has more",
            where=f"{path}:{number + 1}",
            hint="one prefix a line, an empty line for none",
            code="data.line-counts",
        )


class PairText(NamedTuple):
    """Source of pairs of lines: a file or standard input, with their translations."""

    source: Path | None
    """None is standard input."""
    target: Path | None
    """None for the model's own translations."""
    errors: DecodingErrors

    def chunks(self, loaded: LoadedRun, target_tag: str | None, size: int) -> Iterator[list[Pair]]:
        """Source lines, with their target tags, and their translations: up to about `size` pairs at a time.

        Raises:
            UsageError: as `TargetTags.add`.
            DataError: the two texts have different numbers of lines.
        """
        text = input_text(self.source, self.errors)
        lines = loaded.target_tags.add(text.lines, target_tag, "--target-tag")
        if self.target is None:
            for chunk in loaded.translator.stream_chunks(lines, more=text.more):
                yield [(translations[0].source.text, translations[0].text) for translations in chunk]
            return
        pairs = self._pairs(lines, self.target)
        while chunk_of_pairs := list(islice(pairs, size)):
            yield chunk_of_pairs

    def some(self, loaded: LoadedRun, target_tag: str | None, line: int, count: int) -> list[Pair]:
        """Up to `count` pairs from a line on, counted from 1. Other lines are not translated. Raises as `chunks`."""
        text = input_text(self.source, self.errors)
        lines = loaded.target_tags.add(text.lines, target_tag, "--target-tag")
        first, last = line - 1, line - 1 + count
        if self.target is None:
            chosen = list(islice(lines, first, last))
            pairs = list(zip(chosen, loaded.translator.translate(chosen), strict=True))
        else:
            pairs = list(islice(self._pairs(lines, self.target), first, last))
        if not pairs:
            raise UsageError(
                f"--line {line} is beyond the end of the text",
                hint="lines are counted from 1 to the end of the text",
                code="usage.picture",
            )
        return pairs

    def _pairs(self, sources: Iterable[str], target: Path) -> Iterator[Pair]:
        from seq2seq.data.files import paired
        from seq2seq.data.formats import read_text

        translations = read_text(target, self.errors, option=REPLACE)
        return paired(sources, translations, (str(self.source or "stdin"), str(target)))
