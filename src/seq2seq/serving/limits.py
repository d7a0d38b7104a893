"""Limits of a server: what it refuses, and with which status."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple


class Limits(NamedTuple):
    """What one request, one client and all clients together may ask for."""

    characters: int = 5000
    """Characters of a request's texts together; 413 beyond."""
    waiting: int = 500
    """Sentences of a run that may wait when a request comes; 503 beyond."""
    seconds: float = 30.0
    """Time for a request, from its first byte to its translation; then 504, and the rest of it is not translated."""
    rate: int = 0
    """Requests of a client in a minute, all of which may come at once; 429 beyond. 0 is no limit."""
    alternatives: int = 9
    """Translations of a text besides the best one; 400 beyond."""

    @property
    def body(self) -> int:
        """Bytes of a request's body: JSON may write a character as two escapes of six bytes."""
        return 16_384 + 12 * self.characters


class Refusal(Exception):  # noqa: N818  an answer to the client
    """A request that is not answered: HTTP status, a sentence for the client, and the seconds after which to retry."""

    def __init__(self, status: int, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


_MAX_CLIENTS = 10_000
"""Clients that are remembered; beyond, those that asked least recently begin anew."""


class RateLimiter:
    """Token buckets, one for each client: `rate` requests at once, refilled at `rate` a minute; 0 is no limit."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens of each client, and when they were counted."""

    def check(self, client: str) -> None:
        """Count a request. Raises `Refusal` (429) if the client has asked too often."""
        if not self.rate:
            return
        now = self._clock()
        tokens, since = self._buckets.pop(client, (float(self.rate), now))
        tokens = min(self.rate, tokens + (now - since) * self.rate / 60)
        self._buckets[client] = (tokens - (tokens >= 1), now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = int((1 - tokens) * 60 / self.rate) + 1
            raise Refusal(429, f"more than {self.rate} requests in a minute: try again in {seconds} s", seconds)
