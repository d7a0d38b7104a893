"""How large a batch fits into memory, found by trying; and trials that leave no trace.

On CUDA sizes grow until memory is nearly full: running out of it there is an exception. Elsewhere it may end the
process, so two small trials are measured and a line is drawn through them.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seq2seq.errors import ResourceError
from seq2seq.optimization.precision import Precision

HEAD_ROOM = 0.9
"""Share of a GPU's free memory that a batch may take."""
HOST_HEAD_ROOM = 0.5
"""The same of a computer's, in bytes of live tensors: the process grows by 1.4 to 1.8 times as much."""
_MULTIPLE = 8
_UNKNOWN_MEMORY = 2 << 30


def largest_useful(batch_type: Literal["tokens", "sentences"], device: torch.device) -> int:
    """The size beyond which a larger batch brings no speed, where memory does not end it before."""
    if batch_type == "sentences":
        return 1024
    return 65_536 if device.type == "cuda" else 8192


@contextmanager
def rehearsing(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision) -> Iterator[None]:
    """Training steps inside leave no trace: afterwards weights, buffers, optimizer, loss scale, mode and random state
    are those of before, bit for bit, and there are no gradients.

    Copies lie on the host, so that a GPU's peak is that of a real step. Loss scaling is off inside: its first steps
    overflow by design and would skip the optimizer, whose memory counts.
    """
    tensors = [*model.parameters(), *model.buffers()]
    kept = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    state = {
        parameter: {slot: _copied(value) for slot, value in slots.items()}
        for parameter, slots in optimizer.state.items()
    }
    rates = [group["lr"] for group in optimizer.param_groups]
    random_state, scaler, training = _random_state(precision.device), precision.scaler, model.training
    precision.scaler = torch.amp.GradScaler(precision.device.type, enabled=False)
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
        _restore_state(optimizer, state)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        precision.scaler = scaler
        model.train(training)
        _set_random_state(precision.device, random_state)


def fit_batch_size(
    try_batch: Callable[[int], None], smallest: int, largest: int, *, device: torch.device, processes: int = 1
) -> int:
    """The largest size (a multiple of 8, or an end of the range) that fits, or `largest` where memory does not end it.

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
    """The most bytes of tensors made by `work` and alive at one time.

    Counted at torch's operations: the process's own peak also holds what earlier work has freed, and would show no
    growth.
    """
    counter = _LiveBytes()
    with counter:
        work()
    return counter.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts storages from the operation that makes them to their end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # An operand that has not been seen was there before: it is known, but not counted.
        for operand in tree_leaves((args, kwargs)):
            self._meet(operand, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._meet(tensor, new=True)
        return result

    def _meet(self, value: Any, *, new: bool) -> None:
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


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken without harm: of the unified memory (MPS), else the least of what the system and the
    process's control groups leave; a cautious guess where nothing tells."""
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    system = _meminfo().get("MemAvailable")
    if system is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        system = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(0, min([system or _UNKNOWN_MEMORY, *_control_group_rooms(Path("/sys/fs/cgroup"))]))


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}


def _control_group_rooms(root: Path, membership: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left in each control group around this process (versions 1 and 2), where one has a limit."""
    try:
        groups = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, name in groups:
        if controllers not in ("", "memory"):
            continue
        base = root / controllers
        old = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, usage = old if controllers else ("memory.max", "memory.current")
        # A container sees its own group as the root, under the name that it has outside.
        inner = base / name.lstrip("/")
        for folder in (inner, *[each for each in inner.parents if each.is_relative_to(base)]):
            try:
                room = int((folder / limit).read_text()) - int((folder / usage).read_text())
                statistics = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):  # no such group here, or "max"
                continue
            # Cached files are counted as used, but give way.
            cached = [int(line.split()[1]) for line in statistics if line.split()[0].endswith("inactive_file")]
            yield room + max(cached, default=0)


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _restore_state(optimizer: torch.optim.Optimizer, state: dict[Tensor, dict[str, Any]]) -> None:
    """What is left of `state` gets its values back in place; what came later goes."""
    for parameter in [each for each in optimizer.state if each not in state]:
        del optimizer.state[parameter]
    for parameter, slots in state.items():
        current = optimizer.state[parameter]
        for slot in [each for each in current if each not in slots]:
            del current[slot]
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                current[slot].copy_(value)
            else:
                current[slot] = value


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])
