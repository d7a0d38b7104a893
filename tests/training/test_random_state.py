"""Random states are saved for every kind of device that draws."""

from __future__ import annotations

import pytest
import torch

from seq2seq.distributed.ranks import Ranks
from seq2seq.training.random_state import random_states, set_random_states


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_state_of_a_gpu_is_saved_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Apple's GPU a resumed run went on with other dropout masks: only CUDA's state was kept."""
    state, seen = torch.arange(4, dtype=torch.uint8), []
    monkeypatch.setattr(f"torch.{kind}.get_rng_state", lambda *device: state)
    monkeypatch.setattr(f"torch.{kind}.set_rng_state", lambda new, *device: seen.append(new))
    saved = random_states(Ranks.single(), torch.device(kind))
    assert list(saved) == ["rng|cpu|0", f"rng|{kind}|0"]
    torch.rand(3)
    set_random_states(saved, Ranks.single(), torch.device(kind))
    assert torch.equal(saved["rng|cpu|0"], torch.get_rng_state())
    assert len(seen) == 1
    assert torch.equal(seen[0], state)
    set_random_states(saved, Ranks.single(), torch.device("cpu"))  # goes on elsewhere
    assert len(seen) == 1
