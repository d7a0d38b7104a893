"""The ranks of a run, and what they exchange.

Every rank holds the whole model and takes its share of the rows of every batch; gradients are summed, so that all
weights stay equal. A run of one process has the same `Ranks`, whose methods then do nothing.
"""

from __future__ import annotations

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
from seq2seq.distributed.rendezvous import Meeting, are_on_one_machine, is_rank, meet
from seq2seq.errors import ConfigError
from seq2seq.signals import STOPPING_SIGNALS, Interrupted, StopRequest


class Ranks:
    """The place of this process among the ranks, and everything that they exchange.

    Attributes:
        rank: number of this process, from 0; rank 0 alone writes files and speaks.
        size: how many there are, on all machines together.
        local_rank: number among those of this machine.
    """

    def __init__(self, meeting: Meeting | None = None) -> None:
        self.rank, self.size, self.local_rank = meeting[:3] if meeting else (0, 1, 0)
        self._host = meeting.host if meeting else None
        self._gradients = meeting.gradients if meeting else None
        self._failures = Failures(self.rank, self.size, meeting.store if meeting else None)

    @classmethod
    def single(cls) -> Ranks:
        """A run of one process."""
        return cls()

    @staticmethod
    def expected() -> bool:
        """Whether this process was started as one of several ranks."""
        return is_rank()

    @classmethod
    def start(cls, device: str) -> Ranks:
        """Meet the others on `cpu` or `cuda`, where there are any.

        Raises:
            WorkerError: the others do not come.
        """
        return cls(meet(device)) if is_rank() else cls.single()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files and speaks to the user."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size): which rows of every batch are this rank's."""
        return self.rank, self.size

    def seed(self, seed: int) -> None:
        """Give every rank random numbers of its own, as dropout wants them; those of rank 0 stay as they are."""
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0]))

    # -- numbers, texts and tensors of the host ------------------------------------------------------------------------

    def sum_host(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each number, in float64; whole numbers are exact."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64)
        with self._failures.watched():
            dist.all_reduce(total, group=self._host)
        return [float(value) for value in total]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum_host([0.0])

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, of one shape, on the CPU."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._failures.watched():
            dist.all_gather(parts, tensor.contiguous(), group=self._host)
        return parts

    def gather_texts(self, texts: Sequence[str]) -> list[str]:
        """All texts in their order, of which rank r holds every `size`-th from r on (`texts[rank::size]`)."""
        if self.size == 1:
            return list(texts)
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        counts = self.gather(torch.tensor([len(encoded), sum(map(len, encoded))]))
        longest, widest = (int(max(count[side] for count in counts)) for side in (0, 1))
        lengths, content = torch.zeros(longest, dtype=torch.int64), torch.zeros(widest, dtype=torch.uint8)
        lengths[: len(encoded)] = torch.tensor([len(text) for text in encoded], dtype=torch.int64)
        joined = bytearray(b"".join(encoded))
        if joined:
            content[: len(joined)] = torch.frombuffer(joined, dtype=torch.uint8)
        shares = []
        for count, sizes, data in zip(counts, self.gather(lengths), self.gather(content), strict=True):
            ends = sizes[: int(count[0])].cumsum(0).tolist()
            whole = data.numpy().tobytes()
            starts = [0, *ends][: len(ends)]
            shares.append(
                [whole[start:end].decode("utf-8", "surrogatepass") for start, end in zip(starts, ends, strict=True)]
            )
        total = sum(map(len, shares))
        return [shares[number % self.size][number // self.size] for number in range(total)]

    def agree(self, name: str, value: str) -> None:
        """Make sure that every rank has the same value; of one of several lines the first that differs is shown.

        Raises:
            ConfigError: one has another; every rank raises it.
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
        """The module, whose backward pass also sums the gradients over all ranks, without dividing them.

        All weights become those of rank 0. With one process it is the module itself.
        """
        if self.size == 1:
            return module
        from seq2seq.distributed.gradients import sum_gradients  # a torch without it trains alone

        assert self._host is not None
        share = (lambda text: self.gather_texts([text])[0]) if are_on_one_machine(self.size) else None
        return sum_gradients(module, self.rank, self.size, self._gradients, self._host, share)

    # -- one after the other, and to the end ---------------------------------------------------------------------------

    @contextmanager
    def first_alone(self, name: str) -> Iterator[None]:
        """The block is run by rank 0, then by the others, which wait for it as long as it takes; `name` is used once.

        Raises:
            RankLostError: rank 0 failed in it.
        """
        if not self.is_first:
            self._failures.wait_for(name)
        yield
        if self.is_first:
            self._failures.announce(name)

    @contextmanager
    def silent_but_first(self) -> Iterator[None]:
        """What ranks other than 0 say in the block is not heard: it is the same."""
        if self.is_first:
            yield
        else:
            with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
                yield

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Part from the others at the end; of all errors that ranks raise one has `told` unset.

        Raises:
            RankLostError: an exchange failed in the block.
        """
        try:
            with self._failures.watched():
                yield
        except Interrupted:
            raise
        except Exception as error:
            if not getattr(error, "told", False):
                error.told = not self._failures.claim()  # type: ignore[attr-defined]
            raise
        self.close()

    def close(self) -> None:
        """Part from the others after work that ended well; nccl wants to be told, gloo stays (see `console.leave`)."""
        if self.size > 1:
            self.barrier()
            if self._gradients is not self._host:
                dist.destroy_process_group()

    @property
    def abandoned(self) -> bool:
        """Whether the process that started this one is gone."""
        return self._failures.abandoned


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
