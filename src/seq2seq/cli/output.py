"""Where lines go: a file that appears whole, and can be taken up again after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from seq2seq.atomic_files import disk_error, write_json
from seq2seq.cli.input import REPLACE, Feed
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError, DataError, UsageError
from seq2seq.signals import Stop

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors
    from seq2seq.decoding.text_batches import Line

_FORMAT = 1
_LOCK_SECONDS = 3.0


def is_finished(output: Path, source: Path | None, errors: DecodingErrors, rows: int) -> bool:
    """Whether a translation of `source` stands there whole, `rows` lines for each of its, and none is under way.

    Standard input is not looked at. Raises `UsageError` where the output has another number of lines.
    """
    if not output.is_file() or _partial(output).exists():
        return False
    if source is not None and str(source) != "-":
        from seq2seq.data.files import read_lines

        wanted = rows * sum(1 for _ in read_lines(source, errors, option=REPLACE))
        with output.open("rb") as file:
            found = sum(1 for _ in file)
        if found != wanted:
            raise UsageError(
                f"{output} is complete with {found:,} lines, but {source} with these options makes {wanted:,}",
                where="--resume",
                hint="leave out --resume to replace it, or choose another file with -o",
                code="usage.resume",
            )
    return True


class Output:
    """Where translations go. What is committed stays, whatever happens."""

    lines = 0
    """Input lines whose translations are here from an earlier time."""
    notes: Mapping[str, int] = {}
    """Counts that were kept with them."""
    kept = 0
    """Lines that `--resume` will find, once the work was ended early."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written = 0

    def write(self, text: str, done: Iterable[Line], notes: Mapping[str, int]) -> None:
        """The translations of the lines that are `done`, with the counts so far."""
        self._stream.write(text)
        self._stream.flush()
        self._written += len(list(done))

    def check(self, feed: Feed) -> None:
        """Pass over the lines whose translations are here. Raises `DataError` where they are others."""

    def leave(self) -> str:
        """Put away what is unfinished; returns what is left of it, for people."""
        return f"{self._written:,} lines are written" if self._written else ""


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


class _FileOutput(Output):
    """A file that grows under another name, and a record of what has been done.

    Without an identity nothing is recorded: it cannot be taken up again, and what is unfinished is removed.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None) -> None:
        self.path = path
        self.identity = None if identity is None else dict(identity)
        self.partial = _partial(path)
        self.record = path.with_name(f".partial-{path.name}.json")
        self._digest = hashlib.sha256()
        self._expected = ""
        try:
            self.file = self._locked()
        except OSError as error:
            raise disk_error(error, path, 0) from None

    def _locked(self) -> BinaryIO:
        """The partial file, for this process alone."""
        # The workers of a killed process hold the lock for an instant more.
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            file = self.partial.open("a+b")
            if _lock(file):
                # Another process may have given the file its name meanwhile.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self.partial.stat()):
                        return file
            file.close()
            if time.monotonic() > until:
                hint = "wait for it, or choose another file with -o"
                raise UsageError(f"another process is writing {self.path}", hint=hint, code="usage.in-use")
            time.sleep(0.05)

    def begin(self, resume: bool) -> None:
        """Go on from what was left, or begin anew."""
        size = self.partial.stat().st_size
        if resume and self.record.exists():
            size = self._take_up(size)
            say(f"{self.lines:,} lines of {self.path} are done already")
        else:
            if self.identity is not None and (size or self.record.exists()):
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
            raise CheckpointError(f"{self.record} is damaged", hint=anew, code="run.damaged") from None
        now = self.identity or {}
        if changes := [
            f"{key}: {before.get(key)} -> {now.get(key)}"
            for key in dict.fromkeys([*before, *now])
            if before.get(key) != now.get(key)
        ]:
            raise UsageError(
                f"{self.path} was begun otherwise: {'; '.join(changes)}",
                where="--resume",
                hint=f"as before, or {anew}",
                code="usage.resume",
            )
        if size < length:
            raise CheckpointError(f"{self.partial} is shorter than {self.record} says", hint=anew, code="run.damaged")
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
                    code="data.resume",
                )
            self._count(some)
            left -= len(some)
        if self.lines and self._digest.hexdigest() != self._expected:
            raise DataError(
                f"the first {self.lines:,} lines of the input are not those that were translated",
                where="--resume",
                hint="give the same input again, or leave out --resume to begin anew",
                code="data.resume",
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
        if self.identity is None:
            return
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

    def leave(self) -> str:
        """See `Output`. What is worth keeping is kept for another time."""
        if not self.record.exists():
            self.partial.unlink(missing_ok=True)
            return f"nothing is written to {self.path}"
        # The record knows best: the work may have ended in the middle of writing it, or the lines.
        self.kept = int(json.loads(self.record.read_text(encoding="utf-8"))["lines"])
        return f"{self.kept:,} lines are kept; the same command with --resume goes on from there"


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
def open_output(path: Path | None, identity: Mapping[str, Any] | None, *, resume: bool = False) -> Iterator[Output]:
    """Standard output, or a file that appears whole at the end; `identity` is what must be equal to resume it, None
    where it cannot be resumed.

    Raises:
        UsageError: the file cannot be written, or was begun with another identity.
        CheckpointError: what was left is damaged.
        ResourceError: the disk is full.
    """
    if path is None or str(path) == "-":
        with _put_away(Output(sys.stdout)) as stdout:
            yield stdout
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="choose a file with -o", code="usage.unwritable")
    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        with path.open("w", encoding="utf-8", newline="\n") as file, _put_away(Output(file)) as special:
            yield special
        return
    output = _FileOutput(path, identity)
    with output.file:
        output.begin(resume)
        with _put_away(output):
            yield output
        output.finish()


@contextmanager
def _put_away(output: Output) -> Iterator[Output]:
    """Where the work is ended early, keep what is worth it, and say so."""
    try:
        yield output
    except BaseException as error:
        left = ""
        with suppress(OSError):
            left = output.leave()
        if isinstance(error, Stop):
            error.kept = left
        elif output.kept:
            say(left)
        raise
