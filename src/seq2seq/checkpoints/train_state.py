"""Training state: everything except tensors that the next step depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from seq2seq.data.batches import Cursor
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
    best_step: int = 0
    """Step of the best validation."""
    stalled: int = 0
    """Validations since the best one."""
    window: dict[str, Any] = field(default_factory=dict)
    """Totals since the last log line (see `training.step.RunningTotals`)."""
    validated: bool = False
    """Whether this state was saved right after a validation; only such checkpoints are averaged."""
    precision: dict[str, float] = field(default_factory=dict)
    """The loss scale of fp16."""
    finished: bool = False
    """Whether training has ended, rather than been interrupted."""

    def judge(self, metric: float) -> bool:
        """Record a validation metric, higher is better; returns whether it is the best so far."""
        # NaN compares false with every number and would stay the best forever.
        metric = -math.inf if math.isnan(metric) else metric
        self.metric = metric
        improved = self.best_metric is None or metric > self.best_metric
        if improved:
            self.best_metric, self.best_step, self.stalled = metric, self.step, 0
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
        for name, default in asdict(cls(metric=0.0, best_metric=0.0)).items():
            value = getattr(state, name)
            kinds = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, kinds) and not (name in ("metric", "best_metric") and value is None):
                raise CheckpointError(f"{wrong}: {name} is {value!r}", code="checkpoint.damaged")
        if not all(isinstance(number, int) and number >= 0 for number in state.cursor):
            raise CheckpointError(f"{wrong}: cursor is {list(state.cursor)}", code="checkpoint.damaged")
        return state
