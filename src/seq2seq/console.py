"""What the user sees while work goes on: lines, warnings, tables and progress, all on stderr.

Results go to stdout, which is the commands' affair. Bars appear on a terminal only; elsewhere a plain line at most
every 10 s.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TextIO

from seq2seq.redaction import redact

_PLAIN_INTERVAL_SECONDS = 10.0
_quiet = False
_log: TextIO | None = None


def set_quiet(quiet: bool) -> None:
    """Silence `say`, tables and progress; warnings stay."""
    global _quiet
    _quiet = quiet


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append all that is said to a file as well, and the traceback of an error that ends the work.

    A full disk there is told once and does not stop the work.
    """
    global _log
    try:
        _log = path.open("a", encoding="utf-8", errors="replace")
    except OSError as error:
        _stop_log(error)
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_code", 0) < 128:  # above: a signal, no fault
            record(traceback.format_exc().rstrip())
        raise
    finally:
        if _log is not None:
            with suppress(OSError):  # what a full disk left in the buffer
                _log.close()
            _log = None


def say(message: str) -> None:
    """One line of information."""
    record(message)
    if not _quiet:
        tell(message)


def warn(message: str) -> None:
    """Something that the user should know, though work goes on."""
    record(f"warning: {message}")
    tell(f"warning: {message}")


def prepare() -> None:
    """To be called before any signal may come: tqdm makes a lock at its first use, and stays broken if a signal
    interrupts that."""
    from tqdm import tqdm  # not at the top: its import would slow down --help

    tqdm.get_lock()  # type: ignore[no-untyped-call]


def mind_stderr() -> None:
    """Where the terminal has gone away, let what is said from now on go nowhere, rather than end the process."""
    if sys.stderr is None:
        return
    try:
        os.write(sys.stderr.fileno(), b"")
        sys.stderr.flush()
    except (OSError, ValueError):
        _silence_stderr()


def tell(message: str) -> None:
    """To stderr alone; where it takes nothing (a closed terminal, a full disk), nothing more is said."""
    from tqdm import tqdm

    try:
        tqdm.write(redact(message), file=sys.stderr)
    except OSError:
        _silence_stderr()


def _silence_stderr() -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def leave(code: int) -> NoReturn:
    """End this process at once, without taking anything down but the open streams.

    For ranks: torch's threads, gloo's above all, may abort the process (SIGABRT) when they are joined at its end.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def record(message: str) -> None:
    """One line for the log alone."""
    if _log is not None:
        try:
            _log.write(time.strftime("%Y-%m-%d %H:%M:%S ") + redact(message) + "\n")
            _log.flush()
        except OSError as error:
            _stop_log(error)


def _stop_log(error: OSError) -> None:
    global _log
    file, _log = _log, None
    if file is not None:
        with suppress(OSError):
            file.close()
    tell(f"warning: cannot write the log: {error.strerror}; work goes on without it")


def format_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned plain text: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


class Progress:
    """Counts units of work; shows a bar on a terminal, a plain line now and then elsewhere.

    `initial` units were done before.
    """

    def __init__(self, description: str, total: int | None, unit: str, *, initial: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._initial = initial
        self._started = self._shown = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not _quiet:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=description,
                unit=" " + unit,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
            )

    def update(self, count: int = 1) -> None:
        """Count more units as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown >= _PLAIN_INTERVAL_SECONDS:
            self._shown = time.monotonic()
            rate = (self.done - self._initial) / (self._shown - self._started)
            of_total = f"/{self.total:,}" if self.total else ""
            shown = f"{rate:,.0f}" if rate >= 9.5 else f"{rate:.2g}"
            say(f"{self.description}: {self.done:,}{of_total} {self.unit} ({shown}/s)")

    def note(self, text: str) -> None:
        """Show figures at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def timed(description: str) -> Iterator[None]:
    """Say when a longer piece of work is done and how long it took."""
    start = time.monotonic()
    yield
    say(f"{description} ({time.monotonic() - start:.1f} s)")
