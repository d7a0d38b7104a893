"""Stopping signals; the process ends with exit code 128 + N.

Training finishes the current step and saves its state (`StopRequest`). Data preparation and translation have nothing to
finish: `interruptible` ends them at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

Result = TypeVar("Result")

STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""The signals that stop a command."""


def handled_signals() -> list[int]:
    """`STOPPING_SIGNALS` without those that the parent process set to be ignored, as `nohup` does with SIGHUP."""
    return [number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class Interrupted(Exception):  # noqa: N818  not an error
    """A signal stopped the work.

    Attributes:
        number: the signal.
        kept: what was saved, for the message.
        exit_code: 128 + number.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = number, kept
        self.exit_code = 128 + number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}" + (f", {self.kept}" if self.kept else "")


class Stop(BaseException):
    """Raised by a signal handler to unwind to `interruptible` or `StopRequest.unless_stopped`.

    Attributes:
        request: the request whose handler raised it.
        kept: what was saved, for the message; code that it passes through may set it.
    """

    def __init__(self, request: StopRequest) -> None:
        super().__init__()
        self.request, self.kept = request, ""


class StopRequest:
    """Context that records the first stopping signal instead of ending the process; a second Ctrl-C ends it at once.

    Processes forked within it leave signals to their parent; those forked in `unless_stopped` end.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False
        self._process = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in handled_signals():
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._before and self.number is not None and kind is None:
            os.kill(os.getpid(), self.number)  # not handled yet: re-deliver it to the previous handler

    def unless_stopped(self, work: Callable[[], Result]) -> Result | None:
        """Result of `work`; None if a signal has come or comes in the meantime, which ends it at once."""
        try:
            try:
                self._at_once = True
                return work() if self.number is None else None
            finally:
                self._at_once = False
        except Stop as stop:
            if stop.request is not self:
                raise
            return None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if self._at_once:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.number is not None and number == signal.SIGINT:
            # Not an exception: raised in a destructor, Python would print and ignore it.
            os._exit(128 + number)
        self.number = self.number or number
        if self._at_once:
            raise Stop(self)


@contextmanager
def interruptible() -> Iterator[None]:
    """Context that a stopping signal ends at once.

    Raises:
        Interrupted: a signal came.
    """
    kept = ""
    with StopRequest() as request:
        request._at_once = True
        try:
            yield
            request._at_once = False
        except Stop as stop:
            request._at_once, kept = False, stop.kept
        if request.number is not None:
            raise Interrupted(request.number, kept)
