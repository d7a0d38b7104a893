"""Learning-rate schedules: their shape, by what the papers say of them."""

from __future__ import annotations

import itertools
import math

import pytest

from seq2seq.config import ScheduleSettings
from seq2seq.optimization.optimizers import learning_rate

KINDS = ("inverse_sqrt", "cosine", "wsd", "constant")


def rates(settings: ScheduleSettings, steps: int = 1000, peak: float = 2.0) -> list[float]:
    return [learning_rate(step, settings, peak=peak, max_steps=steps) for step in range(1, steps + 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 1, 100])
def test_warms_up_linearly_to_the_peak_and_never_rises_again(kind: str, warmup: int) -> None:
    curve = rates(ScheduleSettings(kind=kind, warmup_steps=warmup))
    assert max(curve) == pytest.approx(2.0 if warmup or kind != "cosine" else curve[0])
    for step in range(1, warmup):
        assert curve[step - 1] == pytest.approx(2.0 * step / warmup)
    after = curve[max(warmup, 1) - 1 :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
    assert min(curve) > 0


def test_inverse_sqrt_is_vaswanis() -> None:
    """Equation 3: d^-0.5 min(step^-0.5, step W^-1.5), up to the constant that fixes the peak."""
    curve = rates(ScheduleSettings(kind="inverse_sqrt", warmup_steps=100))
    paper = [min(step**-0.5, step * 100**-1.5) for step in range(1, 1001)]
    ratios = [ours / theirs for ours, theirs in zip(curve, paper, strict=True)]
    assert max(ratios) == pytest.approx(min(ratios))


def test_ends() -> None:
    cosine = rates(ScheduleSettings(kind="cosine", warmup_steps=100, final_ratio=0.1))
    assert cosine[-1] == pytest.approx(0.2)
    assert cosine[549] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 450 / 900))))
    stable = rates(ScheduleSettings(kind="wsd", warmup_steps=100, decay_fraction=0.5, final_ratio=0.0))
    assert stable[99] == stable[549] == 2.0
    assert stable[774] == pytest.approx(1.0)
    assert stable[-2] == pytest.approx(2.0 / 450)


def test_constant_and_the_step_after_the_end() -> None:
    assert learning_rate(10**9, ScheduleSettings(kind="constant", warmup_steps=5), peak=1.0, max_steps=10) == 1.0
    assert learning_rate(11, ScheduleSettings(kind="wsd", warmup_steps=5), peak=1.0, max_steps=10) > 0
