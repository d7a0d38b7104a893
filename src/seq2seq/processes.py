"""Processes: whether one runs, and those that end with the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0
_forking = 0
"""The process that forks."""


def is_running(process: int) -> bool:
    """Whether this machine runs a process with this number."""
    try:
        os.kill(process, 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def end_with_parent(parent: int, cleanup: Callable[[], object] = lambda: None) -> None:
    """End this process when the process `parent`, its parent, ends in any way, SIGKILL included.

    Linux kills it at once, even if it is stopped; elsewhere a thread looks every second, and calls `cleanup` first.
    """
    prctl = _prctl()
    if prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0:
        if os.getppid() != parent:  # it ended before the call
            os._exit(128 + signal.SIGKILL)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        cleanup()
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


@cache
def end_children_with_parent() -> None:
    """Make every process forked from now on end with its parent, those that libraries fork and their children included.

    For processes that belong to this program alone: on Linux a child also ends with the thread that forked it.
    """
    _prctl()  # not in a fork: another thread may hold the lock of the dynamic loader

    def note() -> None:
        global _forking
        _forking = os.getpid()

    os.register_at_fork(before=note, after_in_child=lambda: end_with_parent(_forking))


@cache
def _prctl() -> Callable[[int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "prctl", None)
