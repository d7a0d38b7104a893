"""One optimizer update, and running totals of updates for the log."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seq2seq.data.batches import Batch
from seq2seq.distributed.ranks import Ranks
from seq2seq.failpoints import reach
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.models.layers import Embedding
from seq2seq.optimization.loss import SummedLoss, TwoPasses, summed_loss
from seq2seq.optimization.precision import Precision


class UpdateReport(NamedTuple):
    """Figures of one update; tensors stay on the device until they are logged."""

    loss: Tensor
    """Summed smoothed loss."""
    nll: Tensor
    """Summed negative log-likelihood."""
    gradient_norm: Tensor
    target_tokens: int
    source_tokens: int


class LossModule(nn.Module):
    """Model and loss as one module, so that one forward pass can be distributed or compiled.

    With R-Drop or SimCut every pair passes through the model twice; SimCut zeroes the embeddings of a share `cutoff` of
    the tokens of the second pass, on both sides (token cut-off, Shen et al. 2020).
    """

    def __init__(
        self,
        model: Seq2SeqModel,
        *,
        label_smoothing: float,
        r_drop: float = 0.0,
        simcut: float = 0.0,
        cutoff: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.passes: TwoPasses | None = None
        if r_drop:
            self.passes = TwoPasses.r_drop(r_drop)
        elif simcut:
            self.passes = TwoPasses.simcut(simcut)
            self.cutoff = cutoff
            for module in model.modules():
                if isinstance(module, Embedding):
                    module.register_forward_hook(self._cut_second_pass)

    def forward(self, batch: Batch) -> SummedLoss:
        """The summed loss of a batch."""
        source, target_in = batch.source, batch.target_in
        if self.passes is not None:
            source, target_in = torch.cat([source, source]), torch.cat([target_in, target_in])
        hidden = self.model(source, target_in)
        return summed_loss(
            self.model.output, hidden, batch.target_out, self.label_smoothing, self.passes, tokens=batch.tokens
        )

    def _cut_second_pass(self, embedding: nn.Module, _: object, embedded: Tensor) -> Tensor:
        if not embedding.training:
            return embedded
        first, second = embedded.chunk(2)
        kept = torch.rand(second.shape[:-1], device=second.device) >= self.cutoff
        return torch.cat([first, second * kept[..., None]])


def train_step(
    losses: nn.Module,
    group: list[Batch],
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    max_gradient_norm: float | None,
    target_tokens: int | None = None,
) -> UpdateReport:
    """One update from a group of batches, equal to an update from one batch with all their pairs.

    The loss is summed and divided once by the target tokens of the whole group: a mean of means would give tokens of
    short batches more weight. `losses` is a `LossModule`, possibly wrapped by `Ranks.wrap`; the group is then this
    rank's share of an update with `target_tokens` tokens in total.
    """
    device = precision.device
    fault = reach("step.loss")
    if fault == "oom":
        raise torch.OutOfMemoryError("failpoint")
    tokens = sum(batch.tokens for batch in group) if target_tokens is None else target_tokens
    loss, nll = torch.zeros((), device=device), torch.zeros((), device=device)
    for number, batch in enumerate(group, start=1):
        with _summed_over_ranks(losses, number == len(group)):
            with precision.autocast():
                summed: SummedLoss = losses(batch.to(device))
            precision.backward(summed.loss / (math.nan if fault == "nan" else tokens))
        loss += summed.loss.detach()
        nll += summed.nll
    norm = precision.step(losses, optimizer, max_gradient_norm)
    optimizer.zero_grad(set_to_none=True)
    return UpdateReport(loss, nll, norm, tokens, sum(batch.source_tokens for batch in group))


def _summed_over_ranks(losses: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Gradients are exchanged once per update, after its last batch."""
    return nullcontext() if is_last or not isinstance(losses, DistributedDataParallel) else losses.no_sync()


class RunningTotals:
    """Loss, tokens and seconds of the updates since the last log line.

    Losses are this rank's sums, kept on the device so that nothing waits for them; token counts are those of all ranks.
    `saved` is what `RunningTotals.saved` returned; if another number of ranks saved it, rank 0 takes over all sums.
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
        """Add one update."""
        # Double, as a saved and restored sum is: a resumed curve equals an uninterrupted one.
        self.loss = self.loss + _wide(update.loss)
        self.nll = self.nll + _wide(update.nll)
        self.target_tokens += update.target_tokens
        self.source_tokens += update.source_tokens
        self.seconds += seconds

    def losses(self) -> tuple[float, float]:
        """Loss and negative log-likelihood summed over all ranks; every rank must call it."""
        loss, nll = self._ranks.sum_host([float(self.loss), float(self.nll)])
        return loss, nll

    def saved(self) -> dict[str, Any]:
        """The totals as plain data for the training state; every rank must call it."""
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
