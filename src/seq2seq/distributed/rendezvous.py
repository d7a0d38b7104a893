"""Rendezvous of the ranks.

Ranks are started by `seq2seq train --devices N` or by torchrun, on one machine or many; each reads its index from the
environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE).
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import struct
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from seq2seq.errors import UsageError, WorkerError

RENDEZVOUS = "SEQ2SEQ_RENDEZVOUS"
"""Environment variable: the torch.distributed init method of the ranks; torchrun's if unset."""
TIMEOUT = "SEQ2SEQ_RANK_TIMEOUT"
"""Environment variable: seconds after which a rank that does not answer counts as lost; 1,800 if unset."""

_POLL_SECONDS = 0.02
_SIOCGIFADDR = 0x8915
"""Request of Linux for the address of an interface; see netdevice(7)."""
_ELSEWHERE = "192.0.2.1"
"""An address outside of every network (RFC 5737)."""


class Connection(NamedTuple):
    """Index of this process among the ranks, and the channels to the others."""

    rank: int
    """Index of this process."""
    size: int
    """Number of ranks on all machines together."""
    store: Store
    """Key-value store shared by all ranks."""
    host: dist.ProcessGroup | None
    """Group for tensors on the host."""
    gradients: dist.ProcessGroup | None
    """Group for tensors on the device."""


def is_rank() -> bool:
    """Whether this process was started as one of several ranks."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def are_on_one_machine(size: int) -> bool:
    """Whether all ranks run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == size


def connect(device: str) -> Connection:
    """Connect to the other ranks: by gloo on the CPU, by nccl on CUDA with gloo for the host.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        WorkerError: another rank cannot be reached.
        UsageError: the time-out is not a number of seconds.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    timeout = _timeout()
    if are_on_one_machine(size):
        _listen_on_loopback()
    elif (name := _interface_to(os.environ.get("MASTER_ADDR", ""))) is not None:
        # Gloo takes the interface of the machine's own name, which on many systems is the loopback interface.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    try:
        method = os.environ.get(RENDEZVOUS, "env://")
        store, _, _ = next(iter(rendezvous(method, rank, size, timeout=timeout)))
        if method == "env://":
            store = PrefixStore(agree_on_attempt(store, rank, size, timeout.total_seconds()), store)
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=timeout,
            device_id=torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else None,
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
    return Connection(rank, size, PrefixStore("seq2seq", store), host, everyone)


def agree_on_attempt(store: Store, rank: int, size: int, seconds: float) -> str:
    """A name that all ranks of this attempt agree on.

    After a restart by torchrun (`--max-restarts`) the store still has the keys of the attempt before, which would
    answer in the place of ranks that are not there yet. How often torchrun has restarted is no name: its processes on
    several machines count differently. So rank 0 draws a name, the others answer to it with one of their own, and only
    a rank 0 of the same attempt confirms that.

    Raises:
        RuntimeError: a rank does not come within `seconds`.
    """
    own, deadline = uuid.uuid4().hex, time.monotonic() + seconds

    def wait() -> None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the ranks did not meet within {seconds:g} s")
        time.sleep(_POLL_SECONDS)

    if rank == 0:
        store.set("attempt", own)
        for other in range(1, size):
            while not store.check([f"{own}|{other}"]):
                wait()
            store.set(f"{own}|{store.get(f'{own}|{other}').decode()}", "")
        return own
    while True:
        if store.check(["attempt"]):
            name = store.get("attempt").decode()
            store.set(f"{name}|{rank}", own)
            if store.check([f"{name}|{own}"]):
                return name
        wait()


def _listen_on_loopback() -> None:
    """Keep gloo and NCCL, which trust whoever connects, off the network; interfaces that the user has set stay."""
    names = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    if loopback is not None:
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)


def _interface_to(host: str) -> str | None:
    """The network interface by which this machine reaches a host; None where that is unknown, or not by IPv4."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing, and takes the address of the route
        own = probe.getsockname()[0]
        if own.startswith("127.") and host not in ("localhost", "127.0.0.1"):
            # The name of this machine, which the others know by its address on the way out.
            probe.connect((_ELSEWHERE, 9))
            own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(found[20:24]) == own:
                    return name
    return None


def _timeout() -> timedelta:
    text = os.environ.get(TIMEOUT, "1800")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < 1e9:
        raise UsageError(f"{TIMEOUT}={text} is not a number of seconds", hint=f"{TIMEOUT}=1800", code="usage.value")
    return timedelta(seconds=seconds)
