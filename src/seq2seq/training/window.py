"""Sums over the updates since the last log line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seq2seq.training.ranks.group import Ranks
from seq2seq.training.step import UpdateReport


class Window:
    """This rank's sums, kept on the device so that nothing waits for them; token counts are those of all ranks.

    `saved` is what `Window.saved` gave; where another number of ranks saved it, rank 0 takes over all sums.
    """

    def __init__(self, ranks: Ranks, saved: dict[str, Any] | None = None) -> None:
        saved = saved or {}
        self._ranks = ranks
        self.loss: Tensor | float = self._mine(saved.get("loss", []))
        self.nll: Tensor | float = self._mine(saved.get("nll", []))
        self.target_tokens = int(saved.get("target_tokens", 0))
        self.source_tokens = int(saved.get("source_tokens", 0))
        self.seconds = float(saved.get("seconds", 0.0))

    def add(self, update: UpdateReport, seconds: float) -> None:
        """Count one update."""
        # Double, as a saved and restored sum is: a resumed curve equals an uninterrupted one.
        self.loss = self.loss + _wide(update.loss)
        self.nll = self.nll + _wide(update.nll)
        self.target_tokens += update.target_tokens
        self.source_tokens += update.source_tokens
        self.seconds += seconds

    def totals(self) -> tuple[float, float]:
        """Loss and negative log-likelihood summed over all ranks; each must call it."""
        loss, nll = self._ranks.sum_host([float(self.loss), float(self.nll)])
        return loss, nll

    def saved(self) -> dict[str, Any]:
        """Plain data for the training state; every rank must call it."""
        sums = self._ranks.gather(torch.tensor([float(self.loss), float(self.nll)], dtype=torch.float64))
        loss, nll = zip(*(part.tolist() for part in sums), strict=True)
        return {
            "loss": list(loss),
            "nll": list(nll),
            "target_tokens": self.target_tokens,
            "source_tokens": self.source_tokens,
            "seconds": self.seconds,
        }

    def _mine(self, parts: list[float]) -> float:
        if len(parts) == self._ranks.size:
            return parts[self._ranks.rank]
        return sum(parts) if self._ranks.is_first else 0.0


def _wide(value: Tensor) -> Tensor:
    return value if value.device.type == "mps" else value.double()  # MPS has no double
