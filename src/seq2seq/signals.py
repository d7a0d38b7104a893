"""Signals that ask the work to stop; the process ends with 128 + N.

Training finishes the step in hand and saves the state (`StopRequest`). Elsewhere (data are prepared, a text is
translated) there is nothing to finish: `interruptible` ends the work at once.
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

STOPPING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""Those that this system has."""


def heeded_signals() -> list[int]:
    """`STOPPING_SIGNALS` but for those that whoever started this process lets it ignore, as `nohup` does SIGHUP."""
    return [number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class Interrupted(Exception):  # noqa: N818  it is no error
    """The work was stopped by a signal.

    Attributes:
        number: the signal.
        kept: what is left of it, for people; may be added later.
        exit_code: 128 + number.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = number, kept
        self.exit_code = 128 + number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}" + (f", {self.kept}" if self.kept else "")


class Stop(BaseException):
    """Raised by a signal's handler where nothing is to be finished, on its way to `interruptible`.

    Attributes:
        request: whose handler it was.
        kept: what is left of the work, for people; whoever lets it pass may add it.
    """

    def __init__(self, request: StopRequest) -> None:
        super().__init__()
        self.request, self.kept = request, ""


class StopRequest:
    """While entered, remembers the first signal instead of dying of it; a second Ctrl-C stops at once.

    Processes forked meanwhile leave a signal to their parent; those forked in `unless_stopped` die of it.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False
        self._process = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in heeded_signals():
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._before and self.number is not None and kind is None:
            os.kill(os.getpid(), self.number)  # nobody has looked since it came: whoever is next shall have it

    def unless_stopped(self, work: Callable[[], Result]) -> Result | None:
        """What `work` returns; None where a signal came before or comes meanwhile, which ends it at once."""
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
            # No exception: it could come up in a destructor, where Python shows it and goes on.
            os._exit(128 + number)
        self.number = self.number or number
        if self._at_once:
            raise Stop(self)


@contextmanager
def interruptible() -> Iterator[None]:
    """A signal ends the block at once.

    Raises:
        Interrupted: one came.
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
