"""Summed gradients over all ranks: communication hooks for DistributedDataParallel.

DistributedDataParallel averages, here gradients are summed: the loss is already divided by the tokens of all ranks.
Ranks of one machine that compute on its CPU add through shared memory: 32 MiB took 7 ms against 24 ms through gloo's
sockets, and every rank adds in the same order, so that the result depends neither on the rank nor on the layout of the
buckets. `scripts/bench/RESULTS.md` has the figures.
"""

# No deferred annotations here: DistributedDataParallel compares those of a hook with the types themselves.
import os
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from seq2seq.system import free_memory

_MOST_OF_FREE_MEMORY = 0.5


def sum_gradients(
    module: nn.Module,
    rank: int,
    size: int,
    group: dist.ProcessGroup | None,
    host: dist.ProcessGroup,
    share: Callable[[str], str] | None,
) -> nn.Module:
    """Wrap a module so that its backward pass sums the gradients of `size` ranks; all weights become those of rank 0.

    `share` broadcasts a text from rank 0; None if the ranks are on several machines.
    """
    on_cuda = next(module.parameters()).device.type == "cuda"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames broadcast_buffers
        wrapped = DistributedDataParallel(
            module,
            process_group=group,
            broadcast_buffers=False,
            find_unused_parameters=False,
            gradient_as_bucket_view=True,
            # On a CPU nothing overlaps with the backward pass, so all gradients go in one piece.
            bucket_cap_mb=None if on_cuda else 1 << 16,
        )
    if share is None or on_cuda:
        wrapped.register_comm_hook(group, sum_by_messages)
    else:
        wrapped.register_comm_hook(None, SharedMemorySum(rank, size, host, share).hook)
    return wrapped


def sum_by_messages(group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Hook that sums a bucket by gloo or nccl, concurrently with the backward pass."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    done: torch.futures.Future[list[Tensor]] = work.get_future()
    return done.then(lambda future: future.value()[0])


class SharedMemorySum:
    """Hook that sums a bucket through shared memory, for ranks on one machine.

    Every rank writes its gradient into a row of its own, adds one slice of all rows, and reads the whole sum. Two
    barriers suffice: a row is read between them only, and the sum of the last call is read before the first of this.
    """

    def __init__(self, rank: int, size: int, group: dist.ProcessGroup, share: Callable[[str], str]) -> None:
        self._rank, self._size, self._group = rank, size, group
        self._share = share
        self._rows: dict[tuple[int, int, torch.dtype], Tensor | None] = {}
        self._tick = torch.zeros(1)

    def hook(self, state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """The communication hook, called with every bucket; `state` is not used."""
        gradient = bucket.buffer()
        key = (bucket.index(), gradient.numel(), gradient.dtype)
        if key not in self._rows:
            self._rows[key] = self._allocate(gradient)
        rows = self._rows[key]
        if rows is None:
            return sum_by_messages(self._group, bucket)
        rows[self._rank].copy_(gradient)
        self._barrier()
        start, end = (gradient.numel() * rank // self._size for rank in (self._rank, self._rank + 1))
        total = torch.add(rows[0, start:end], rows[1, start:end], out=rows[self._size, start:end])
        for row in rows[2 : self._size, start:end]:
            total += row
        self._barrier()
        gradient.copy_(rows[self._size])
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(gradient)
        return future

    def _barrier(self) -> None:
        dist.all_reduce(self._tick, group=self._group)

    def _allocate(self, like: Tensor) -> Tensor | None:
        """A row for every rank and one for the sum, in anonymous memory that vanishes however the run ends; None if one
        of the ranks cannot map it."""
        numbers = (self._size + 1) * like.numel()
        descriptor = _allocate_memory(numbers * like.element_size()) if self._rank == 0 else None
        # Opened by process and descriptor: ranks of torchrun do not inherit descriptors from a common parent.
        path = self._share("" if descriptor is None else f"/proc/{os.getpid()}/fd/{descriptor}")
        rows = _map_memory(path, numbers, like.dtype) if path else None
        have_it = torch.tensor([float(rows is not None)])
        dist.all_reduce(have_it, group=self._group)
        if descriptor is not None:
            os.close(descriptor)  # the mappings stay
        return None if rows is None or int(have_it) < self._size else rows.view(self._size + 1, like.numel())


def _allocate_memory(size: int) -> int | None:
    """Descriptor of `size` bytes of memory, reserved at once: writing to sparse memory that runs out kills the process.
    None if there is no room, or the system has no such memory."""
    if size > _MOST_OF_FREE_MEMORY * free_memory(torch.device("cpu")):
        return None
    descriptor = None
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("seq2seq-gradients")
        else:  # a Python that was built for an old system
            descriptor = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
        os.posix_fallocate(descriptor, 0, size)
    except (OSError, AttributeError):
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _map_memory(path: str, numbers: int, dtype: torch.dtype) -> Tensor | None:
    """Shared memory as a tensor; None if this process may not open it."""
    try:
        return torch.from_file(path, shared=True, size=numbers, dtype=dtype)
    except RuntimeError:
        return None
