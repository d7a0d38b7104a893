"""Training state: everything except tensors that the next step depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, TypeGuard

from seq2seq.data.batch_plan import Cursor
from seq2seq.errors import CheckpointError


@dataclass
class TrainState:
    """Counters of a run. The data order is a function of seed and position, so `cursor` suffices to resume it."""

    step: int = 0
    """Updates done."""
    cursor: Cursor = field(default_factory=Cursor)
    """Position of the next unread batch; its epoch is the number of passes done."""
    tokens_seen: int = 0
    """Real target tokens, end marks included."""
    seconds: float = 0.0
    """Wall time of training and validation, resumed runs counted together."""
    metric: float | None = None
    """Metric of the latest validation, higher is better (the loss is negated)."""
    best_metric: float | None = None
    """Best validation metric so far."""
    best_loss: float | None = None
    """Validation loss of the best model, which decides between equal metrics."""
    best_step: int = 0
    """Step of the best validation."""
    stalled: int = 0
    """Validations since the best one, without those that do not try the patience."""
    pace: dict[str, float] = field(default_factory=dict)
    """`seconds` and `epochs` of one update, measured now and then to foresee the end set by a limit."""
    window: dict[str, Any] = field(default_factory=dict)
    """Totals since the last log line (see `training.step.RunningTotals`)."""
    validated: bool = False
    """Whether this state was saved right after a validation; only such checkpoints are averaged."""
    precision: dict[str, float] = field(default_factory=dict)
    """The loss scale of fp16."""
    finished: bool = False
    """Whether training has ended, rather than been interrupted."""

    def judge(self, metric: float, loss: float) -> bool:
        """Record a validation metric, higher is better, and its loss; returns whether this is the best so far.

        Of equal metrics the one with the lower loss is better: a metric that cannot move keeps no early model.
        """
        # NaN compares false with every number and would stay the best forever.
        metric = -math.inf if math.isnan(metric) else metric
        loss = math.inf if math.isnan(loss) else loss
        self.metric = metric
        improved = self.best_metric is None or metric > self.best_metric
        if not improved and metric == self.best_metric and self.best_loss is not None:
            improved = loss < self.best_loss
        if improved:
            self.best_metric, self.best_loss, self.best_step, self.stalled = metric, loss, self.step, 0
        else:
            self.stalled += 1
        return improved

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainState:
        """The reverse of `to_json`.

        Raises:
            CheckpointError: a field is unknown or missing.
        """
        wrong = "the training state does not fit this version"
        try:
            state = cls(**{**data, "cursor": Cursor(*data["cursor"])})
        except (TypeError, KeyError) as error:
            raise CheckpointError(f"{wrong}: {error}", code="checkpoint.version") from None
        flags = (state.validated, state.finished)
        counts = (state.step, state.tokens_seen, state.best_step, state.stalled, *state.cursor)
        scales = state.precision.values() if isinstance(state.precision, dict) else [None]
        fits = {
            "validated or finished": all(type(flag) is bool for flag in flags),
            "a count": all(_is_count(count) for count in counts),
            "seconds": _is_number(state.seconds) and 0 <= state.seconds < math.inf,
            **{
                name: value is None or (_is_number(value) and not math.isnan(value))
                for name, value in (("metric", state.metric), ("best_metric", state.best_metric))
            },
            "best_loss": state.best_loss is None or _is_number(state.best_loss),
            "pace": isinstance(state.pace, dict)
            and all(_is_number(part) and math.isfinite(part) for part in state.pace.values()),
            "precision": all(_is_number(scale) and math.isfinite(scale) for scale in scales),
            "window": _is_window(state.window),
        }
        if unfit := [name for name, fit in fits.items() if not fit]:
            raise CheckpointError(f"{wrong}: {unfit[0]} has an impossible value", code="checkpoint.damaged")
        return state


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53  # not a bool


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _is_window(window: object) -> bool:
    """True for valid totals of the log window; sums may be NaN, since fp16 overflows now and then."""
    if not isinstance(window, dict):
        return False
    sums = [window.get(name, []) for name in ("loss", "nll")]
    return (
        all(isinstance(parts, list) and all(map(_is_number, parts)) for parts in sums)
        and all(_is_count(window.get(name, 0)) for name in ("target_tokens", "source_tokens"))
        and _is_number(window.get("seconds", 0.0))
    )
