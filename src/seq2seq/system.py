"""The machine: CPU cores, bf16 support, memory, the C allocator.

Only the standard library is imported at the top, so that the command line can report that memory ran out while a
library was loading.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Number of cores that this process may use: those of its affinity, within the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_control_group_quotas(_CONTROL_GROUPS)]))


def is_first_rank() -> bool:
    """True if this process is the first of the ranks that torchrun or a run has started, or no rank at all."""
    return os.environ.get("RANK", "0") == "0"


def computes_bf16() -> bool:
    """Whether oneDNN computes in bf16 here; without it torch fails in some layers and is slow in others."""
    import torch  # takes a second or two; counting cores does without

    # A private name of torch: without an answer, fp32 is the safe choice.
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return bool(torch._C._has_mkldnn and supported())


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc never to return freed memory to the system; False with another C library.

    glibc returns large blocks when they are freed, and every training step then pays for fresh, zeroed pages: a fifth
    of the step's time. So does every step of a search. `scripts/bench/RESULTS.md` has the figures.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)


GENERATED_PRODUCTS = 256
"""Products whose code oneDNN keeps in a training, half a megabyte each. Its default of 1,024 is no faster here, where
batches have thousands of shapes, and takes 0.3 GB more."""


def limit_generated_code() -> None:
    """Let oneDNN keep less of the code it generates, unless the user has set a number.

    Takes effect in a process that has not computed a product with oneDNN, and in those that it starts.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(GENERATED_PRODUCTS))


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Context without garbage collection; its objects are left out of later ones, too.

    For the import of torch and the loading of a model: each collection of their objects would take 0.2 s, and there
    are several during the import alone.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


OUT_OF_MEMORY_HINT = "end other programs; or, where a limit is set, lift it: ulimit -v unlimited"

_SIGNS = (
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "std::bad_alloc",
    "could not create a primitive",
)
_OTHER_CAUSES = ("static tls block", "operation not permitted", "permission denied")
"""Messages of the dynamic loader for a library loaded too late, or on a disk mounted noexec."""


def what_ran_out(error: BaseException) -> str | None:
    """One line about an error if it means that memory ran out; None for any other error.

    Libraries wrap messages of the dynamic loader in errors of their own, so the earliest cause counts.
    """
    found: str | None = None
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        lines = [line.strip() for line in str(cause).splitlines()]
        reasons = [line for line in lines if any(sign in line.lower() for sign in _SIGNS)]
        if reasons and isinstance(cause, (ImportError, OSError, RuntimeError)):
            if not any(other in reasons[0].lower() for other in _OTHER_CAUSES):
                found = f"out of memory: {reasons[0]}"
        elif isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            found = "out of memory"
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


class MainMemory(NamedTuple):
    """Main memory of this machine, in bytes; None for what the system does not tell."""

    total: int | None
    free: int | None
    limit: int | None
    """The least that a control group (a container) around this process may use; None without such a limit."""


def main_memory() -> MainMemory:
    """Total and free memory of the system, and the limit of the control groups."""
    known = _meminfo()
    total = known.get("MemTotal")
    if total is None and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = min((limit for limit, _ in _control_group_memory(_CONTROL_GROUPS)), default=None)
    if limit is not None and total is not None and limit >= total:  # version 1 has a huge number for no limit
        limit = None
    return MainMemory(total, known.get("MemAvailable"), limit)


_UNKNOWN_MEMORY = 2 << 30


def free_memory(device: torch.device) -> int:
    """Bytes of free memory: of the unified memory for MPS, else the least that the system, the control groups of the
    process and `ulimit -v` leave; a cautious guess if nothing is known."""
    if device.type == "mps":
        import torch

        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    memory = main_memory()
    system = memory.free or (memory.total or 2 * _UNKNOWN_MEMORY) // 2
    within_limits = [free for _, free in _control_group_memory(_CONTROL_GROUPS)]
    addresses = address_space_left()
    return max(0, min([system, *within_limits, *([] if addresses is None else [addresses])]))


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process so far: of the memory of its GPU, else of main memory."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) << 10
    except (OSError, ValueError, IndexError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def address_space_left() -> int | None:
    """Bytes that this process may still address; None without a limit (`ulimit -v`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    return max(0, limit - used)


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty if there is none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}


_MEMBERSHIP = Path("/proc/self/cgroup")


def _control_groups(root: Path, controller: str, membership: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of the control groups around this process, and whether they are of version 2, innermost first."""
    try:
        groups = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, name in groups:
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controllers if (root / controllers).is_dir() else root / controller
        # A container sees its own group as the root, under its name outside.
        inner = base / name.lstrip("/")
        for folder in (inner, *[each for each in inner.parents if each.is_relative_to(base)]):
            yield folder, not controllers


def _control_group_memory(root: Path, membership: Path = _MEMBERSHIP) -> Iterator[tuple[int, int]]:
    """Limit and free bytes of each control group around this process (versions 1 and 2) that has a limit."""
    for folder, is_new in _control_groups(root, "memory", membership):
        old = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        names = ("memory.max", "memory.current") if is_new else old
        try:
            limit, usage = (int((folder / name).read_text()) for name in names)
            statistics = (folder / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # no such group here, or "max"
            continue
        # Cached files are counted as used, but can be evicted.
        cached = [int(line.split()[1]) for line in statistics if line.split()[0].endswith("inactive_file")]
        yield limit, limit - usage + max(cached, default=0)


def _control_group_quotas(root: Path, membership: Path = _MEMBERSHIP) -> Iterator[int]:
    """Whole cores' worth of time in each control group around this process (versions 1 and 2) that has a quota."""
    for folder, is_new in _control_groups(root, "cpu", membership):
        try:
            if is_new:
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            else:
                quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        except (OSError, ValueError):  # no such group here, or "max"
            continue
        if quota > 0 and period > 0:  # -1 is no quota in version 1
            yield quota // period
