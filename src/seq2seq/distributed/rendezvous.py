"""How ranks find each other.

They are started by `seq2seq train --devices N`, or by torchrun, on one machine or many; the environment (RANK,
WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) tells each its place.
"""

from __future__ import annotations

import math
import os
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from seq2seq.errors import UsageError, WorkerError

RENDEZVOUS = "SEQ2SEQ_RENDEZVOUS"
"""Environment variable: where the ranks meet (a torch.distributed init method); torchrun's own place where unset."""
TIMEOUT = "SEQ2SEQ_RANK_TIMEOUT"
"""Environment variable: seconds after which a rank that does not answer is given up; 1,800 where unset."""


class Meeting(NamedTuple):
    """The place of this process among the ranks, and by what it reaches the others."""

    rank: int
    """Number of this process, from 0."""
    size: int
    """How many there are, on all machines together."""
    local_rank: int
    """Number among those of this machine."""
    store: Store
    """A few words that all can read and write."""
    host: dist.ProcessGroup | None
    """For tensors of the host."""
    gradients: dist.ProcessGroup | None
    """For tensors of the device."""


def is_rank() -> bool:
    """Whether this process was started as one of several ranks."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def are_on_one_machine(size: int) -> bool:
    """Whether all ranks run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == size


def meet(device: str) -> Meeting:
    """Wait for the others: gloo on the CPU; nccl on CUDA, and gloo for what the host exchanges.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        WorkerError: the others do not come.
        UsageError: the time-out is no number of seconds.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    timeout = _timeout()
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
    return Meeting(rank, size, local_rank, PrefixStore("seq2seq", store), host, everyone)


def _timeout() -> timedelta:
    text = os.environ.get(TIMEOUT, "1800")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < 1e9:
        raise UsageError(f"{TIMEOUT}={text} is no number of seconds", hint=f"{TIMEOUT}=1800", code="usage.value")
    return timedelta(seconds=seconds)
