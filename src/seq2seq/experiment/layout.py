"""How a run is spread over this machine: how many ranks, on which device, with how many threads."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.errors import ConfigError
from seq2seq.experiment.device import choose_device, usable_cores
from seq2seq.training.ranks.group import Ranks
from seq2seq.training.ranks.meeting import RENDEZVOUS

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
