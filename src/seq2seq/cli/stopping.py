"""Signals that end a command which has nothing to finish: it says so, and ends with 128 + N."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from seq2seq.console import tell


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the work as Ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block at once, and that is told.

    Raises:
        typer.Exit: one of them came; 130 or 143.
    """
    process = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that has just been forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise _Terminated

    # What somebody else attends to, or ignores, stays theirs.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        raise told(stop, "") from None
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def told(stop: KeyboardInterrupt, left: str) -> typer.Exit:
    """Tell the user why the work ends and what is left of it; how the program ends then."""
    number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
    tell(f"stopped by {number.name}" + (f", {left}" if left else ""))
    return typer.Exit(128 + number)
