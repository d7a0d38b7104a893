"""Placement of a run: its device, how many ranks, and how many CPU threads each."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.distributed.ranks import Ranks
from seq2seq.distributed.rendezvous import RENDEZVOUS
from seq2seq.errors import ConfigError
from seq2seq.system import available_cores


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


_CPU_RANKS = 8
"""Most ranks on a CPU unless asked for more: each has the whole model and optimizer in memory."""


class Layout(NamedTuple):
    """How a run is spread over this machine."""

    ranks: int
    threads: int
    """CPU threads of each rank; 0 leaves it to torch."""


def layout(config: Config) -> Layout:
    """How many ranks a config wants here, with how many threads each.

    Raises:
        ConfigError: there are not so many devices.
    """
    device = choose_device(config.device)
    if device.type == "cpu":
        if config.devices:
            return Layout(config.devices, config.threads or (1 if config.devices > 1 else 0))
        cores = config.threads or usable_cores()
        ranks = min(cores, _CPU_RANKS)
        return Layout(ranks, cores // ranks)
    found = torch.cuda.device_count() if device.type == "cuda" and config.device in ("auto", "cuda") else 1
    if config.devices > found:
        raise ConfigError(
            f"devices: {config.devices} with device: {config.device}, which is {found} here",
            hint=f"devices={found}",
            code="device.missing",
        )
    ranks = config.devices or found
    return Layout(ranks, config.threads or (max(1, usable_cores() // ranks) if ranks > 1 else 0))


def rank_device(config: Config) -> torch.device:
    """The device of this process: `cuda:i` for the rank of local number i.

    Raises:
        ConfigError: it is not there.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and Ranks.expected():
        number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= found:
            raise ConfigError(
                f"local rank {number} has no GPU: there are {found}",
                hint=f"--nproc-per-node={found}",
                code="device.missing",
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    return device


def rank_threads(config: Config) -> int:
    """CPU threads of this process: its share of the config's where `launch` has started it; 0 leaves it to torch."""
    return 0 if RENDEZVOUS in os.environ else config.threads
