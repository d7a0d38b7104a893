"""The choice of a precision, clipping, and the scale of fp16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seq2seq.errors import ConfigError
from seq2seq.optimization.precision import Precision, PrecisionChoice, bf16_speedup, choose_precision

CPU = torch.device("cpu")


def test_clipping_measures_before_and_limits_after() -> None:
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()
    precision = Precision(PrecisionChoice("fp32", ""), CPU)
    precision.backward(100 * model(torch.ones(1, 3)).sum())
    norm = precision.step(model, optimizer, 0.5)
    assert norm.item() == pytest.approx(100 * 3**0.5)
    assert (model.weight - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_precision_is_chosen_with_a_reason_and_refused_where_impossible() -> None:
    choice = choose_precision("auto", CPU)
    assert choice.name in ("fp32", "bf16")
    assert "CPU" in choice.reason
    assert choose_precision("fp32", CPU).name == "fp32"
    with pytest.raises(ConfigError, match="fp16"):
        choose_precision("fp16", CPU)


def test_bf16_on_a_cpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback out of oneDNN, in the first step."""
    monkeypatch.setattr("seq2seq.optimization.precision.computes_bf16", lambda: False)
    assert choose_precision("auto", CPU).name == "fp32"
    with pytest.raises(ConfigError, match="bf16") as caught:
        choose_precision("bf16", CPU)
    assert caught.value.hint == "training.precision=auto"


@pytest.mark.parametrize(("speedup", "name"), [(0.6, "fp32"), (1.1, "fp32"), (2.5, "bf16")])
def test_a_cpu_with_bf16_instructions_takes_the_faster_precision(
    speedup: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Xeon without AMX has the instructions, and trained 1.5 times as long with them."""
    for condition in ("computes_bf16", "_has_bf16_instructions"):
        monkeypatch.setattr(f"seq2seq.optimization.precision.{condition}", lambda: True)
    monkeypatch.setattr("seq2seq.optimization.precision.bf16_speedup", lambda: speedup)
    assert choose_precision("auto", CPU)[::2] == (name, True)


def test_products_are_timed_in_one_thread_and_once() -> None:
    bf16_speedup.cache_clear()
    threads = torch.get_num_threads()
    assert 0 < bf16_speedup() < 1000
    assert torch.get_num_threads() == threads
    assert bf16_speedup() == bf16_speedup()


def test_the_loss_scale_of_fp16_grows_at_the_same_update_after_a_resume() -> None:
    """Only the scale was kept, not how long it had held: a resumed run raised it later than an unbroken one."""

    def update(precision: Precision, model: nn.Linear, optimizer: torch.optim.Optimizer) -> float:
        precision.backward(model(torch.ones(1, 3)).sum())
        precision.step(model, optimizer, None)
        optimizer.zero_grad()
        return precision.state()["scale"]

    def new() -> tuple[Precision, nn.Linear, torch.optim.Optimizer]:
        precision, model = Precision(PrecisionChoice("fp16", ""), CPU), nn.Linear(3, 1)
        precision.scaler.set_growth_interval(3)
        return precision, model, torch.optim.SGD(model.parameters(), 1e-6)

    unbroken = new()
    scales = [update(*unbroken) for _ in range(4)]
    assert scales[1] < scales[2] == scales[3]
    stopped, resumed = new(), new()
    for _ in range(2):
        update(*stopped)
    resumed[0].load_state(stopped[0].state())
    assert [update(*resumed), update(*resumed)] == scales[2:]
    in_fp32 = Precision(PrecisionChoice("fp32", ""), CPU)
    in_fp32.load_state(stopped[0].state())
    assert not in_fp32.scaler.is_enabled()
