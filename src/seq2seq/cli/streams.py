"""Lines in, lines out: input as it comes, output that appears whole and can be taken up again after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError, DataError, UsageError
from seq2seq.files import disk_error, write_json

if TYPE_CHECKING:
    from seq2seq.data.lines import DecodingErrors
    from seq2seq.data.tokenizer import Tokenizer
    from seq2seq.inference.reading import Line

_FORMAT = 1
_LOCK_SECONDS = 3.0


def input_lines(file: Path | None, errors: DecodingErrors) -> Iterable[str]:
    """The lines of a file or of standard input; at a terminal those that a person types."""
    from seq2seq.data.lines import decode_lines, read_lines

    if file is not None and str(file) != "-":
        return read_lines(file, errors)
    if sys.stdin.isatty():
        return _prompt()
    return decode_lines(sys.stdin.buffer, "stdin", errors)


def _prompt() -> Iterator[str]:
    """Lines typed at a terminal, until the end of input."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def tagged(lines: Iterable[str], tag: str, tokenizer: Tokenizer) -> Iterable[str]:
    """The lines with a target tag before each, as in training.

    Raises:
        UsageError: the run knows no such tag.
    """
    from seq2seq.data.corpus import add_tag, tag_symbol

    symbol = tag_symbol(tag)
    if symbol not in (known := tokenizer.tags):
        raise UsageError(
            f"the run knows no target tag {tag}",
            where="--target-tag",
            hint=f"its tags: {tag_names(known)}" if known else "it was trained without target_tag: leave it out",
        )
    return (add_tag(line, symbol) for line in lines)


def tag_names(tags: Iterable[str]) -> str:
    """The languages of such symbols as `<2de>`."""
    return ", ".join(tag.removeprefix("<2").removesuffix(">") for tag in tags)


def same_file(one: Path, other: Path) -> bool:
    """Whether both names are those of one ordinary file."""
    return one.is_file() and other.is_file() and one.samefile(other)


def is_complete(output: Path) -> bool:
    """Whether a translation has been finished there, and none is under way."""
    return output.is_file() and not _partial(output).exists()


def with_prefixes(lines: Iterable[str], name: str, path: Path | None) -> Iterator[Line]:
    """The lines of `name`, each with the line of the file that its translation begins with, where there is one.

    Raises:
        DataError: one of the two has more lines.
    """
    from seq2seq.data.lines import read_lines
    from seq2seq.inference.reading import Line

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
            )
        yield Line(line, prefix)
    if next(prefixes, None) is not None:
        raise DataError(
            f"{name} has {number:,} lines, {path} has more",
            where=f"{path}:{number + 1}",
            hint="one prefix a line, an empty line for none",
        )


class Feed:
    """Lines that are handed on, and kept until they are done."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._under_way: deque[Line] = deque()

    def __iter__(self) -> Iterator[Line]:
        for line in self._lines:
            self._under_way.append(line)
            yield line

    def done(self, count: int) -> list[Line]:
        """The first `count` lines that were under way."""
        return [self._under_way.popleft() for _ in range(count)]

    def skip(self, count: int) -> list[Line]:
        """The next `count` lines, fewer where there are no more; they are not handed on."""
        return [line for _, line in zip(range(count), self._lines, strict=False)]


class Output:
    """Where translations go. What is committed stays, whatever happens."""

    lines = 0
    """Input lines whose translations are here from an earlier time."""
    notes: Mapping[str, int] = {}
    """Counts that were kept with them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, done: Iterable[Line], notes: Mapping[str, int]) -> None:
        """The translations of the lines that are `done`, with the counts so far."""
        self._stream.write(text)
        self._stream.flush()

    def check(self, feed: Feed) -> None:
        """Pass over the lines whose translations are here. Raises `DataError` where they are others."""


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


class _FileOutput(Output):
    """A file that grows under another name, and a record of what has been done."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)
        self.partial = _partial(path)
        self.record = path.with_name(f".partial-{path.name}.json")
        self._digest = hashlib.sha256()
        self._expected = ""
        self.file = self._locked()

    def _locked(self) -> BinaryIO:
        """The partial file, for this process alone."""
        # The workers of a killed process hold the lock for an instant more.
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                file = self.partial.open("a+b")
            except OSError as error:
                raise disk_error(error, self.path, 0) from None
            if _lock(file):
                # Another process may have given the file its name meanwhile.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self.partial.stat()):
                        return file
            file.close()
            if time.monotonic() > until:
                hint = "wait for it, or choose another file with -o"
                raise UsageError(f"another process is writing {self.path}", hint=hint)
            time.sleep(0.05)

    def begin(self, resume: bool) -> None:
        """Go on from what was left, or begin anew."""
        size = self.partial.stat().st_size
        if resume and self.record.exists():
            size = self._take_up(size)
            say(f"{self.lines:,} lines of {self.path} are done already")
        else:
            if size or self.record.exists():
                warn(
                    f"{self.partial} was left by an interrupted translation and is replaced (--resume goes on with it)"
                )
            elif resume:
                say(f"nothing to resume: {self.path} is written from the beginning")
            self.record.unlink(missing_ok=True)
            size = 0
        self.file.truncate(size)

    def _take_up(self, size: int) -> int:
        """Read the record; returns the length of what it vouches for."""
        anew = "leave out --resume to begin anew"
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            before, lines, length = dict(record["identity"]), int(record["lines"]), int(record["bytes"])
            self._expected, self.notes = str(record["input"]), {key: int(n) for key, n in record["notes"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{self.record} is damaged", hint=anew) from None
        if changes := [
            f"{key}: {before.get(key)} -> {self.identity.get(key)}"
            for key in dict.fromkeys([*before, *self.identity])
            if before.get(key) != self.identity.get(key)
        ]:
            raise UsageError(
                f"{self.path} was begun otherwise: {'; '.join(changes)}", where="--resume", hint=f"as before, or {anew}"
            )
        if size < length:
            raise CheckpointError(f"{self.partial} is shorter than {self.record} says", hint=anew)
        self.lines = lines
        return length

    def check(self, feed: Feed) -> None:
        """See `Output`."""
        left = self.lines
        while left:
            some = feed.skip(min(left, 10_000))
            if not some:
                raise DataError(
                    f"the input has {self.lines - left:,} lines, and {self.lines:,} were translated already",
                    where="--resume",
                    hint="give the same input again, or leave out --resume to begin anew",
                )
            self._count(some)
            left -= len(some)
        if self.lines and self._digest.hexdigest() != self._expected:
            raise DataError(
                f"the first {self.lines:,} lines of the input are not those that were translated",
                where="--resume",
                hint="give the same input again, or leave out --resume to begin anew",
            )

    def _count(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._digest.update(f"{line.text}\n{line.prefix}\n".encode("utf-8", "surrogatepass"))

    def write(self, text: str, done: Iterable[Line], notes: Mapping[str, int]) -> None:
        """See `Output`."""
        finished = list(done)
        self._count(finished)
        self.lines += len(finished)
        try:
            self.file.write(text.encode("utf-8"))
            self.file.flush()
            os.fsync(self.file.fileno())
            length = self.file.tell()
        except OSError as error:
            raise disk_error(error, self.path, len(text)) from None
        write_json(
            self.record,
            {
                "format": _FORMAT,
                "identity": self.identity,
                "input": self._digest.hexdigest(),
                "lines": self.lines,
                "bytes": length,
                "notes": dict(notes),
            },
        )

    def finish(self) -> None:
        """Give the file its name."""
        self.partial.replace(self.path)
        self.record.unlink(missing_ok=True)

    def leave(self) -> None:
        """Keep what is worth keeping for another time."""
        if self.record.exists():
            say(f"{self.lines:,} lines are kept; the same command with --resume goes on from there")
            return
        self.partial.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def open_output(path: Path | None, identity: Mapping[str, Any], *, resume: bool) -> Iterator[Output]:
    """Standard output, or a file that appears whole at the end; `identity` is what must be equal to resume it.

    Raises:
        UsageError: the file cannot be written, or was begun with another identity.
        CheckpointError: what was left is damaged.
        ResourceError: the disk is full.
    """
    if path is None or str(path) == "-":
        yield Output(sys.stdout)
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="choose a file with -o")
    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            yield Output(stream)
        return
    output = _FileOutput(path, identity)
    with output.file:
        output.begin(resume)
        try:
            yield output
        except BaseException:
            with suppress(OSError):
                output.leave()
            raise
        output.finish()
