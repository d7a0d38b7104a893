"""Ranks that fail, die or do not answer: how the others find out, and which of them tells."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from seq2seq.distributed.rendezvous import RENDEZVOUS
from seq2seq.errors import WorkerError

_POLL_SECONDS = 0.05
_ROLL_CALL_SECONDS = 5.0
_LAST_WORDS_SECONDS = 3.0


class RankLostError(WorkerError):
    """Another rank has died or does not answer.

    `told` says that the message has been, or will be, told by another process.
    """

    def __init__(self, what: str, *, told: bool = False) -> None:
        super().__init__(what, hint="the last checkpoint is kept; run the same command again", code="worker.rank")
        self.told = told


class Failures:
    """What a rank knows of the others' ends, by the store that all share; None where it is alone."""

    def __init__(self, rank: int, size: int, store: Store | None) -> None:
        self._rank, self._size, self._store = rank, size, store
        self._parent = os.getppid()

    @property
    def abandoned(self) -> bool:
        """Whether the process that started this one is gone."""
        return self._size > 1 and os.getppid() != self._parent

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn a failed exchange in the block into `RankLostError`; any other error passes."""
        try:
            yield
        except RuntimeError as error:
            if self._size == 1 or not _is_connection_error(error):
                raise
            raise self._lost(str(error)) from error

    def announce(self, name: str) -> None:
        """Let those go on who are in `wait_for(name)`."""
        if self._store is not None:
            self._store.set(name, "done")

    def wait_for(self, name: str) -> None:
        """Wait for `announce(name)`, as long as it takes.

        Raises:
            RankLostError: a rank failed meanwhile.
        """
        assert self._store is not None
        with self.watched():
            while not self._store.check([name]):
                if self._store.check(["failed"]):
                    raise RankLostError("another rank failed", told=True)
                if self.abandoned:
                    raise RankLostError("the process that started the ranks is gone")
                time.sleep(_POLL_SECONDS)

    def claim(self) -> bool:
        """Whether this rank, which has failed, is the one to tell it: the first that asks."""
        if self._store is None:
            return True
        try:
            first = bool(self._store.compare_set("failed", "", str(self._rank)) == str(self._rank).encode())
        except RuntimeError:
            return True  # the place where they met is gone
        with suppress(RuntimeError):
            self._hear_the_others()
        return first

    def _hear_the_others(self) -> None:
        """torchrun's ranks meet in the process of rank 0; it stays a moment for those that fail of the same cause."""
        assert self._store is not None
        asked = self._store.add("asked", 1)
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        stays = self._rank == 0 and RENDEZVOUS not in os.environ
        while stays and asked < self._size and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            asked = self._store.add("asked", 0)

    def _lost(self, reason: str) -> RankLostError:
        """Who is missing. All who still live lay down their number within seconds of each other."""
        missing: list[int] = []
        try:
            assert self._store is not None
            self._store.set(f"alive|{self._rank}", "1")
            if self._store.check(["failed"]):
                return RankLostError("another rank failed", told=True)
            if "imed out" in reason or "imeout" in reason:
                deadline = time.monotonic() + _ROLL_CALL_SECONDS
                missing = [rank for rank in range(self._size) if rank != self._rank]
                while missing and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    missing = [rank for rank in missing if not self._store.check([f"alive|{rank}"])]
        except RuntimeError:
            missing = [0]  # it keeps the store
        if missing:
            names = ", ".join(map(str, missing))
            return RankLostError(f"rank {names} of {self._size} does not answer (seen by rank {self._rank})")
        return RankLostError(f"a rank of {self._size} has died (seen by rank {self._rank})")


def _is_connection_error(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return any(sign in text for sign in ("gloo", "Connection ", "imed out waiting", "Broken pipe", "NCCL"))
