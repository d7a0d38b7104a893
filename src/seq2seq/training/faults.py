"""What may go wrong in an update, as the user should hear of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seq2seq.config import TrainingSettings
from seq2seq.data.batching import Batch
from seq2seq.errors import DivergenceError, ResourceError, WorkerError
from seq2seq.training.state import TrainState

_HOST_SIGNS = ("can't allocate memory", "std::bad_alloc", "could not create a primitive", "can't start new thread")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or on the host: torch has no class of its own for the latter."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _HOST_SIGNS)


def out_of_memory(settings: TrainingSettings, device: torch.device, when: str) -> ResourceError:
    """Memory ran out: with what batch, and a smaller one that makes the same update."""
    size = settings.batch_size
    smaller = "auto" if size == "auto" else max(1, size // 2)
    return ResourceError(
        f"out of memory on {device} {when}",
        hint=f"training.batch_size={smaller} training.accumulation_steps={settings.accumulation_steps * 2}, "
        "or training.activation_checkpointing=true",
        code="memory.training",
    )


def shape(batches: Sequence[Batch]) -> str:
    """The largest of some batches, for people."""
    batch = max(batches, key=lambda batch: batch.source.numel() + batch.target_in.numel())
    tokens = f"{batch.source.numel():,} source and {batch.target_in.numel():,} target tokens"
    return f"{len(batch.source):,} pairs, {tokens}, padding included"


def loader_died(error: RuntimeError) -> WorkerError | None:
    """The death of a loader process, of which torch's signal handler may tell anywhere; None for any other error."""
    if "DataLoader worker" not in str(error):
        return None
    return WorkerError(
        f"a data loader process died: {error}",
        hint="training.num_workers=0; run the same command again",
        code="worker.loader",
    )


def hopeless(nll: float, vocabulary: int) -> bool:
    """Whether a loss per token, in nats, is so much worse than guessing (ln V) that training will not find back."""
    return not math.isfinite(nll) or nll > 5.0 + 3.0 * math.log(vocabulary)


def divergence(
    settings: TrainingSettings,
    state: TrainState,
    *,
    step: int,
    loss: float,
    norm: float,
    rate: float,
    taken: bool,
    details: Path | None,
) -> DivergenceError:
    """Training has diverged at `step`; `taken` says whether the weights have changed, `details` is a file with more."""
    cursor = state.cursor
    best = ""
    if state.best_metric is not None:
        best = f"; the best model is that of step {state.best_step:,} ({abs(state.best_metric):.2f})"
    place = f"epoch {cursor.epoch + 1}, pool {cursor.pool + 1}, batch {cursor.batch + 1}"
    return DivergenceError(
        f"training diverged at step {step:,}: loss {loss:.3g} per token, gradient norm {norm:.3g}, "
        f"learning rate {rate:.3g}" + ("" if taken else "; no update was taken") + best,
        where=place if details is None else f"{details} ({place})",
        hint=f"training.optimizer.learning_rate={settings.optimizer.learning_rate / 3:.1g}, or more "
        "training.schedule.warmup_steps, in another folder with -o",
        code="training.diverged",
    )


def facts(state: TrainState, *, step: int, loss: float, norm: float, rate: float) -> dict[str, Any]:
    """What `divergence` says, as data; numbers that JSON does not know become text."""
    numbers = {"loss": loss, "gradient_norm": norm, "learning_rate": rate}
    shown = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    return {"step": step, **shown, "cursor": state.cursor._asdict()}
