"""Rehearsal: a training step on the largest batch when training begins, without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq.config import TrainingSettings
from seq2seq.data.batches import Batch
from seq2seq.optimization.precision import Precision
from seq2seq.training.failures import is_out_of_memory, out_of_memory_error
from seq2seq.training.random_state import random_state, set_random_state
from seq2seq.training.step import LossModule, train_step


def rehearse(
    losses: LossModule,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    settings: TrainingSettings,
    ranks: int,
) -> None:
    """One whole step without lasting effect, so that memory runs out now rather than hours later.

    Raises:
        ResourceError: it does not fit.
    """
    try:
        with rehearsing(losses.model, optimizer, precision):
            losses.model.train()
            train_step(losses, [batch], optimizer, precision, max_gradient_norm=1.0)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        when = "with the largest batch"
        raise out_of_memory_error(settings, precision.device, when, [batch], ranks=ranks) from None


@contextmanager
def rehearsing(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision) -> Iterator[None]:
    """Context in which training steps leave no trace: weights, buffers, optimizer, loss scale, mode and random state
    are restored bit for bit, and gradients are cleared.

    Copies lie on the host, so that a GPU's peak is that of a real step. Loss scaling is off inside: its first steps
    overflow by design and would skip the optimizer, whose memory counts.
    """
    tensors = [*model.parameters(), *model.buffers()]
    saved = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    state = {
        parameter: {slot: _copied(value) for slot, value in slots.items()}
        for parameter, slots in optimizer.state.items()
    }
    rates = [group["lr"] for group in optimizer.param_groups]
    before, scaler, training = random_state(precision.device), precision.scaler, model.training
    precision.scaler = torch.amp.GradScaler(precision.device.type, enabled=False)
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)
        _restore_state(optimizer, state)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        precision.scaler = scaler
        model.train(training)
        set_random_state(precision.device, before)


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _restore_state(optimizer: torch.optim.Optimizer, state: dict[Tensor, dict[str, Any]]) -> None:
    """Restore saved values in place and drop slots that were added since."""
    for parameter in [each for each in optimizer.state if each not in state]:
        del optimizer.state[parameter]
    for parameter, slots in state.items():
        current = optimizer.state[parameter]
        for slot in [each for each in current if each not in slots]:
            del current[slot]
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                current[slot].copy_(value)
            else:
                current[slot] = value
