"""Random states: of this process, and of all ranks as a checkpoint keeps them (`rng|cpu|<rank>`, `rng|cuda|<rank>`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seq2seq.console import warn
from seq2seq.distributed.ranks import Ranks


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states that decide what is drawn next, by the kind of device: the CPU's, and that of another `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Put back what `random_state` gave; a state that is missing, or of another kind of device, changes nothing."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def random_states(ranks: Ranks, device: torch.device) -> dict[str, Tensor]:
    """The states of every rank; each must call it."""
    return {
        f"rng|{kind}|{rank}": part
        for kind, state in random_state(device).items()
        for rank, part in enumerate(ranks.gather(state))
    }


def set_random_states(tensors: Mapping[str, Tensor], ranks: Ranks, device: torch.device) -> None:
    """Go on with this rank's state where there is one, and say so where the number of ranks was another."""
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
