"""Training steps on an accelerator, by the simulated device: same losses as on the CPU, and no wait within a step."""

from __future__ import annotations

import math

import pytest
import torch

from seq2seq.config import OptimizerSettings
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.training.step import LossModule, train_step
from tests.simulated_device import needs_simulated_device, simulated, waits
from tests.training.test_trainer import CPU, MODELS, batch_of, pairs, tiny_model

__all__ = ["simulated"]
pytestmark = needs_simulated_device


def losses(kind: str, device: torch.device, precision: str = "fp32", **weights: float) -> list[float]:
    """Losses of two updates of a tiny model."""
    model = tiny_model(kind, dropout=0.1 if weights else 0.0).to(device)
    loss = LossModule(model, label_smoothing=0.1, **weights)
    optimizer = build_optimizer(model, OptimizerSettings())
    choice = Precision(PrecisionChoice(precision, ""), device)  # type: ignore[arg-type]
    group = [batch_of(pairs(8, 1)), batch_of(pairs(5, 2))]
    with waits() as waited:
        updates = [train_step(loss, group, optimizer, choice, max_gradient_norm=1.0) for _ in range(2)]
        assert waited == []
    return [float(update.loss) for update in updates]


@pytest.mark.parametrize("kind", MODELS)
def test_losses_are_those_of_the_cpu_without_a_wait(kind: str, simulated: torch.device) -> None:
    assert losses(kind, simulated) == pytest.approx(losses(kind, CPU), rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("weights", [{}, {"simcut": 3.0, "cutoff": 0.2}], ids=["plain", "simcut"])
def test_mixed_precision_and_two_passes_never_wait(
    kind: str, weights: dict[str, float], simulated: torch.device
) -> None:
    found = losses(kind, simulated, "bf16", **weights)
    assert all(map(math.isfinite, found))
    if not weights:
        assert found == pytest.approx(losses(kind, CPU), rel=0.02)


def test_an_update_that_is_not_finite_is_skipped_without_a_wait(simulated: torch.device) -> None:
    model = tiny_model("transformer").to(simulated)
    optimizer = build_optimizer(model, OptimizerSettings())
    before = [parameter.detach().cpu().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    precision = Precision(PrecisionChoice("fp32", ""), simulated)
    with waits() as waited:
        norm = precision.step(model, optimizer, 1.0)
        assert waited == []
    assert torch.isnan(norm)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.detach().cpu(), old)
