"""The lock of a run directory: one process at a time trains in it."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from seq2seq.atomic_files import disk_errors, no_follow, try_lock
from seq2seq.console import warn
from seq2seq.errors import UsageError
from seq2seq.processes import is_running

_ENDING_SECONDS = 1.0
"""Time for a killed process to give up its lock: it holds it until its last thread has ended."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context that locks a run directory for this process.

    Raises:
        UsageError: another process has locked it, or it cannot be written.
        ResourceError: the disk is full.
    """
    with disk_errors(folder):
        file = open(folder / ".lock", "a+", encoding="utf-8", opener=no_follow)  # noqa: SIM115
    with file:
        _lock(file, folder)
        with disk_errors(folder, file=file):
            file.truncate(0)
            file.write(f"PID {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def in_use(folder: Path) -> bool:
    """Return True if a process trains in a run directory; always False on file systems without locks."""
    try:
        with (folder / ".lock").open("rb") as file:
            return not try_lock(file, shared=True)
    except OSError:
        return False


def _lock(file: TextIO, folder: Path) -> None:
    def warn_of_no_locks(error: OSError) -> None:
        warn(f"{folder} cannot be locked ({error.strerror}): see that no other process trains in it")

    deadline = time.monotonic() + _ENDING_SECONDS
    while not try_lock(file, unsupported=warn_of_no_locks):
        if time.monotonic() >= deadline:
            file.seek(0)
            raise UsageError(
                f"{folder} is in use by {_owner(file.read())}",
                hint="wait for it, or choose another run directory with -o",
                code="usage.in-use",
            )
        time.sleep(0.05)
    # Data loader processes would inherit the lock, and outlive a killed run by some seconds.
    os.register_at_fork(after_in_child=file.close)


def _owner(record: str) -> str:
    """The process that a lock file names, unless it has ended."""
    match = re.fullmatch(r"PID (\d+) on (.+)", record)
    has_ended = match is not None and match[2] == socket.gethostname() and not is_running(int(match[1]))
    return record if match and not has_ended else "another process"
