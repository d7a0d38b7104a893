"""Automatic batch size: the largest batch that fits into memory, found by trying.

On CUDA the size grows until memory is nearly full, since running out of it raises an exception there. Elsewhere it may
end the process, so two small trials are measured and extrapolated linearly.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seq2seq.errors import ResourceError
from seq2seq.system import free_memory

HEAD_ROOM = 0.9
"""Share of a GPU's free memory that a batch may take."""
HOST_HEAD_ROOM = 0.5
"""Share of a computer's free memory for live tensors: the process grows by 1.4 to 1.8 times their size."""
_MULTIPLE = 8


def largest_useful(batch_type: Literal["tokens", "sentences"], device: torch.device) -> int:
    """Batch size from which on larger batches are not faster."""
    if batch_type == "sentences":
        return 1024
    return 65_536 if device.type == "cuda" else 8192


def fit_batch_size(
    try_batch: Callable[[int], None], smallest: int, largest: int, *, device: torch.device, processes: int = 1
) -> int:
    """The largest size (a multiple of 8, or an end of the range) that fits into memory, at most `largest`.

    Args:
        try_batch: takes one whole training step on the longest pairs in a batch of this size, without lasting effect
            (see `rehearsing`), as the model is before it is compiled. On CUDA it may run out of memory, as torch's
            error or as a `ResourceError`.
        smallest: what must fit, such as the longest pair's tokens.
        largest: see `largest_useful`.
        processes: how many will do the same in the memory of this machine, unless each has a GPU.

    Raises:
        ResourceError: the smallest does not fit.
    """
    if smallest >= largest:
        return smallest
    if device.type == "cuda":
        fitted = grow(lambda size: _cuda_share(try_batch, size, device), smallest, largest)
        torch.cuda.empty_cache()
    else:
        fitted = extrapolate(
            lambda size: peak_bytes(lambda: try_batch(size)),
            smallest,
            largest,
            HOST_HEAD_ROOM * free_memory(device) / processes,
        )
    if fitted is None:
        raise ResourceError(
            f"not even a batch of {smallest} fits into the memory of {device}",
            hint="training.activation_checkpointing=true, a smaller data.cleaning.max_tokens, or a smaller model",
            code="memory.training",
        )
    return fitted


def grow(share: Callable[[int], float | None], smallest: int, largest: int) -> int | None:
    """Double the size while it fits, then try once in between.

    Args:
        share: the part of memory that a size takes; None where it ran out.

    Returns:
        The largest size tried whose share is at most `HEAD_ROOM`; the smallest also where it is tight; None where it
        does not fit.
    """
    best, used = smallest, share(smallest)
    if used is None:
        return None
    before, before_used = 0, 0.0
    failed = None
    while failed is None and best < largest and used <= HEAD_ROOM:
        size = min(2 * best, largest)
        found = share(size)
        if found is None or found > HEAD_ROOM:
            failed = size
        else:
            before, before_used, best, used = best, used, size, found
    if failed is not None:
        slope = max((used - before_used) / (best - before), 1e-12)
        between = _rounded(min(best + (HEAD_ROOM - used) / slope, failed - 1), best)
        found = share(between) if between > best else None
        if found is not None and found <= HEAD_ROOM:
            return between
    return best


def extrapolate(measure: Callable[[int], int], smallest: int, largest: int, available: float) -> int | None:
    """The size at which memory, linear in the size through two measured points, reaches `available` bytes.

    The second trial is made only where twice the first one's memory is there. None where the smallest does not fit.
    """
    first = measure(smallest)
    if first > available:
        return None
    size = min(2 * smallest, largest)
    if 2 * first > available:
        return smallest
    second = measure(size)
    slope = (second - first) / (size - smallest)
    if slope <= 0.0:
        return largest
    return _rounded(min(smallest + (available - first) / slope, largest), smallest, largest)


def _rounded(size: float, least: int, most: int | None = None) -> int:
    """Down to a multiple, but not below `least`, and not where it is `most` exactly."""
    whole = int(size)
    return whole if whole == most else max(least, whole // _MULTIPLE * _MULTIPLE)


def _cuda_share(try_batch: Callable[[int], None], size: int, device: torch.device) -> float | None:
    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    available = free + torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        try_batch(size)
    except (torch.OutOfMemoryError, ResourceError):
        return None
    return torch.cuda.max_memory_reserved(device) / available


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak bytes of live tensors that `work` creates.

    Counted at torch's operations: the peak of the process includes memory that earlier work has freed, and would not
    grow.
    """
    counter = _LiveBytes()
    with counter:
        work()
    return counter.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the bytes of storages from their creation to their release."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # An operand that has not been seen existed before: it is remembered, but not counted.
        for operand in tree_leaves((args, kwargs)):
            self._track(operand, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._track(tensor, new=True)
        return result

    def _track(self, value: Any, *, new: bool) -> None:
        if not isinstance(value, Tensor):
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if new else 0

        def gone(_: object) -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)
