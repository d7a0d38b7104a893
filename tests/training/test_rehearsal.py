"""Rehearsals leave no trace."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from seq2seq.config import OptimizerSettings
from seq2seq.optimization.optimizers import build_optimizer, optimizer_tensors
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.training.rehearsal import rehearsing

CPU = torch.device("cpu")


class Layered(nn.Module):
    """Dropout and a buffer, so that a trace would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 4)
        self.norm = nn.BatchNorm1d(32)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.second(torch.dropout(self.norm(self.first(x)), 0.5, self.training))
        return hidden


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, rows: int = 16) -> Tensor:
    precision.backward(model(torch.randn(rows, 32)).square().mean())
    norm = precision.step(model, optimizer, 1.0)
    optimizer.zero_grad(set_to_none=True)
    return norm


@pytest.mark.parametrize("kind", ["adamw", "schedule_free", "muon", "adafactor"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_rehearsal_leaves_no_trace(kind: Literal["adamw", "schedule_free", "muon", "adafactor"], steps: int) -> None:
    model = Layered()
    optimizer = build_optimizer(model, OptimizerSettings(kind=kind, weight_decay=0.1))
    precision = Precision(PrecisionChoice("fp32", ""), CPU)
    for _ in range(steps):
        one_step(model, optimizer, precision)
    model.eval()
    random_state, scaler = torch.get_rng_state(), precision.scaler
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer_tensors(model, optimizer))
    with suppress(KeyboardInterrupt), rehearsing(model, optimizer, precision):
        model.train()
        one_step(model, optimizer, precision)
        optimizer.param_groups[0]["lr"] = 7.0
        assert len(optimizer_tensors(model, optimizer)) >= len(list(model.parameters()))  # its memory is taken
        raise KeyboardInterrupt
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    after = optimizer_tensors(model, optimizer)
    assert after.keys() == state.keys()
    assert all(torch.equal(state[key], after[key]) for key in state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert precision.scaler is scaler
    assert not model.training
    assert optimizer.param_groups[0]["lr"] == OptimizerSettings().learning_rate
