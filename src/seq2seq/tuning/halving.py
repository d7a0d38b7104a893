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

from pydantic import Field

from seq2seq.errors import UsageError
from seq2seq.runs.estimate import validation_count
from seq2seq.sealed_records import Amount, Count, Estimate, Record

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
_LAYOUTS = {
    9: (1 / 9, 1 / 3, 1.0),
    5: (1 / 9, 1 / 3, 1.0),
    3: (1 / 3, 1.0),
    2: (1 / 3, 1.0),
}
"""Shares of their steps after which some of as many trials continue; the first layout that fits the budget is taken."""


class SearchPlan(Record):
    """The plan of a search."""

    seconds: Amount
    """Training of one whole trial like the config."""
    steps: Count | None
    """Steps of one whole trial like the config; None if the budget allows those of the config."""
    end_seconds: Amount
    """Loading, averaging and the test score of a trial that ends."""
    shares: list[Amount] = Field(min_length=1)
    """Share of its steps to which a trial trains in each rung; the last one is 1."""
    trials: Count
    """Trials that fit."""
    members: Count = 1
    """Trials that train to the end, at least: those of the ensemble at the end, or 1 for none."""

    def at_pace(self, seconds: float) -> SearchPlan:
        """The same plan where a whole trial takes `seconds`."""
        return self.model_copy(update={"seconds": seconds})

    def most_minutes(self, budget: float) -> float:
        """`training.budget_minutes` of a trial, whatever its model, for the minutes of the whole search."""
        return round(max(_SPARE * self.seconds + self.end_seconds, 60.0 * _SPARE_SHARE * budget) / 60.0, 3)

    def survivors(self, trials: int, rung: int) -> int:
        """Trials that take part in a rung."""
        return min(trials, max(self.members, -(-trials // int(FACTOR**rung))))

    def rung_seconds(self, rung: int, start_seconds: float) -> float:
        """Seconds of a trial in a rung: its start, its training, and in the last rung its end."""
        before, share = (0.0, *self.shares)[rung : rung + 2]
        return (share - before) * self.seconds + start_seconds + (self.end_seconds if share == 1.0 else 0.0)

    def cost(self, trials: int, start_seconds: float, *, first: int = 0) -> float:
        """Seconds of the rungs from `first` on, for as many trials in all."""
        rungs = range(first, len(self.shares))
        total = sum(self.survivors(trials, rung) * self.rung_seconds(rung, start_seconds) for rung in rungs)
        return total + self.ensemble_seconds(trials)

    def ensemble_seconds(self, trials: int) -> float:
        """Seconds for the scores of the ensemble of so many trials, if there is one."""
        members = min(self.members, trials)
        return members * self.end_seconds if members > 1 else 0.0


class Budget(NamedTuple):
    """Budget of a search."""

    minutes: float
    """The time for all of it."""
    spent: float
    """Seconds of it that have gone by."""
    start_seconds: float
    """The start of a trial."""
    trials: int
    """Number of different trials."""
    members: int = 1
    """Trials of the ensemble at the end; 1 for none."""

    @property
    def seconds(self) -> float:
        """Seconds that are left."""
        return 60.0 * self.minutes - self.spent


def make_plan(budget: Budget, estimate: Estimate) -> SearchPlan:
    """The plan for a budget, and for a config whose training costs what `estimate` says.

    Raises:
        UsageError: the budget is too short for two trials.
    """
    plans = (_fitted(trials, shares, budget, estimate) for trials, shares in _LAYOUTS.items())
    plan = next(plan for plan in plans if _is_worthwhile(plan, budget, estimate))
    _require_two_trials(plan, budget, estimate)
    return _with_more_trials(plan, budget)


def _fitted(trials: int, shares: Sequence[float], budget: Budget, estimate: Estimate) -> SearchPlan:
    """A plan of as many trials, each as long as the budget allows."""
    config_seconds = estimate.training_seconds
    plan = SearchPlan(
        seconds=config_seconds,
        steps=None,
        end_seconds=estimate.end_seconds,
        shares=list(shares),
        trials=trials,
        members=budget.members,
    )
    rounded = _at_validations(shares, _longest_trial(plan, budget), estimate.validation_seconds)
    plan = plan.model_copy(update={"shares": rounded})
    trial_seconds = _longest_trial(plan, budget)
    if trial_seconds == config_seconds:
        return plan
    steps = max(1, int(estimate.steps * trial_seconds / config_seconds))
    return plan.model_copy(update={"seconds": trial_seconds, "steps": steps})


def _longest_trial(plan: SearchPlan, budget: Budget) -> float:
    """Training of a whole trial if all of a plan are to fit, at most as long as that of the plan."""
    fixed, with_one = (plan.at_pace(each).cost(plan.trials, budget.start_seconds) for each in (0.0, 1.0))
    return min(plan.seconds, max(0.0, (budget.seconds - fixed) / (with_one - fixed)))


def _is_worthwhile(plan: SearchPlan, budget: Budget, estimate: Estimate) -> bool:
    """True if the trials fit and are long enough for their order to say something; two always are."""
    if plan.trials == 2:
        return True
    if plan.trials > budget.trials:
        return False
    if plan.steps is None:
        return True
    first_rung_seconds = plan.shares[0] * plan.seconds
    is_short = first_rung_seconds < max(_SHORTEST_SECONDS, _LEAST_STEPS * estimate.step_seconds)
    is_coarse = len(plan.shares) < len(_LAYOUTS[plan.trials])
    return not (is_short or is_coarse) and plan.seconds >= _BEST_SHARE / plan.members * budget.seconds


def _require_two_trials(plan: SearchPlan, budget: Budget, estimate: Estimate) -> None:
    least = FACTOR * _LEAST_STEPS * estimate.step_seconds
    if plan.steps is None or plan.seconds >= least:
        return
    needed = plan.at_pace(min(estimate.training_seconds, 2 * least))
    raise UsageError(
        f"a budget of {budget.minutes:.3g} minutes is too short for two trials of this config",
        hint=f"--budget {math.ceil((budget.spent + needed.cost(2, budget.start_seconds)) / 60)}m, or a smaller model",
        code="usage.value",
    )


def _with_more_trials(plan: SearchPlan, budget: Budget) -> SearchPlan:
    trials, most = plan.trials, min(budget.trials, MOST_TRIALS)
    while trials < most and plan.cost(trials + 1, budget.start_seconds) <= budget.seconds:
        trials += 1
    return plan.model_copy(update={"trials": trials})


def _at_validations(shares: Sequence[float], whole: float, validation_seconds: float) -> list[float]:
    """The shares at the validations of a trial."""
    count = validation_count(whole, validation_seconds)
    rounded = [math.ceil(share * count - 1e-9) / count for share in shares]
    return list(dict.fromkeys(rounded))
