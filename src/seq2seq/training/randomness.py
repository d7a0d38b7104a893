"""The random states of all ranks, as a checkpoint keeps them: `rng|cpu|<rank>`, and `rng|cuda|<rank>` on GPUs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seq2seq.console import warn
from seq2seq.training.distributed import Ranks


def random_states(ranks: Ranks, device: torch.device) -> dict[str, Tensor]:
    """The states of every rank; each must call it."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {
        f"rng|{kind}|{rank}": part for kind, state in states.items() for rank, part in enumerate(ranks.gather(state))
    }


def set_random_states(tensors: Mapping[str, Tensor], ranks: Ranks, device: torch.device) -> None:
    """Go on with this rank's state where there is one, and say so where the number of ranks was another."""
    saved = sum(name.startswith("rng|cpu|") for name in tensors)
    if saved != ranks.size:
        warn(
            f"this run was saved by {_ranks(saved)} and goes on with {_ranks(ranks.size)}: "
            "the same batches, but other dropout masks"
        )
    if (state := tensors.get(f"rng|cpu|{ranks.rank}")) is not None:
        torch.set_rng_state(state)
    if device.type == "cuda" and (state := tensors.get(f"rng|cuda|{ranks.rank}")) is not None:
        torch.cuda.set_rng_state(state, device)


def _ranks(count: int) -> str:
    return "1 rank" if count == 1 else f"{count} ranks"
