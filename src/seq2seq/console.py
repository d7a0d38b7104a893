"""Console output on stderr: messages, warnings, tables and progress bars, with control characters escaped.

Results go to stdout and are printed by the commands. Bars appear on a terminal only; elsewhere a plain line at most
every 10 s.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, TextIO, TypeVar

from seq2seq.atomic_files import no_follow
from seq2seq.failpoints import reach
from seq2seq.sanitize import presentable

Item = TypeVar("Item")


class Message(NamedTuple):
    """A message that is not printed yet."""

    text: str
    is_warning: bool


_PLAIN_SECONDS, _PLAIN_SHARE = 10.0, 0.02
"""Time between plain lines of progress: at least these seconds, and this share of the time since the start."""
_quiet = False
_muted = False
_log: TextIO | None = None
_shown: set[str] = set()
_kept: list[Message] | None = None


def set_quiet(quiet: bool) -> None:
    """Silence `say`, tables and progress; warnings stay."""
    global _quiet
    _quiet = quiet


@contextmanager
def muted() -> Iterator[None]:
    """Context in which messages and warnings go to the log alone; bars are still shown."""
    global _muted
    before, _muted = _muted, True
    try:
        yield
    finally:
        _muted = before


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Context that also appends all messages to a file, and the traceback of an error that ends the work.

    If the disk is full, one warning is given and the work continues.
    """
    global _log
    try:
        _log = open(path, "a", encoding="utf-8", errors="replace", opener=no_follow)  # noqa: SIM115
    except OSError as error:
        _stop_log(error)
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_code", 0) < 128:  # from 128 on it is a signal
            log_only(traceback.format_exc().rstrip())
        raise
    finally:
        if _log is not None:
            with suppress(OSError):  # a full disk
                _log.close()
            _log = None


def say(message: str) -> None:
    """Print and log one line of information."""
    if _kept is not None:
        _kept.append(Message(message, is_warning=False))
        return
    log_only(message)
    if not _quiet and not _muted:
        write_stderr(message)


def warn(message: str) -> None:
    """Print and log a warning."""
    if _kept is not None:
        _kept.append(Message(message, is_warning=True))
        return
    log_only(f"warning: {message}")
    if not _muted:
        write_stderr(f"warning: {message}")


def keep_messages() -> None:
    """From now on keep the messages of this process, for `kept_messages`.

    A worker process does not print: it would take the lock of its parent's bars, and keep it where it is killed.
    """
    global _kept
    _kept = []


def kept_messages() -> list[Message]:
    """The messages since the last call."""
    found = _kept or []
    keep_messages()
    return found


def tell(messages: Iterable[Message]) -> None:
    """Print messages that another process has kept."""
    for message in messages:
        (warn if message.is_warning else say)(message.text)


def say_once(message: str) -> None:
    """`say` a message the first time; repeats, as from every reading of a corpus, go to the log alone."""
    with muted() if message in _shown else nullcontext():
        say(message)
    _shown.add(message)


def warn_once(message: str) -> None:
    """`warn` the first time; repeats go to the log alone."""
    with muted() if message in _shown else nullcontext():
        warn(message)
    _shown.add(message)


def create_lock() -> None:
    """Create tqdm's lock, before any signal can interrupt its creation at the first use and leave it broken."""
    from tqdm import tqdm  # not at the top: its import would slow down --help

    tqdm.get_lock()  # type: ignore[no-untyped-call]


def silence_if_stderr_is_gone() -> None:
    """If the terminal is gone, discard further messages rather than end the process."""
    if sys.stderr is None:
        return
    try:
        os.write(sys.stderr.fileno(), b"")
        sys.stderr.flush()
    except (OSError, ValueError):
        _silence_stderr()


def write_stderr(message: str) -> None:
    """Write one line to stderr; after an error (a closed terminal, a full disk) further messages are discarded."""
    from tqdm import tqdm

    try:
        tqdm.write(presentable(message), file=sys.stderr)
    except OSError:
        _silence_stderr()


def _silence_stderr() -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def exit_now(code: int) -> NoReturn:
    """Flush the open streams and end this process at once.

    For ranks: joining torch's and gloo's threads at exit may abort the process (SIGABRT).
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def log_only(message: str) -> None:
    """Write one line to the log only."""
    if _log is not None:
        try:
            reach("log.write")
            _log.write(time.strftime("%Y-%m-%d %H:%M:%S ") + presentable(message) + "\n")
            _log.flush()
        except OSError as error:
            _stop_log(error)


def _stop_log(error: OSError) -> None:
    global _log
    file, _log = _log, None
    if file is not None:
        with suppress(OSError):
            file.close()
    write_stderr(f"warning: cannot write the log: {error.strerror}; work continues without it")


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 step`, `2,000 steps`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def format_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned plain text: the first column left-aligned, the others right-aligned."""
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


def duration(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 1.0:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90.0:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400.0 else f"{seconds / 3600:.1f} h"


class Progress:
    """Progress of counted work: a bar on a terminal, elsewhere a plain line from time to time.

    `initial` units were done by an earlier process. The bar of work that is done within `delay` seconds is not shown.
    """

    def __init__(self, description: str, total: int | None, unit: str, *, initial: int = 0, delay: float = 0.0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._initial = initial
        self._started = self._shown = time.monotonic()
        self._note = ""
        self._bar = None
        if sys.stderr.isatty() and not _quiet:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=presentable(description),
                unit=" " + unit,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
                delay=delay,
            )

    def update(self, count: int = 1) -> None:
        """Add finished units."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown >= max(_PLAIN_SECONDS, _PLAIN_SHARE * (self._shown - self._started)):
            self._shown = time.monotonic()
            rate = (self.done - self._initial) / (self._shown - self._started)
            of_total = f"/{self.total:,}" if self.total else ""
            shown = f"{rate:,.0f}" if rate >= 9.5 else f"{rate:.2g}"
            left = (
                f", {duration((self.total - self.done) / rate)} left"
                if rate and self.total and self.total > self.done
                else ""
            )
            say(f"{self.description}: {self.done:,}{of_total} {self.unit} ({shown}/s{left}){self._note}")

    def over(self, items: Iterable[Item], every: int = 1000) -> Iterator[Item]:
        """The items; each `every` of them are counted as finished when the next one is asked for."""
        for number, item in enumerate(items, start=1):
            yield item
            if number % every == 0:
                self.update(every)

    def expect(self, total: int) -> None:
        """Change the total."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total

    def note(self, text: str) -> None:
        """Show figures at the end of the bar, or of the next line."""
        self._note = f"  {text}"
        if self._bar is not None:
            self._bar.set_postfix_str(presentable(text), refresh=False)

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
    """Context that reports how long the work took."""
    start = time.monotonic()
    yield
    say(f"{description} ({time.monotonic() - start:.1f} s)")
