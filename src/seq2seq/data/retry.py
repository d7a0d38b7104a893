"""Retries for busy servers and broken connections: five tries, with the waiting time that the server asks for."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.message import Message
from typing import TypeVar

from seq2seq import console
from seq2seq.errors import NetworkError

Result = TypeVar("Result")

TRIES = 5
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP status codes after which a retry may succeed."""

TIME_OUT_SECONDS = 30.0
"""Time-out of a connection, in seconds."""

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0


class BusyError(NetworkError):
    """Failure after which a retry may succeed. `wait` is the time in seconds that the server asks for, or None."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what, code="network.fetch")
        self.wait = wait


def retry(action: Callable[[], Result]) -> Result:
    """Call `action`, again after each `BusyError`, and return its result.

    Raises:
        NetworkError: the last of five tries failed too, or the server asks for a wait of more than five minutes.
    """
    for number in range(1, TRIES + 1):
        try:
            return action()
        except BusyError as error:
            wait = _FIRST_WAIT_SECONDS * 2 ** (number - 1) if error.wait is None else error.wait
            if wait > _LONGEST_WAIT_SECONDS:
                hint = f"the server asks to wait {wait:,.0f} s; run the same command again later"
                raise NetworkError(error.what, hint=hint, code="network.fetch") from error
            if number == TRIES:
                hint = "run the same command again later: what has arrived is kept"
                raise NetworkError(f"{error.what} ({TRIES} tries)", hint=hint, code="network.fetch") from error
            console.say(f"{error.what}; trying again in {wait:,.0f} s ({number} of {TRIES})")
            time.sleep(wait)
    raise AssertionError("unreachable")


def busy_answer(status: int, headers: Mapping[str, str] | Message, host: str) -> BusyError:
    """The error for a `BUSY` status, with the wait of its `Retry-After` header."""
    return BusyError(f"{host} answers {status}", _parse_wait(headers.get("Retry-After")))


def _parse_wait(value: str | None) -> float | None:
    """Parse `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
