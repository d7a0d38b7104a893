"""One update: from a group of batches to changed weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq.data.batching import Batch
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision


class UpdateReport(NamedTuple):
    """One update; tensors stay on the device until they are logged."""

    loss: Tensor
    """Summed smoothed loss."""
    nll: Tensor
    """Summed negative log-likelihood."""
    gradient_norm: Tensor
    target_tokens: int
    source_tokens: int


def train_step(
    model: Seq2SeqModel,
    group: list[Batch],
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    label_smoothing: float,
    max_gradient_norm: float | None,
) -> UpdateReport:
    """One update from a group of batches, equal to that from one batch that holds all their pairs.

    The loss is summed and divided once by the target tokens of the whole group: a mean of means would weigh tokens of
    short batches more.
    """
    device = precision.device
    tokens = sum(batch.tokens for batch in group)
    loss, nll = torch.zeros((), device=device), torch.zeros((), device=device)
    for batch in group:
        batch = batch.to(device)
        with precision.autocast():
            hidden = model(batch.source, batch.target_in)
            summed = summed_loss(model.output, hidden, batch.target_out, label_smoothing)
        precision.backward(summed.loss / tokens)
        loss += summed.loss.detach()
        nll += summed.nll
    norm = precision.step(model, optimizer, max_gradient_norm)
    optimizer.zero_grad(set_to_none=True)
    return UpdateReport(loss, nll, norm, tokens, sum(batch.source_tokens for batch in group))


def _wide(value: Tensor) -> Tensor:
    return value if value.device.type == "mps" else value.double()  # MPS has no double


class Window:
    """Sums over the updates since the last log line, kept on the device so that nothing waits for them."""

    def __init__(self, saved: dict[str, float] | None = None) -> None:
        saved = saved or {}
        self.loss: Tensor | float = saved.get("loss", 0.0)
        self.nll: Tensor | float = saved.get("nll", 0.0)
        self.target_tokens = int(saved.get("target_tokens", 0))
        self.source_tokens = int(saved.get("source_tokens", 0))
        self.seconds = saved.get("seconds", 0.0)

    def add(self, update: UpdateReport, seconds: float) -> None:
        """Count one update."""
        # Double, as a saved and restored sum is: a resumed curve equals an uninterrupted one.
        self.loss = self.loss + _wide(update.loss)
        self.nll = self.nll + _wide(update.nll)
        self.target_tokens += update.target_tokens
        self.source_tokens += update.source_tokens
        self.seconds += seconds

    def saved(self) -> dict[str, float]:
        """Plain numbers for the training state."""
        return {
            "loss": float(self.loss),
            "nll": float(self.nll),
            "target_tokens": self.target_tokens,
            "source_tokens": self.source_tokens,
            "seconds": self.seconds,
        }
