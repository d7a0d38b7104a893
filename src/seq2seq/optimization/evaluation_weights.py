"""Averaged weights for evaluation: an exponential moving average, or the average of Schedule-Free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.optimization.optimizers import ScheduleFreeAdamW

PREFIX = "average|"
"""Prefix of the keys of `EvaluationWeights.tensors`."""
_UPDATES = f"{PREFIX}updates"
_TRAINING = f"{PREFIX}training|"


class EvaluationWeights:
    """The weights for validation, saving and translation, if they differ from the weights in training.

    * Moving average (`ema_decay` d): after update t, e = d_t e + (1 - d_t) w in fp32, with d_t = min(d, (1 + t) /
      (10 + t)), so that a short run is not dominated by its first weights; the first update sets e = w.
    * Schedule-Free: x, from the optimizer's y and z.

    A checkpoint's model file holds the evaluation weights, and `tensors` the training weights beside them. Frozen
    parameters take no part. Build it after freezing and after the optimizer.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, ema_decay: float | None) -> None:
        """
        Raises:
            ConfigError: a moving average with Schedule-Free, which averages already.
        """
        self._schedule_free = optimizer if isinstance(optimizer, ScheduleFreeAdamW) else None
        if ema_decay is not None and self._schedule_free is not None:
            raise ConfigError(
                "training.ema_decay with optimizer schedule_free, which averages the weights itself",
                hint="training.ema_decay=null",
                code="config.conflict",
            )
        self._decay = ema_decay
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._names = list(trained)
        self._parameters: list[Tensor] = list(trained.values())
        # Allocated now, so that the rehearsal of the largest batch includes it.
        self._mean = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in trained.values()]
        if ema_decay is None:
            self._mean = []
        self._updates = 0
        self._kept: list[Tensor] | None = None  # the training weights, while others are in the model

    @property
    def differs(self) -> bool:
        """Whether the evaluation weights differ from the training weights."""
        return self._decay is not None or self._schedule_free is not None

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after an optimizer step."""
        if self._decay is None:
            return
        assert self._kept is None, "update called within in_model"
        self._updates += 1
        decay = min(self._decay, (1.0 + self._updates) / (10.0 + self._updates))
        weights = [parameter.detach().float() for parameter in self._parameters]
        if self._updates == 1:
            torch._foreach_copy_(self._mean, weights)
        else:
            torch._foreach_lerp_(self._mean, weights, 1.0 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Context in which the model holds the evaluation weights; the training weights return afterwards, bit for bit.

        Values are copied, not storages swapped: compiled graphs and flattened recurrent weights rely on addresses.
        """
        if not self.differs or self._kept is not None:
            yield
            return
        training_weights = [parameter.detach().clone() for parameter in self._parameters]
        self._kept = training_weights
        try:
            with torch.no_grad():
                if self._schedule_free is not None:
                    self._schedule_free.average_()
                elif self._updates:
                    torch._foreach_copy_(self._parameters, self._mean)
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._parameters, training_weights)
            self._kept = None

    def tensors(self) -> dict[str, Tensor]:
        """State for resuming beside the evaluation weights: `average|training|<parameter>` and `average|updates`.

        Empty if the weights do not differ. Tensors are copies, as the parameters change within `in_model`.
        """
        if not self.differs:
            return {}
        training_weights = self._kept or [parameter.detach().clone() for parameter in self._parameters]
        tensors = {_TRAINING + name: weight for name, weight in zip(self._names, training_weights, strict=True)}
        return tensors | {_UPDATES: torch.tensor(self._updates)}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned; other keys are ignored.

        The model must hold the evaluation weights of the checkpoint: they become the moving average, and the model
        gets the training weights.

        Raises:
            CheckpointError: a parameter is missing.
        """
        if not self.differs:
            return
        names = [_TRAINING + name for name in self._names]
        if missing := [key for key in (_UPDATES, *names) if key not in tensors]:
            raise CheckpointError(
                f"the checkpoint has no `{missing[0]}`, which averaged weights need to resume",
                code="checkpoint.mismatch",
            )
        self._updates = int(tensors[_UPDATES])
        if self._mean:
            torch._foreach_copy_(self._mean, [parameter.detach() for parameter in self._parameters])
        for key, parameter in zip(names, self._parameters, strict=True):
            parameter.copy_(tensors[key])
