"""When a training run ends: steps, epochs, minutes, or early stopping; schedule and validations are fitted to that."""

from __future__ import annotations

from seq2seq.checkpoints.train_state import TrainState
from seq2seq.config import ScheduleSettings, TrainingSettings
from seq2seq.console import counted, say, warn
from seq2seq.optimization.optimizers import expected_steps, fitted_schedule

_EARLY, _TOLERANCE = 0.05, 0.1
"""Share of the steps that say little about the speed, and lateness that leaves the schedule of a budget alone."""


class StoppingCriteria:
    """The limits of one run.

    Args:
        settings: the `training` section of the config.
        state: the state of the run, whose pace `measure_pace` sets.

    Attributes:
        agreed_seconds: training time on which all ranks agree; None where there is only one, whose clock then counts.
    """

    def __init__(self, settings: TrainingSettings, state: TrainState, agreed_seconds: float | None) -> None:
        self.settings, self.state, self.agreed_seconds = settings, state, agreed_seconds

    def is_done(self) -> bool:
        """True once a limit is reached, or after `patience` validations without a new best (early stopping)."""
        patience = self.settings.patience
        return self.has_reached_limit() or (patience is not None and self.state.stalled >= patience)

    def tries_patience(self) -> bool:
        """Whether a validation without a new best counts: not before the end of the warm-up, nor while `wsd` lowers the
        rate, which brings the best scores."""
        schedule, steps = self.schedule(), self.expected_steps()
        falls_from = steps - schedule.decay_fraction * (steps - schedule.warmup_steps)
        return self.state.step > schedule.warmup_steps and (schedule.kind != "wsd" or self.state.step <= falls_from)

    def has_reached_limit(self) -> bool:
        """Whether `max_steps`, `max_epochs` or `max_minutes` is reached."""
        return self.state.step >= self.settings.max_steps or self._earlier_limit() is not None

    def _earlier_limit(self) -> str | None:
        """The limit that has been reached before `max_steps`, as a setting."""
        settings, state = self.settings, self.state
        if settings.max_epochs is not None and state.cursor.epoch >= settings.max_epochs:
            return f"training.max_epochs={settings.max_epochs}"
        if settings.max_minutes is not None and self._seconds() >= 60.0 * settings.max_minutes:
            if settings.budget_minutes is not None:
                return f"training.budget_minutes={settings.budget_minutes:g}"
            return f"training.max_minutes={settings.max_minutes:g}"
        return None

    def _seconds(self) -> float:
        return self.state.seconds if self.agreed_seconds is None else self.agreed_seconds

    def expected_steps(self) -> int:
        """Steps that the whole run takes, as far as its pace is known."""
        return expected_steps(self.settings, self.state.pace)

    def schedule(self) -> ScheduleSettings:
        """The schedule, fitted to the expected steps."""
        return fitted_schedule(self.settings, self.expected_steps())

    def validate_every(self) -> int:
        """Steps between validations: at least two fit into a run that a limit ends early."""
        steps, every = self.expected_steps(), self.settings.validate_every
        return every if steps >= self.settings.max_steps else min(every, max(1, steps // 2))

    def measure_pace(self, pairs_per_epoch: int) -> None:
        """Foresee the end set by a limit, at steps 8, 16, 32, ..., so that schedule and validations fit into it.

        The state keeps the pace: a resumed run continues with the same schedule. A budget has fitted all of this to
        the run already, and only a machine that has become much slower shortens it.
        """
        settings, state = self.settings, self.state
        has_limit = settings.max_epochs is not None or settings.max_minutes is not None
        if not has_limit or state.step < 8 or state.step & (state.step - 1):
            return
        epochs = state.cursor.epoch + state.cursor.pairs / pairs_per_epoch
        is_first = not state.pace
        pace = {"seconds": self._seconds() / state.step, "epochs": epochs / state.step}
        if settings.budget_minutes is not None and is_first:
            is_early = state.step < _EARLY * settings.max_steps
            if is_early or expected_steps(settings, pace) > (1 - _TOLERANCE) * settings.max_steps:
                return
        state.pace = pace
        steps = self.expected_steps()
        if is_first and state.step < steps < settings.max_steps:
            say(
                f"about {steps:,} of {settings.max_steps:,} steps fit into the limit of this run; fitted to them: "
                f"warm-up of {counted(self.schedule().warmup_steps, 'step')}, {settings.schedule.kind} schedule, "
                f"validation every {self.validate_every():,} steps"
            )

    def tell_end_by_limit(self) -> None:
        """Say which limit ended the run before `max_steps`, and warn if it ended too early to have learned much."""
        settings, step = self.settings, self.state.step
        if step >= settings.max_steps or (limit := self._earlier_limit()) is None:
            return
        say(f"{limit} ended training at step {step:,} of {settings.max_steps:,}")
        if step <= max(self.schedule().warmup_steps, 100):
            warn(
                f"after {counted(step, 'step')} a model has hardly learned to translate; raise "
                f"{limit.partition('=')[0]}, or take a smaller model or batch"
            )
