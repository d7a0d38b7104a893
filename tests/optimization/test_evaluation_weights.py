"""Evaluation weights: what they are, that training does not notice them, and that resuming is exact."""

from __future__ import annotations

import copy
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from seq2seq.config import OptimizerSettings
from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.optimization.evaluation_weights import PREFIX, EvaluationWeights
from seq2seq.optimization.optimizers import build_optimizer, load_optimizer_tensors, optimizer_tensors

CASES = {"plain": ("adamw", None), "ema": ("adamw", 0.9), "schedule_free": ("schedule_free", None)}


class Run:
    """A model, its optimizer and its evaluation weights."""

    def __init__(self, case: str) -> None:
        kind, decay = CASES[case]
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 1))
        self.optimizer = build_optimizer(
            self.model, OptimizerSettings.model_validate({"kind": kind, "learning_rate": 0.05})
        )
        self.weights = EvaluationWeights(self.model, self.optimizer, decay)

    def train(self, first: int, last: int) -> list[list[Tensor]]:
        """Steps `first` to `last`; the weights after each."""
        history = []
        for step in range(first, last + 1):
            self.optimizer.zero_grad()
            inputs = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
            (self.model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
            self.optimizer.step()
            self.weights.update()
            history.append(values(self.model))
        return history


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_moving_average_is_the_formulas() -> None:
    run = Run("ema")
    mean: list[Tensor] = []
    for update, weights in enumerate(run.train(1, 30), start=1):
        decay = min(0.9, (1 + update) / (10 + update))
        fresh = [weight.double() for weight in weights]
        mean = [decay * e + (1 - decay) * w for e, w in zip(mean, fresh, strict=True)] if mean else fresh
    with run.weights.in_model():
        for ours, theirs in zip(values(run.model), mean, strict=True):
            torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_training_does_not_notice_evaluation(case: str) -> None:
    watched, alone = Run(case), Run(case)
    addresses = [parameter.data_ptr() for parameter in watched.model.parameters()]
    with watched.weights.in_model():
        pass  # before the first update too
    for step in range(1, 6):
        watched.train(step, step)
        before = values(watched.model)
        with suppress(KeyboardInterrupt), watched.weights.in_model(), watched.weights.in_model():
            assert same(before, values(watched.model)) == (not watched.weights.differs or step == 1)
            assert [parameter.data_ptr() for parameter in watched.model.parameters()] == addresses
            raise KeyboardInterrupt
        assert same(before, values(watched.model))
    alone.train(1, 5)
    assert same(values(watched.model), values(alone.model))
    assert watched.weights.differs == (case != "plain")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("stop", "taken_inside"), [(0, False), (1, True), (4, False), (4, True)])
def test_resuming_is_exact(case: str, stop: int, taken_inside: bool) -> None:
    """Views of the parameters instead of copies would show the evaluation weights by the time they are written."""
    whole, stopped, resumed = Run(case), Run(case), Run(case)
    whole.train(1, 9)
    stopped.train(1, stop)
    optimizer, extra = optimizer_tensors(stopped.model, stopped.optimizer), stopped.weights.tensors()
    with stopped.weights.in_model():
        if taken_inside:
            extra = stopped.weights.tensors()
        model_file, optimizer, extra = copy.deepcopy((stopped.model.state_dict(), optimizer, extra))
    assert bool(extra) == stopped.weights.differs
    assert all(key.startswith(PREFIX) for key in extra)

    resumed.model.load_state_dict(model_file)
    load_optimizer_tensors(resumed.model, resumed.optimizer, optimizer)
    resumed.weights.load(extra)
    resumed.train(stop + 1, 9)
    assert same(values(whole.model), values(resumed.model))
    with whole.weights.in_model(), resumed.weights.in_model():
        assert same(values(whole.model), values(resumed.model))


@pytest.mark.parametrize("case", ["ema", "schedule_free"])
def test_evaluation_weights_are_the_better_ones(case: str) -> None:
    """Under a rate that is far too high the last weights jump about their mean."""
    run = Run(case)
    for group in run.optimizer.param_groups:
        group["lr"] = 0.3
    run.train(1, 300)
    inputs = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))

    def loss() -> float:
        return float((run.model(inputs) - inputs.sum(1, keepdim=True)).square().mean().detach())

    last = loss()
    with run.weights.in_model():
        assert loss() < last


def test_frozen_parameters_take_no_part() -> None:
    run = Run("ema")
    run.model[0].requires_grad_(False)
    weights = EvaluationWeights(run.model, run.optimizer, 0.5)
    names = {key.rpartition("|")[2] for key in weights.tensors()}
    assert names == {"1.weight", "1.bias", "2.weight", "2.bias", "updates"}


def test_mean_of_a_mean_and_missing_tensors_are_refused() -> None:
    run = Run("schedule_free")
    with pytest.raises(ConfigError, match="ema_decay"):
        EvaluationWeights(run.model, run.optimizer, 0.9)
    with pytest.raises(CheckpointError, match="average"):
        run.weights.load({})
