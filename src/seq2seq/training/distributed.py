"""Several processes (ranks) that train one model together.

Every rank holds the whole model and takes its share of the rows of every batch; gradients are summed, so that all
weights stay equal. The ranks are started by `seq2seq train --devices N`, or by torchrun, on one machine or many; the
environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) tells each its place. A run of one process has the same
`Ranks`, whose methods then do nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from seq2seq.errors import ConfigError, WorkerError
from seq2seq.training.interruption import Interrupted

RENDEZVOUS = "SEQ2SEQ_RENDEZVOUS"
"""Environment variable: where the ranks meet (a torch.distributed init method); torchrun's own place where unset."""
TIMEOUT = "SEQ2SEQ_RANK_TIMEOUT"
"""Environment variable: seconds after which a rank that does not answer is given up; 1,800 where unset."""

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


class Ranks:
    """The place of this process among the ranks, and everything that they exchange.

    Attributes:
        rank: number of this process, from 0; rank 0 alone writes files and speaks.
        size: how many there are, on all machines together.
        local_rank: number among those of this machine.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        *,
        store: Store | None = None,
        host: dist.ProcessGroup | None = None,
        gradients: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._store, self._host, self._gradients = store, host, gradients
        self._parent = os.getppid()

    @classmethod
    def single(cls) -> Ranks:
        """A run of one process."""
        return cls()

    @staticmethod
    def expected() -> bool:
        """Whether this process was started as one of several ranks."""
        return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1

    @classmethod
    def start(cls, device: str) -> Ranks:
        """Meet the others: gloo on the CPU; nccl on CUDA, and gloo for what the host exchanges.

        Args:
            device: `cpu` or `cuda`.

        Raises:
            WorkerError: the others do not come.
        """
        if not cls.expected():
            return cls.single()
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        timeout = timedelta(seconds=float(os.environ.get(TIMEOUT, "1800")))
        try:
            place = os.environ.get(RENDEZVOUS, "env://")
            store, _, _ = next(iter(rendezvous(place, rank, size, timeout=timeout)))
            backend = "nccl" if device == "cuda" else "gloo"
            dist.init_process_group(
                backend,
                store=PrefixStore("group", store),
                rank=rank,
                world_size=size,
                timeout=timeout,
                device_id=torch.device("cuda", local_rank) if device == "cuda" else None,
            )
            everyone = dist.group.WORLD
            host = everyone if device != "cuda" else dist.new_group(backend="gloo", timeout=timeout)
        except (RuntimeError, ValueError) as error:
            raise WorkerError(
                f"rank {rank} cannot reach the others: {error}",
                hint="start all ranks with the same command",
                code="worker.rank",
            ) from error
        store.set_timeout(timeout)
        store = PrefixStore("seq2seq", store)
        return cls(rank, size, local_rank, store=store, host=host, gradients=everyone)

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

    def close(self) -> None:
        """Part from the others after work that ended well; nccl wants to be told, gloo stays (see `console.leave`)."""
        if self.size > 1:
            self.barrier()
            if self._gradients is not self._host:
                dist.destroy_process_group()

    # -- numbers, texts and tensors of the host ------------------------------------------------------------------------

    def sum_host(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each number, in float64; whole numbers are exact."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64)
        with self.watched():
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
        with self.watched():
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

    @contextmanager
    def first_alone(self, name: str) -> Iterator[None]:
        """The block is run by rank 0, then by the others, which wait for it as long as it takes; `name` is used once.

        Raises:
            RankLostError: rank 0 failed in it.
        """
        if not self.is_first:
            self._wait_for(name)
        yield
        if self.is_first and self._store is not None:
            self._store.set(name, "done")

    def _wait_for(self, name: str) -> None:
        assert self._store is not None
        with self.watched():
            while not self._store.check([name]):
                if self._store.check(["failed"]):
                    raise RankLostError("another rank failed", told=True)
                if self.abandoned:
                    raise RankLostError("the process that started the ranks is gone")
                time.sleep(_POLL_SECONDS)

    # -- failures ------------------------------------------------------------------------------------------------------

    @property
    def abandoned(self) -> bool:
        """Whether the process that started this one is gone."""
        return self.size > 1 and os.getppid() != self._parent

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
            with self.watched():
                yield
        except Interrupted:
            raise
        except Exception as error:
            if not getattr(error, "told", False):
                error.told = not self._claim_failure()  # type: ignore[attr-defined]
            raise
        self.close()

    def _claim_failure(self) -> bool:
        """Whether this rank, which has failed, is the one to tell it: the first that asks."""
        if self._store is None:
            return True
        try:
            first = bool(self._store.compare_set("failed", "", str(self.rank)) == str(self.rank).encode())
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
        while self.is_first and RENDEZVOUS not in os.environ and asked < self.size and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            asked = self._store.add("asked", 0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn a failed exchange in the block into `RankLostError`; any other error passes."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_connection_error(error):
                raise
            raise self._lost(str(error)) from error

    def _lost(self, reason: str) -> RankLostError:
        """Who is missing. All who still live lay down their number within seconds of each other."""
        missing: list[int] = []
        try:
            assert self._store is not None
            self._store.set(f"alive|{self.rank}", "1")
            if self._store.check(["failed"]):
                return RankLostError("another rank failed", told=True)
            if "imed out" in reason or "imeout" in reason:
                deadline = time.monotonic() + _ROLL_CALL_SECONDS
                missing = [rank for rank in range(self.size) if rank != self.rank]
                while missing and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    missing = [rank for rank in missing if not self._store.check([f"alive|{rank}"])]
        except RuntimeError:
            missing = [0]  # it keeps the store
        if missing:
            names = ", ".join(map(str, missing))
            return RankLostError(f"rank {names} of {self.size} does not answer (seen by rank {self.rank})")
        return RankLostError(f"a rank of {self.size} has died (seen by rank {self.rank})")

    # -- gradients -----------------------------------------------------------------------------------------------------

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, whose backward pass also sums the gradients over all ranks, without dividing them.

        All weights become those of rank 0. With one process it is the module itself.
        """
        if self.size == 1:
            return module
        from seq2seq.training.gradient_sum import sum_gradients  # a torch without it trains alone

        assert self._host is not None
        share = (lambda text: self.gather_texts([text])[0]) if self._on_one_machine() else None
        return sum_gradients(module, self.rank, self.size, self._gradients, self._host, share)

    def _on_one_machine(self) -> bool:
        return int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == self.size


def _is_connection_error(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return any(sign in text for sign in ("gloo", "Connection ", "imed out waiting", "Broken pipe", "NCCL"))
