"""How the gradients of all ranks become one sum: hooks for DistributedDataParallel.

DistributedDataParallel averages, here gradients are summed: the loss is already divided by the tokens of all ranks.
Ranks of one machine that compute on its CPU add through shared memory: 32 MiB took 7 ms against 24 ms through gloo's
sockets, and every rank adds in the same order, so that the result depends neither on the rank nor on the layout of the
buckets. `scripts/bench/RESULTS.md` has the figures.
"""

# No deferred annotations here: DistributedDataParallel compares those of a hook with the types themselves.
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

_MEMORY = Path("/dev/shm")


def sum_gradients(
    module: nn.Module,
    rank: int,
    size: int,
    group: dist.ProcessGroup | None,
    host: dist.ProcessGroup,
    share: Callable[[str], str] | None,
) -> nn.Module:
    """The module, whose backward pass also sums the gradients of `size` ranks; all weights become those of rank 0.

    `share` gives every rank the text that rank 0 has; None where the ranks are not all on this machine.
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
    """The sum of a bucket over all ranks, by gloo or nccl, while the backward pass goes on."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    done: torch.futures.Future[list[Tensor]] = work.get_future()
    return done.then(lambda future: future.value()[0])


class SharedMemorySum:
    """The sum of a bucket over ranks that share this machine's memory.

    Every rank lays its gradient into a row of its own, adds one slice of all rows, and takes the whole sum back. Two
    barriers suffice: a row is read between them only, and the sum of the last call is read before the first of this.
    """

    def __init__(self, rank: int, size: int, group: dist.ProcessGroup, share: Callable[[str], str]) -> None:
        self._rank, self._size, self._group = rank, size, group
        self._share = share
        self._rows: dict[tuple[int, int, torch.dtype], Tensor | None] = {}
        self._tick = torch.zeros(1)

    def hook(self, state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """What DistributedDataParallel calls with every bucket; `state` is not used."""
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
        """A row for every rank and one for the sum; None where the shared memory is too small."""
        numbers = (self._size + 1) * like.numel()
        name = self._share(_new_file(numbers * like.element_size()) if self._rank == 0 else "")
        if not name:
            return None
        rows = torch.from_file(name, shared=True, size=numbers, dtype=like.dtype).view(self._size + 1, like.numel())
        self._barrier()
        if self._rank == 0:
            Path(name).unlink()  # the mappings stay; nothing is left behind, however the run ends
        return rows


def _new_file(size: int) -> str:
    """A file of `size` bytes in memory; "" where there is no room. A sparse one would kill whoever writes to it."""
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(prefix="seq2seq-", dir=_MEMORY)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, not a path
            os.posix_fallocate(file.fileno(), 0, size)
    except (OSError, AttributeError):
        if name:
            Path(name).unlink(missing_ok=True)
        return ""
    return name
