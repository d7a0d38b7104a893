"""Placement of a run: its device, the number of ranks, and the CPU threads of each.

`place` resolves all three once, from the config and the machine, and the result is handed down.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.devices import choose_device
from seq2seq.distributed.rendezvous import is_rank
from seq2seq.errors import ConfigError
from seq2seq.system import available_cores

_MAX_CPU_RANKS = 8
"""Default maximum of ranks on a CPU: each has the whole model and optimizer in memory."""

_MAX_RANKS_PER_CORE = 4
"""Ranks that share a core take turns and wait for each other; a hundred of them did not finish a step in minutes."""


class Placement(NamedTuple):
    """Device, ranks and threads of a run."""

    device: torch.device
    """The device of this process; of several GPUs the parent of the ranks has `cuda`."""
    ranks: int
    """Processes that share every batch, on all machines together."""
    threads: int
    """CPU threads of each rank."""


def place(config: Config) -> Placement:
    """Resolve device, ranks and threads of a run.

    Raises:
        ConfigError: there is no such device, or there are fewer devices than asked for.
    """
    device = choose_device(config.device)
    if is_rank():  # started by torchrun; ranks of `distributed.launch` are handed theirs
        return on_local_device(Placement(device, int(os.environ["WORLD_SIZE"]), config.threads or usable_cores()))
    if device.type == "cpu":
        if config.devices > _MAX_RANKS_PER_CORE * available_cores():
            raise ConfigError(
                f"devices: {config.devices}, and this process may use {available_cores()} cores of the CPU",
                hint="devices=0 gives every core a rank, up to eight",
                code="device.missing",
            )
        if config.devices:
            return Placement(device, config.devices, config.threads or (1 if config.devices > 1 else usable_cores()))
        cores = config.threads or usable_cores()
        ranks = min(cores, _MAX_CPU_RANKS)
        return Placement(device, ranks, cores // ranks)
    gpus = torch.cuda.device_count() if device.type == "cuda" and config.device in ("auto", "cuda") else 1
    if config.devices > gpus:
        raise ConfigError(
            f"devices: {config.devices} with device: {config.device}, which is {gpus} here",
            hint=f"devices={gpus}",
            code="device.missing",
        )
    ranks = config.devices or gpus
    return Placement(device, ranks, config.threads or max(1, usable_cores() // ranks))


def on_local_device(placement: Placement) -> Placement:
    """The placement as one rank sees it: local rank i computes on `cuda:i`.

    Raises:
        ConfigError: there are fewer GPUs than ranks on this machine.
    """
    device = placement.device
    if device.type == "cuda":
        index, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if index >= gpus:
            raise ConfigError(
                f"local rank {index} has no GPU: there are {gpus}",
                hint=f"--nproc-per-node={gpus}",
                code="device.missing",
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return placement._replace(device=device)


def usable_cores() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else available_cores()
