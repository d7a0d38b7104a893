"""How much memory there is for the taking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from seq2seq.console import warn

_UNKNOWN_MEMORY = 2 << 30
_SAFE_ADDRESS_SPACE = 4 << 30
"""Below, threads that torch starts may fail; it has been seen to end the process then."""


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken without harm: of the unified memory (MPS), else the least of what the system, the
    process's control groups and `ulimit -v` leave; a cautious guess where nothing tells."""
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    system = _meminfo().get("MemAvailable")
    if system is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        system = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    rooms = [system or _UNKNOWN_MEMORY, *_control_group_rooms(Path("/sys/fs/cgroup"))]
    if (addresses := address_space_left()) is not None:
        rooms.append(addresses)
    return max(0, min(rooms))


def address_space_left() -> int | None:
    """Bytes that this process may still address; None where nothing (`ulimit -v`) limits it."""
    try:
        import resource  # not everywhere
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    return max(0, limit - used)


def warn_of_little_address_space() -> None:
    """Say before training begins that it may run into the limit of a shell or a cluster."""
    left = address_space_left()
    if left is not None and left < _SAFE_ADDRESS_SPACE:
        warn(
            f"{left / 2**30:,.1f} GiB of address space are left to this process, and training may fail for want of it; "
            "lift the limit before: ulimit -v unlimited"
        )


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
