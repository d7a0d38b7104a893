"""Ranks: the processes of a run, and their communication.

Every rank holds the whole model and takes its share of the rows of every batch; gradients are summed, so that all
weights stay equal. A run of one process has a `Ranks` too, whose exchanges do nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from seq2seq.data.batches import Batch
from seq2seq.distributed.failures import Failures
from seq2seq.distributed.rendezvous import Connection, are_on_one_machine, connect, is_rank
from seq2seq.errors import ConfigError
from seq2seq.signals import STOPPING_SIGNALS, Interrupted, StopRequest


class Ranks:
    """This process among the ranks of a run, with all exchanges between them.

    Attributes:
        rank: index of this process; only rank 0 writes files and messages.
        size: number of ranks on all machines together.
    """

    def __init__(self, connection: Connection | None = None) -> None:
        self.rank, self.size = connection[:2] if connection else (0, 1)
        self._host = connection.host if connection else None
        self._gradients = connection.gradients if connection else None
        self._failures = Failures(self.rank, self.size, connection.store if connection else None)

    @classmethod
    def single(cls) -> Ranks:
        """A run of one process."""
        return cls()

    @classmethod
    def start(cls, device: str) -> Ranks:
        """Connect to the other ranks, if there are any, for a model on `cpu` or `cuda`.

        Raises:
            WorkerError: another rank cannot be reached.
        """
        return cls(connect(device)) if is_rank() else cls.single()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and messages."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size): this rank takes the rows rank, rank + size, ... of every batch."""
        return self.rank, self.size

    def seed(self, seed: int) -> None:
        """Seed every rank but the first differently, so that dropout masks differ; rank 0 keeps its generator."""
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0]))

    # -- exchanges between hosts --------------------------------------------------------------------------------------

    def sum_host(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over all ranks, in float64; whole numbers are exact."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64)
        with self._failures.watched():
            dist.all_reduce(total, group=self._host)
        return [float(value) for value in total]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sum_host([0.0])

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Tensors of one shape from all ranks, on the CPU."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._failures.watched():
            dist.all_gather(parts, tensor.contiguous(), group=self._host)
        return parts

    def gather_texts(self, texts: Sequence[str]) -> list[str]:
        """All texts in order; rank r passes `texts[r::size]`."""
        if self.size == 1:
            return list(texts)
        content = bytearray(json.dumps(list(texts)).encode())
        sizes = self.gather(torch.tensor(len(content)))
        padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
        padded[: len(content)] = torch.frombuffer(content, dtype=torch.uint8)
        parts = zip(sizes, self.gather(padded), strict=True)
        shares = [json.loads(part.numpy().tobytes()[: int(size)]) for size, part in parts]
        total = sum(map(len, shares))
        return [shares[number % self.size][number // self.size] for number in range(total)]

    def from_first(self, text: str) -> str:
        """The text of rank 0; the other ranks pass one that is ignored."""
        return self.gather_texts([text])[0]

    def require_equal(self, name: str, value: str) -> None:
        """Check that a value is the same on every rank; of several lines, the first that differs is shown.

        Raises:
            ConfigError: the values differ; every rank raises it.
        """
        if self.size == 1:
            return
        values = self.gather_texts([value])
        machines = self.gather_texts([socket.gethostname()])
        for rank, other in enumerate(values):
            if other != values[0]:
                pairs = zip_longest(values[0].splitlines(), other.splitlines(), fillvalue="nothing")
                wanted, found = next((mine.strip(), its.strip()) for mine, its in pairs if mine != its)
                raise ConfigError(
                    f"rank {rank} on {machines[rank]} has another {name} than rank 0: {found}, not {wanted}",
                    hint="start every rank with the same command, files and packages",
                    code="config.ranks",
                )

    # -- gradients -----------------------------------------------------------------------------------------------------

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its backward pass sums gradients over all ranks, without dividing them.

        All weights become those of rank 0. With one process the module itself is returned.
        """
        if self.size == 1:
            return module
        from seq2seq.distributed.gradients import sum_gradients  # torch may be built without distributed support

        assert self._host is not None
        share = self.from_first if are_on_one_machine(self.size) else None
        return sum_gradients(module, self.rank, self.size, self._gradients, self._host, share)

    # -- order and errors ----------------------------------------------------------------------------------------------

    @contextmanager
    def first_then_others(self, name: str) -> Iterator[None]:
        """Context that rank 0 runs first and the other ranks after it, however long it takes; `name` is used once.

        Raises:
            RankLostError: rank 0 failed in it.
        """
        if not self.is_first:
            self._failures.wait_for(name)
        yield
        if self.is_first:
            self._failures.announce(name)

    @contextmanager
    def silence_other_ranks(self) -> Iterator[None]:
        """Context in which the messages of ranks other than 0 are dropped: they would repeat those of rank 0."""
        if self.is_first:
            yield
        else:
            with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
                yield

    @contextmanager
    def membership(self) -> Iterator[None]:
        """Context of the work of all ranks: disconnects at its end, and marks all errors but one as `reported`.

        Raises:
            RankLostError: an exchange failed in the block.
        """
        try:
            with self._failures.watched():
                yield
        except Interrupted:
            raise
        except Exception as error:
            if not getattr(error, "reported", False):
                error.reported = not self._failures.claim_report()  # type: ignore[attr-defined]
            raise
        if self.size > 1:
            self.barrier()
            if self._gradients is not self._host:  # gloo's threads end with the process, see `console.exit_now`
                dist.destroy_process_group()

    @property
    def abandoned(self) -> bool:
        """Whether the parent process has ended."""
        return self._failures.abandoned


class UpdateTotals(NamedTuple):
    """Totals of an update over all ranks, exchanged before it begins."""

    target_tokens: int
    source_tokens: int
    seconds: float
    """Training time of rank 0."""
    stop: int | None
    """A signal that one of the ranks received."""


def sum_update(ranks: Ranks, group: Sequence[Batch], seconds: float, stop: StopRequest) -> UpdateTotals:
    """Sum the shares of an update over all ranks; every rank must call it."""
    target, source, seconds, *signals = ranks.sum_host(
        [
            sum(batch.tokens for batch in group),
            sum(batch.source_tokens for batch in group),
            seconds if ranks.is_first else 0.0,
            *_received_signals(ranks, stop),
        ]
    )
    return UpdateTotals(int(target), int(source), seconds, _first_signal(signals))


def agreed_stop(ranks: Ranks, stop: StopRequest) -> int:
    """The signal that one of the ranks received; every rank must call it once one has."""
    return _first_signal(ranks.sum_host(_received_signals(ranks, stop))) or signal.SIGTERM


def _received_signals(ranks: Ranks, stop: StopRequest) -> list[float]:
    """One number for each of `STOPPING_SIGNALS`: 1 if this rank received it."""
    number = signal.SIGTERM if ranks.abandoned else stop.number
    return [float(number == known) for known in STOPPING_SIGNALS]


def _first_signal(counts: Sequence[float]) -> int | None:
    return next((known for known, count in zip(STOPPING_SIGNALS, counts, strict=True) if count), None)
