"""Failpoints, where tests make something fail: SEQ2SEQ_FAILPOINTS=save.before_rename=kill@3,write=eio@1-2

Each entry is NAME=ACTION with @N for the N-th time only (default 1), @N-M for a range, @N- for all from the N-th on.
`reach(NAME)` in the code performs the action:

    kill, stop, term, int     SIGKILL, SIGSTOP, SIGTERM or SIGINT to this process
    eio, enospc, eacces       an OSError of that number
    memory                    a MemoryError
    any other word            returned, for the caller to act on (`nan`, `oom`, ...)

Each process counts on its own. Without the variable, `reach` is one lookup in an empty dict.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from seq2seq.errors import UsageError

VARIABLE = "SEQ2SEQ_FAILPOINTS"

_SIGNALS = {"kill": "SIGKILL", "stop": "SIGSTOP", "term": "SIGTERM", "int": "SIGINT"}
_ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC, "eacces": errno.EACCES}
_ENTRY = re.compile(r"([\w.]+)=(\w+)(?:@(\d+)(-(\d*))?)?")


class _Fault:
    """One entry: the action, and the times at which it is due."""

    def __init__(self, action: str, first: int, last: int | None) -> None:
        self.action, self.first, self.last = action, first, last
        self.reached = 0

    def due(self) -> bool:
        """Count once more; returns whether the action is due."""
        self.reached += 1
        return self.first <= self.reached and (self.last is None or self.reached <= self.last)


def reach(name: str) -> str | None:
    """Perform the action planned for the failpoint `name`; returns its word if the caller is to act on it.

    Raises:
        OSError: this was planned.
        MemoryError: this was planned.
        UsageError: the variable is malformed.
    """
    fault = _planned().get(name)
    if fault is None or not fault.due():
        return None
    action = fault.action
    if action in _SIGNALS:
        os.kill(os.getpid(), getattr(signal, _SIGNALS[action]))
        return None
    if action in _ERRORS:
        raise OSError(_ERRORS[action], os.strerror(_ERRORS[action]))
    if action == "memory":
        raise MemoryError
    return action


def forget() -> None:
    """Read the variable again at the next `reach`, and count from the beginning."""
    _planned.cache_clear()


@cache
def _planned() -> Mapping[str, _Fault]:
    plan = {}
    for entry in filter(None, os.environ.get(VARIABLE, "").split(",")):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise UsageError(f"`{entry}` is not a failpoint", where=VARIABLE, hint="unset it", code="usage.failpoint")
        name, action, first, span, last = match.groups()
        begin = int(first or 1)
        plan[name] = _Fault(action, begin, begin if not span else int(last) if last else None)
    return MappingProxyType(plan)
