"""Random states of this process and of all ranks, as a checkpoint stores them (`rng|cpu|<rank>`, `rng|cuda|<rank>`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seq2seq.console import warn
from seq2seq.distributed.ranks import Ranks


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of the random generators by kind of device: of the CPU, and of `device` if it is another."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Restore what `random_state` returned; missing states and those of another kind of device are ignored."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def random_states(ranks: Ranks, device: torch.device) -> dict[str, Tensor]:
    """Random states of all ranks; every rank must call it."""
    return {
        f"rng|{kind}|{rank}": part
        for kind, state in random_state(device).items()
        for rank, part in enumerate(ranks.gather(state))
    }


def set_random_states(tensors: Mapping[str, Tensor], ranks: Ranks, device: torch.device) -> None:
    """Restore the random state of this rank, and warn if the number of ranks has changed."""
    saved = sum(name.startswith("rng|cpu|") for name in tensors)
    if saved != ranks.size:
        warn(
            f"this run was saved by {_ranks(saved)} and goes on with {_ranks(ranks.size)}: "
            "the same batches, but other dropout masks"
        )
    names = {kind: f"rng|{kind}|{ranks.rank}" for kind in ("cpu", "cuda", "mps")}
    set_random_state(device, {kind: tensors[name] for kind, name in names.items() if name in tensors})


def _ranks(count: int) -> str:
    return "1 rank" if count == 1 else f"{count} ranks"
