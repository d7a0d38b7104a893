"""Output of lines: to a stream, or to a file that appears when it is complete and can be resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from seq2seq.atomic_files import disk_error, no_follow, write_json
from seq2seq.cli.input import REPLACE
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError, DataError, UsageError
from seq2seq.signals import Stop

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors
    from seq2seq.decoding.text_batches import Line

_FORMAT = 1
_LOCK_SECONDS = 3.0


def is_finished(output: Path, source: Path | None, errors: DecodingErrors, rows: int) -> bool:
    """Whether the output is complete, with `rows` lines for each line of the source, and no other one is in progress.

    Standard input is not counted. Raises `UsageError` if the output has another number of lines.
    """
    if not output.is_file() or _partial(output).exists():
        return False
    if source is not None and str(source) != "-":
        from seq2seq.data.files import read_lines

        expected = rows * sum(1 for _ in read_lines(source, errors, option=REPLACE))
        with output.open("rb") as file:
            count = sum(1 for _ in file)
        if count != expected:
            raise UsageError(
                f"{output} is complete with {count:,} lines, but {source} with these options makes {expected:,}",
                where="--resume",
                hint="leave out --resume to replace it, or choose another file with -o",
                code="usage.resume",
            )
    return True


class Output:
    """Output to a stream.

    Attributes:
        lines: number of input lines whose translations are in a resumed file.
        counts: the counts that were recorded with them.
        kept: number of lines that `--resume` will find after an interruption.
    """

    lines = 0
    counts: Mapping[str, int] = {}
    kept = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written = 0

    def write(self, text: str, lines: Sequence[Line], counts: Mapping[str, int]) -> None:
        """Write the translations of some input lines; `counts` are totals so far."""
        self._stream.write(text)
        self._stream.flush()
        self._written += len(lines)

    def skip_translated(self, lines: Iterator[Line]) -> None:
        """Skip the lines whose translations are in a resumed file. Raises `DataError` if these are other lines."""

    def interrupt(self) -> str:
        """End an unfinished output; returns a message about the part that is kept."""
        return f"{self._written:,} lines are written" if self._written else ""


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


class _FileOutput(Output):
    """Output to a file that is written under another name, with a record of its progress.

    Without an identity there is no record: the output cannot be resumed, and an unfinished file is removed.
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
        """The partial file, locked by this process."""
        # The workers of a killed process hold the lock for a moment longer.
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            file = open(self.partial, "a+b", opener=no_follow)  # noqa: SIM115
            if _lock(file):
                # Another process may have completed and renamed the file in the meantime.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self.partial.stat()):
                        return file
            file.close()
            if time.monotonic() > until:
                hint = "wait for it, or choose another file with -o"
                raise UsageError(f"another process is writing {self.path}", hint=hint, code="usage.in-use")
            time.sleep(0.05)

    def begin(self, resume: bool) -> None:
        """Resume the file, or start from the beginning."""
        size = self.partial.stat().st_size
        if resume and self.record.exists():
            size = self._resume(size)
            say(f"{self.lines:,} lines of {self.path} are already translated")
        else:
            if self.identity is not None and (size or self.record.exists()):
                warn(f"{self.partial} was left by an interrupted translation and is replaced (--resume continues it)")
            elif resume:
                say(f"nothing to resume: {self.path} is written from the beginning")
            self.record.unlink(missing_ok=True)
            size = 0
        self.file.truncate(size)

    def _resume(self, size: int) -> int:
        """Read the record; returns the recorded length of the file in bytes."""
        restart = "leave out --resume to start again"
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            before, lines, length = dict(record["identity"]), int(record["lines"]), int(record["bytes"])
            self._expected, self.counts = str(record["input"]), {key: int(n) for key, n in record["notes"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{self.record} is damaged", hint=restart, code="run.damaged") from None
        now = self.identity or {}
        if changes := [
            f"{key}: {before.get(key)} -> {now.get(key)}"
            for key in dict.fromkeys([*before, *now])
            if before.get(key) != now.get(key)
        ]:
            raise UsageError(
                f"{self.path} was started with different options: {'; '.join(changes)}",
                where="--resume",
                hint=f"use the same options, or {restart}",
                code="usage.resume",
            )
        if size < length:
            raise CheckpointError(
                f"{self.partial} is shorter than {self.record} says", hint=restart, code="run.damaged"
            )
        self.lines = lines
        return length

    def skip_translated(self, lines: Iterator[Line]) -> None:
        """See `Output`."""
        left = self.lines
        while left:
            skipped = list(islice(lines, min(left, 10_000)))
            if not skipped:
                raise DataError(
                    f"the input has {self.lines - left:,} lines, but {self.lines:,} were translated already",
                    where="--resume",
                    hint="give the same input again, or leave out --resume to start again",
                    code="data.resume",
                )
            self._add_to_digest(skipped)
            left -= len(skipped)
        if self.lines and self._digest.hexdigest() != self._expected:
            raise DataError(
                f"the first {self.lines:,} lines of the input are not those that were translated",
                where="--resume",
                hint="give the same input again, or leave out --resume to start again",
                code="data.resume",
            )

    def _add_to_digest(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._digest.update(f"{line.text}\n{line.prefix}\n".encode("utf-8", "surrogatepass"))

    def write(self, text: str, lines: Sequence[Line], counts: Mapping[str, int]) -> None:
        """See `Output`."""
        self._add_to_digest(lines)
        self.lines += len(lines)
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
                "notes": dict(counts),
            },
        )

    def finish(self) -> None:
        """Rename the complete file to its name."""
        self.partial.replace(self.path)
        self.record.unlink(missing_ok=True)

    def interrupt(self) -> str:
        """See `Output`."""
        if not self.record.exists():
            self.partial.unlink(missing_ok=True)
            return f"nothing is written to {self.path}"
        # The record counts: the interruption may have come between the lines and their record.
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
    """Standard output, or a file that appears when it is complete.

    Args:
        path: the file; None or `-` is standard output.
        identity: options that must be equal to resume the file; None if it cannot be resumed.
        resume: continue an interrupted file.

    Raises:
        UsageError: the file cannot be written, or was started with other options.
        CheckpointError: the interrupted file or its record is damaged.
        ResourceError: the disk is full.
    """
    if path is None or str(path) == "-":
        with _interruptible(Output(sys.stdout)) as stdout:
            yield stdout
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="choose a file with -o", code="usage.unwritable")
    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        with path.open("w", encoding="utf-8", newline="\n") as file, _interruptible(Output(file)) as special:
            yield special
        return
    output = _FileOutput(path, identity)
    with output.file:
        output.begin(resume)
        with _interruptible(output):
            yield output
        output.finish()


@contextmanager
def _interruptible(output: Output) -> Iterator[Output]:
    """On an error or a signal, end the output and report what is left of it."""
    try:
        yield output
    except BaseException as error:
        left = ""
        with suppress(OSError):
            left = output.interrupt()
        if isinstance(error, Stop):
            error.kept = left
        elif output.kept:
            say(left)
        raise
