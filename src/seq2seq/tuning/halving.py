"""Successive halving within a time budget (Jamieson and Talwalkar 2016), with a factor of three.

Every trial trains to the first share of its steps, a third of the trials continue to the next share, and so on. A trial
resumes where it paused, so nothing is repeated. If the budget is too short for the steps of the config, few trials
share less than half of it, and the best one gets the rest: no setting makes up for a training that ends early. If the
best trials are to form an ensemble, as many of them as it has members train to the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.errors import UsageError
from seq2seq.runs.estimate import validation_count
from seq2seq.sealed_records import Estimate

FACTOR = 3
"""One in this many trials continues to the next rung."""
MOST_TRIALS = 81
_SPARE, _SPARE_SHARE = 1.5, 0.05
"""Longest training of a trial: this many times that of the config, or this share of the budget if that is more. A
slower trial has fewer steps."""
_SHORTEST_SECONDS, _LEAST_STEPS = 8.0, 30
"""With a shorter training, the order of the trials is chance."""
_BEST_SHARE = 0.5
"""Least share of the budget for the best trial, if the budget is too short for the steps of the config."""
_LAYOUTS = (
    (9, (1 / 9, 1 / 3, 1.0)),
    (5, (1 / 9, 1 / 3, 1.0)),
    (3, (1 / 3, 1.0)),
    (2, (1 / 3, 1.0)),
)
"""(trials, shares of their steps after which some of them continue); the first layout that fits the budget is taken."""


class SearchPlan(NamedTuple):
    """The plan of a search."""

    seconds: float
    """Training of one whole trial like the config."""
    steps: int | None
    """Steps of one whole trial like the config; None if the budget allows those of the config."""
    end_seconds: float
    """Loading, averaging and the test score of a trial that ends."""
    shares: tuple[float, ...]
    """Share of its steps to which a trial trains in each rung; the last one is 1."""
    trials: int
    """Trials that fit."""
    members: int = 1
    """Trials that train to the end, at least."""

    def most_minutes(self, budget: float) -> float:
        """`training.budget_minutes` of a trial, whatever its model, for the minutes of the whole search."""
        return round(max(_SPARE * self.seconds + self.end_seconds, 60.0 * _SPARE_SHARE * budget) / 60.0, 3)

    def survivors(self, trials: int, rung: int) -> int:
        """Trials that take part in a rung."""
        return min(trials, max(self.members, -(-trials // int(FACTOR**rung))))

    def cost(self, trials: int, start_seconds: float, *, first: int = 0) -> float:
        """Seconds of the rungs from `first` on, where each trial of each rung takes a while to start."""
        total, before = 0.0, (0.0, *self.shares)[first]
        for rung, share in enumerate(self.shares[first:], start=first):
            each = (share - before) * self.seconds + start_seconds + (self.end_seconds if share == 1.0 else 0.0)
            total, before = total + self.survivors(trials, rung) * each, share
        return total + self.ensemble_seconds(trials)

    def ensemble_seconds(self, trials: int) -> float:
        """Seconds for the scores of the ensemble of so many trials, if there is one."""
        members = min(self.members, trials)
        return members * self.end_seconds if members > 1 else 0.0


def make_plan(
    minutes: float, spent: float, estimate: Estimate, start_seconds: float, most: int, members: int
) -> SearchPlan:
    """The plan for a budget.

    Args:
        minutes: the time for the search.
        spent: seconds of it that have gone by.
        estimate: what the training of the config costs.
        start_seconds: time for the start of a trial.
        most: number of different trials.
        members: trials of the ensemble at the end.

    Raises:
        UsageError: the budget is too short for two trials.
    """
    seconds, most = 60.0 * minutes - spent, min(most, MOST_TRIALS)
    own, end = estimate.training_seconds, estimate.end_seconds
    for count, shares in _LAYOUTS:
        plan = SearchPlan(own, None, end, shares, count, members)
        whole = min(own, _whole_seconds(seconds, plan, start_seconds))
        plan = plan._replace(shares=_at_validations(shares, whole, estimate.validation_seconds))
        whole = min(own, _whole_seconds(seconds, plan, start_seconds))
        steps = None if whole == own else max(1, int(estimate.steps * whole / own))
        plan, rounded = plan._replace(seconds=whole, steps=steps), plan.shares
        first = rounded[0] * whole
        is_limited = whole < own
        is_short = first < _SHORTEST_SECONDS or first < _LEAST_STEPS * estimate.step_seconds
        is_coarse = len(rounded) < len(shares) or whole < _BEST_SHARE / members * seconds
        if count <= most and not (is_limited and (is_short or is_coarse) and count > 2):
            break
    if whole < own and whole < FACTOR * _LEAST_STEPS * estimate.step_seconds:
        least = min(own, 2 * FACTOR * _LEAST_STEPS * estimate.step_seconds)
        needed = plan._replace(seconds=least, steps=None, trials=2)
        raise UsageError(
            f"a budget of {minutes:.3g} minutes is too short for two trials of this config",
            hint=f"--budget {math.ceil((spent + needed.cost(2, start_seconds)) / 60)}m, or a smaller model",
            code="usage.value",
        )
    while plan.trials < most and plan.cost(plan.trials + 1, start_seconds) <= seconds:
        plan = plan._replace(trials=plan.trials + 1)
    return plan


def _whole_seconds(seconds: float, plan: SearchPlan, start: float) -> float:
    """Training of a whole trial if the trials of a plan are to fit."""
    fixed, with_one = (plan._replace(seconds=each).cost(plan.trials, start) for each in (0.0, 1.0))
    return max(0.0, (seconds - fixed) / (with_one - fixed))


def _at_validations(shares: Sequence[float], whole: float, validation_seconds: float) -> tuple[float, ...]:
    """The shares at the validations of a trial."""
    count = validation_count(whole, validation_seconds)
    rounded = [math.ceil(share * count - 1e-9) / count for share in shares]
    return tuple(dict.fromkeys(rounded))
