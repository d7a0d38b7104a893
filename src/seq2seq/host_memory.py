"""Whether an error means that the machine's memory ran out, and what to say of it.

Libraries, this tool's own modules among them, may be what did not fit: nothing but the standard library is needed here.
"""

from __future__ import annotations

import errno

HINT = "end other programs; or, where a limit is set, lift it: ulimit -v unlimited"

_SIGNS = (
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "std::bad_alloc",
    "could not create a primitive",
)
_OTHER_CAUSES = ("static tls block", "operation not permitted", "permission denied")
"""The dynamic loader's words for a library loaded too late, and for one on a disk that may not hold programs."""


def what_ran_out(error: BaseException) -> str | None:
    """One line of what happened where memory ran out; None for any other error.

    Libraries wrap what the dynamic loader says in errors of their own, so the first cause of an error is told.
    """
    found: str | None = None
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        lines = [line.strip() for line in str(cause).splitlines()]
        told = [line for line in lines if any(sign in line.lower() for sign in _SIGNS)]
        if told and isinstance(cause, (ImportError, OSError, RuntimeError)):
            if not any(other in told[0].lower() for other in _OTHER_CAUSES):
                found = f"out of memory: {told[0]}"
        elif isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            found = "out of memory"
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found
