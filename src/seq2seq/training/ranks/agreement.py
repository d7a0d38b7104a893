"""What ranks exchange before every update, so that all decide the same."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.data.batching import Batch
from seq2seq.interruption import STOPPING_SIGNALS, StopRequest
from seq2seq.training.ranks.group import Ranks


class Agreement(NamedTuple):
    """What all ranks know of an update before it begins."""

    target_tokens: int
    source_tokens: int
    seconds: float
    """Those of rank 0."""
    stop: int | None
    """A signal that came to one of them."""


def agree(ranks: Ranks, group: Sequence[Batch], seconds: float, stop: StopRequest) -> Agreement:
    """Add up the shares of an update; every rank must call it."""
    target, source, seconds, *wishes = ranks.sum_host(
        [
            sum(batch.tokens for batch in group),
            sum(batch.source_tokens for batch in group),
            seconds if ranks.is_first else 0.0,
            *_wishes(ranks, stop),
        ]
    )
    return Agreement(int(target), int(source), seconds, _first_wish(wishes))


def agreed_stop(ranks: Ranks, stop: StopRequest) -> int:
    """The signal that came to one of the ranks; every rank must call it once one has."""
    return _first_wish(ranks.sum_host(_wishes(ranks, stop))) or signal.SIGTERM


def _wishes(ranks: Ranks, stop: StopRequest) -> list[float]:
    """Which signal came to this rank, 1 for it and 0 for the others."""
    number = signal.SIGTERM if ranks.abandoned else stop.number
    return [float(number == known) for known in STOPPING_SIGNALS]


def _first_wish(wishes: Sequence[float]) -> int | None:
    return next((known for known, wish in zip(STOPPING_SIGNALS, wishes, strict=True) if wish), None)
