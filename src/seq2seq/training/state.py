"""Where a run stands: everything beside tensors that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from seq2seq.errors import CheckpointError


@dataclass
class TrainState:
    """Counters of a run. The data order is a function of (seed, epoch), so `cursor` is all that resuming needs."""

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Passes begun, from 0."""
    cursor: int = 0
    """Batches of this epoch already used."""
    tokens_seen: int = 0
    """Real target tokens, end marks included."""
    seconds: float = 0.0
    """Wall time of training and validation, resumed runs counted together."""
    best_metric: float | None = None
    """Best validation metric so far, higher is better (the loss is negated)."""
    best_step: int = 0
    """Step of the best validation."""
    stalled: int = 0
    """Validations since the best one."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums since the last log line (see `step.Window`)."""
    validated: bool = False
    """Whether this state was saved right after a validation, as averaging wants it."""
    precision: dict[str, float] = field(default_factory=dict)
    """The loss scale of fp16."""
    finished: bool = False
    """Whether training came to its end, rather than being interrupted."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainState:
        """The reverse of `to_json`.

        Raises:
            CheckpointError: a field is unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise CheckpointError(f"the training state does not fit this version: {error}") from None
