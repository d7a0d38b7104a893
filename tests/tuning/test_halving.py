"""The plan of a budget."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seq2seq.errors import UsageError
from seq2seq.sealed_records import Estimate
from seq2seq.tuning.halving import MOST_TRIALS, Budget, make_plan


def estimate(steps: int = 2000, step: float = 0.05, validation: float = 1.0, end: float = 5.0) -> Estimate:
    return Estimate(
        parameters=1,
        steps=steps,
        passes=1.0,
        warmup_steps=1,
        validate_every=max(1, steps // 20),
        step_seconds=step,
        validation_seconds=validation,
        preparation_seconds=0.0,
        end_seconds=end,
        memory=1,
    )


@example(minutes=0.5, most=4, steps=2, step=0.5, validation=0.0, end=2.5, start=1.0, members=4)
@given(
    minutes=st.floats(0.05, 3000),
    most=st.integers(2, 10_000),
    steps=st.integers(1, 100_000),
    step=st.floats(0.001, 5),
    validation=st.floats(0, 100),
    end=st.floats(0, 100),
    start=st.floats(0, 30),
    members=st.integers(1, 12),
)
def test_a_plan_fits_into_its_budget(
    minutes: float, most: int, steps: int, step: float, validation: float, end: float, start: float, members: int
) -> None:
    found = estimate(steps, step, validation, end)
    try:
        plan = make_plan(Budget(minutes, 0.0, start, most, members), found)
    except UsageError:
        return
    assert 2 <= plan.trials <= min(most, MOST_TRIALS)
    assert plan.shares[-1] == 1.0
    assert list(plan.shares) == sorted(set(plan.shares))
    assert plan.seconds <= found.training_seconds
    assert (plan.steps is None) == (plan.seconds == found.training_seconds)
    assert plan.cost(plan.trials, start) <= 60 * minutes + 1e-6
    assert plan.survivors(plan.trials, len(plan.shares) - 1) >= min(members, plan.trials)
    assert plan.cost(plan.trials, start, first=1) <= plan.cost(plan.trials, start)


def test_more_time_is_longer_trials_then_more_of_them() -> None:
    plans = [make_plan(Budget(minutes, 0.0, 3.0, 10_000), estimate()) for minutes in (2, 4, 8, 16, 60)]
    assert [plan.seconds for plan in plans] == sorted(plan.seconds for plan in plans)
    assert [plan.trials for plan in plans] == sorted(plan.trials for plan in plans)
    assert plans[-1].seconds == estimate().training_seconds
    assert plans[-1].steps is None
    assert plans[-1].trials > 20


def test_a_budget_that_is_too_short_names_one_that_is_not() -> None:
    with pytest.raises(UsageError) as error:
        make_plan(Budget(0.2, 5.0, 3.0, 10), estimate())
    assert error.value.hint is not None
    minutes = float(error.value.hint.split()[1].rstrip("m,"))
    assert make_plan(Budget(minutes, 5.0, 3.0, 10), estimate()).trials >= 2
