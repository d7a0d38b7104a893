"""Failures of ranks: how the others notice that one failed, died or hangs, and which rank reports it."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from seq2seq.distributed.rendezvous import RENDEZVOUS
from seq2seq.errors import WorkerError

_POLL_SECONDS = 0.05
_ROLL_CALL_SECONDS = 5.0
_REPORT_SECONDS = 3.0
_STORE_SECONDS = 30.0
"""Time after which the store counts as lost: a cable that is cut ends no connection, and a call would never return."""

RESUME_HINT = "run the same command again; it goes on from the last checkpoint, if there is one"

Answer = TypeVar("Answer")


class RankLostError(WorkerError):
    """Another rank has died or does not answer.

    `reported` is set if another process reports the failure.
    """

    def __init__(self, what: str, *, reported: bool = False) -> None:
        super().__init__(what, hint=RESUME_HINT, code="worker.rank")
        self.reported = reported


class Failures:
    """Detection of failed ranks through the store that all ranks share; `store` is None for a single process."""

    def __init__(self, rank: int, size: int, store: Store | None) -> None:
        self._rank, self._size, self._store = rank, size, store
        self._parent = os.getppid()

    @property
    def abandoned(self) -> bool:
        """Whether the parent process has ended."""
        return self._size > 1 and os.getppid() != self._parent

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Context that turns a failed exchange into `RankLostError`; other errors pass."""
        try:
            yield
        except RuntimeError as error:
            if self._size == 1 or not _is_connection_error(error):
                raise
            raise self._lost(str(error)) from error

    def announce(self, name: str) -> None:
        """Release the ranks that are in `wait_for(name)`."""
        if self._store is not None:
            self._ask(lambda store: store.set(name, "done"))

    def wait_for(self, name: str) -> None:
        """Wait for `announce(name)`, without a time limit.

        Raises:
            RankLostError: a rank failed in the meantime.
        """
        with self.watched():
            while not self._ask(lambda store: store.check([name])):
                if self._ask(lambda store: store.check(["failed"])):
                    raise RankLostError("another rank failed", reported=True)
                if self.abandoned:
                    raise RankLostError("the process that started the ranks is gone")
                time.sleep(_POLL_SECONDS)

    def claim_report(self) -> bool:
        """Whether this failed rank is to report the failure: the first rank that asks is."""
        if self._store is None:
            return True
        try:
            claimed = self._ask(lambda store: store.compare_set("failed", "", str(self._rank)))
        except RuntimeError:
            return True  # the store is gone
        with suppress(RuntimeError):
            self._wait_for_other_failures()
        return bool(claimed == str(self._rank).encode())

    def _wait_for_other_failures(self) -> None:
        """Keep rank 0 alive a moment: under torchrun it hosts the store that other failing ranks will ask."""
        asked = self._ask(lambda store: store.add("asked", 1))
        deadline = time.monotonic() + _REPORT_SECONDS
        stays = self._rank == 0 and RENDEZVOUS not in os.environ
        while stays and asked < self._size and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            asked = self._ask(lambda store: store.add("asked", 0))

    def _lost(self, reason: str) -> RankLostError:
        """The error that names the missing ranks; every live rank signs in within seconds of the others."""
        missing: list[int] = []
        try:
            self._ask(lambda store: store.set(f"alive|{self._rank}", "1"))
            if self._ask(lambda store: store.check(["failed"])):
                return RankLostError("another rank failed", reported=True)
            if "imed out" in reason or "imeout" in reason:
                deadline = time.monotonic() + _ROLL_CALL_SECONDS
                missing = [rank for rank in range(self._size) if rank != self._rank]
                while missing and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    missing = [rank for rank in missing if not self._is_alive(rank)]
        except RuntimeError:
            missing = [0]  # it hosts the store
        if missing:
            names = ", ".join(map(str, missing))
            return RankLostError(f"rank {names} of {self._size} does not answer (seen by rank {self._rank})")
        return RankLostError(f"a rank of {self._size} has died (seen by rank {self._rank})")

    def _is_alive(self, rank: int) -> bool:
        return self._ask(lambda store: store.check([f"alive|{rank}"]))

    def _ask(self, question: Callable[[Store], Answer]) -> Answer:
        """The store's answer to a question, asked in a thread that is left behind if none comes.

        Raises:
            RuntimeError: the store is gone, or has not answered in time.
        """
        store = self._store
        assert store is not None
        answers: queue.SimpleQueue[Answer | RuntimeError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(question(store))
            except RuntimeError as error:
                answers.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=_STORE_SECONDS)
        except queue.Empty:
            raise dist.DistError("timed out waiting for the store of the ranks") from None
        if isinstance(answer, RuntimeError):
            raise answer
        return answer


def _is_connection_error(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return any(sign in text for sign in ("gloo", "Connection ", "imed out waiting", "Broken pipe", "NCCL"))
