"""Output of lines: to a stream, or to a file that appears when it is complete and can be resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

from seq2seq.atomic_files import disk_errors, no_follow, try_lock
from seq2seq.console import counted, say, warn
from seq2seq.errors import DataError, UsageError
from seq2seq.failpoints import reach
from seq2seq.signals import Stop

if TYPE_CHECKING:
    from seq2seq.decoding.text_batches import Line

_FORMAT = 2
_LOCK_SECONDS = 3.0


def is_begun(output: Path) -> bool:
    """Whether an interrupted command has left a part of the output that can be resumed."""
    return _record(output).exists()


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


def partial_file(path: Path) -> Path:
    """The file that an unfinished output is written to."""
    return path.with_name(f".partial-{path.name}")


def _record(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}.json")


class _Step(NamedTuple):
    """An entry of the record: the state after some input lines were translated."""

    lines: int
    bytes: int
    input: str
    """SHA-256 of the input lines so far."""
    output: str
    """SHA-256 of the output so far."""
    counts: dict[str, int]


class _Record(NamedTuple):
    """The undamaged entries of a record: first the options of the command, then a `_Step` each."""

    identity: dict[str, Any] | None
    """None if the record is damaged from its beginning, or was written by another version."""
    steps: list[_Step]
    ends: list[int]
    """Ends of the entries in the file, in bytes; the first entry holds the options."""
    damaged: bool
    """True if anything but a torn last line follows the undamaged entries."""


def _entry(content: Any) -> bytes:
    """A line of the record: JSON with its SHA-256, since a changed number would still be valid JSON."""
    text = json.dumps(content)
    return (json.dumps({"entry": content, "sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n").encode()


def _read_record(path: Path) -> _Record:
    identity: dict[str, Any] | None = None
    steps: list[_Step] = []
    ends: list[int] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            content = json.loads(line)["entry"]
            if line != _entry(content):
                break
            if identity is not None:
                done, size, source, written, counts = content
                counts = {str(key): int(count) for key, count in counts.items()}
                steps.append(_Step(int(done), int(size), str(source), str(written), counts))
            elif content["format"] == _FORMAT:
                identity = dict(content["identity"])
            else:
                break
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            break
        ends.append((ends[-1] if ends else 0) + len(line))
    # A kill may tear the last line.
    rest = lines[len(ends) :]
    return _Record(identity, steps, ends, identity is None or (bool(rest) and rest[-1].endswith(b"\n")))


class _FileOutput(Output):
    """Output to a file that is written under another name, with a record of its progress.

    Without an identity there is no record: the output cannot be resumed, and an unfinished file is removed.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None, resumes_itself: bool) -> None:
        self.path = path
        self._resumes_itself = resumes_itself
        self._where = str(path) if resumes_itself else "--resume"
        self._start_again = "choose another name with -o" if resumes_itself else "leave out --resume to start again"
        self.identity = None if identity is None else json.loads(json.dumps(dict(identity)))
        self.partial = partial_file(path)
        self.record = _record(path)
        self._input, self._output = hashlib.sha256(), hashlib.sha256()
        self._expected = ""
        self._header = _entry({"format": _FORMAT, "identity": self.identity})
        with disk_errors(path):
            self.file = self._locked()

    def _locked(self) -> BinaryIO:
        """The partial file, locked by this process."""
        # The workers of a killed process hold the lock for a moment longer.
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            file = open(self.partial, "a+b", opener=no_follow)  # noqa: SIM115
            if try_lock(file):
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
        step = None
        if resume and self.record.exists():
            step = self._resume()
        elif resume:
            say(f"nothing to resume: {self.path} is written from the beginning")
        elif self.identity is not None and (self.partial.stat().st_size or self.record.exists()):
            warn(f"{self.partial} was left by an interrupted translation and is replaced (--resume continues it)")
        if step is None:
            self.record.unlink(missing_ok=True)
            self.file.truncate(0)
            return
        self.lines, self.counts, self._expected = step.lines, step.counts, step.input
        self._header = b""
        self.file.truncate(step.bytes)
        self.file.seek(0, os.SEEK_END)
        say(f"{self.lines:,} lines of {self.path} are already translated")

    def _resume(self) -> _Step | None:
        """Shorten the record to its intact steps, whose output is intact, too; return the last of them, or None."""
        record = _read_record(self.record)
        if record.identity is not None:
            from seq2seq.config.differences import require_same_options

            what = f"{self.path} was started"
            require_same_options(
                record.identity, self.identity or {}, what=what, where=self._where, otherwise=self._start_again
            )
        last: _Step | None = None
        self.file.seek(0)
        count = 0
        for step in record.steps:
            digest = self._output.copy()
            digest.update(self.file.read(step.bytes - (last.bytes if last else 0)))
            if digest.hexdigest() != step.output:
                break
            last, self._output, count = step, digest, count + 1
        if record.damaged or count < len(record.steps):
            lines = f"all but its first {last.lines:,} lines are" if last else "all of it is"
            warn(f"the unfinished {self.path} is damaged ({self.partial} or its .json): {lines} translated again")
        if last is not None:
            os.truncate(self.record, record.ends[count])
        return last

    def skip_translated(self, lines: Iterator[Line]) -> None:
        """See `Output`."""
        left = self.lines
        while left:
            skipped = list(islice(lines, min(left, 10_000)))
            if not skipped:
                raise DataError(
                    f"the input has {counted(self.lines - left, 'line')}, but {self.lines:,} were translated already",
                    where=self._where,
                    hint=f"give the same input again, or {self._start_again}",
                    code="data.resume",
                )
            self._add_to_digest(skipped)
            left -= len(skipped)
        if self.lines and self._input.hexdigest() != self._expected:
            raise DataError(
                f"the first {self.lines:,} lines of the input are not those that were translated",
                where=self._where,
                hint=f"give the same input again, or {self._start_again}",
                code="data.resume",
            )

    def _add_to_digest(self, lines: Sequence[Line]) -> None:
        text = "".join(f"{line.text}\n{line.prefix}\n" for line in lines)
        self._input.update(text.encode("utf-8", "surrogatepass"))

    def write(self, text: str, lines: Sequence[Line], counts: Mapping[str, int]) -> None:
        """See `Output`."""
        self._add_to_digest(lines)
        self.lines += len(lines)
        content = text.encode("utf-8")
        self._output.update(content)
        with disk_errors(self.path, len(content), self.file):
            _write_durably(self.file, content)
        if self.identity is None:
            return
        reach("output.record")
        state = (self._input.hexdigest(), self._output.hexdigest(), dict(counts))
        entry = self._header + _entry(_Step(self.lines, self.file.tell(), *state))
        with disk_errors(self.record, len(entry)), open(self.record, "a+b", opener=no_follow) as record:
            _write_durably(record, entry)
        self._header = b""

    def finish(self) -> None:
        """Rename the complete file to its name, with the permissions of the file that it replaces."""
        with suppress(FileNotFoundError):
            shutil.copymode(self.path, self.partial)
        self.partial.replace(self.path)
        self.record.unlink(missing_ok=True)

    def interrupt(self) -> str:
        """See `Output`."""
        # The record decides: the interruption may have come after lines were written and before their entry.
        steps = _read_record(self.record).steps if self.record.exists() else []
        if not steps:
            self.partial.unlink(missing_ok=True)
            self.record.unlink(missing_ok=True)
            return f"nothing is written to {self.path}"
        self.kept = steps[-1].lines
        again = "the same command" if self._resumes_itself else "the same command with --resume"
        return f"{self.kept:,} lines are kept; {again} goes on from there"


def _write_durably(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def open_output(
    path: Path | None, identity: Mapping[str, Any] | None, *, resume: bool = False, resumes_itself: bool = False
) -> Iterator[Output]:
    """Standard output, or a file that appears when it is complete.

    Args:
        path: the file; None or `-` is standard output.
        identity: options that must be equal to resume the file; None if it cannot be resumed.
        resume: continue an interrupted file.
        resumes_itself: whether the command always does that, without an option; for messages.

    Raises:
        UsageError: the file cannot be written, or was started with other options.
        ResourceError: the disk is full.
    """
    if path is None or str(path) == "-":
        require_stdout()
        with _interruptible(Output(sys.stdout)) as stdout:
            yield stdout
        return
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", hint="choose a file with -o", code="usage.unwritable")
    if path.exists() and not path.is_file():  # /dev/null, a named pipe
        with path.open("w", encoding="utf-8", newline="\n") as file, _interruptible(Output(file)) as special:
            yield special
        return
    output = _FileOutput(path, identity, resumes_itself)
    with output.file:
        output.begin(resume)
        with _interruptible(output):
            yield output
        output.finish()


def require_stdout() -> None:
    """Raise `UsageError` if standard output was closed when the process began: results would be lost."""
    if sys.__stdout__ is None:
        raise UsageError("standard output is closed", hint="add > FILE", code="usage.unwritable")


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
