"""Signals that ask a run to stop: the step in hand is finished, the state saved, then the process ends with 128 + N."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

STOPPING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""Those that this system has."""


class Interrupted(Exception):  # noqa: N818  it is no error
    """Training was stopped by a signal after saving."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} at step {step}")
        self.exit_code = 128 + number
        self.step = step


class StopRequest:
    """While entered, remembers the first signal instead of dying of it; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING_SIGNALS:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number
