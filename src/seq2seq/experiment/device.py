"""Which device computes, with how many threads."""

from __future__ import annotations

import os

import torch

from seq2seq.cpu import available_cores
from seq2seq.errors import ConfigError


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(
            f"device: {wanted} is not a device", hint="auto, cpu, cuda, cuda:N or mps", code="device.unknown"
        )
    found = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
    if device.type != "cpu" and (device.index or 0) >= found:
        raise ConfigError(
            f"device: {wanted} is not there ({found} {device.type} devices found)",
            hint="device auto",
            code="device.missing",
        )
    return device


def usable_cores() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else available_cores()


def set_threads(wanted: int) -> int:
    """Let torch use `wanted` threads, where 0 all `usable_cores`; return how many."""
    threads = wanted or usable_cores()
    torch.set_num_threads(threads)
    return threads
