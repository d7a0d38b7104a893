"""Failures of training: divergence and out of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from seq2seq.checkpoints.train_state import TrainState
from seq2seq.config import TrainingSettings
from seq2seq.data.batches import Batch
from seq2seq.errors import DivergenceError, ResourceError
from seq2seq.system import address_space_left, what_ran_out
from seq2seq.training.metrics_log import Report

_USUAL_RATE = 1e-3
"""A rate that models of any size learn with."""


class DivergenceWatch:
    """Checks loss and gradient norm, and ends a run that has diverged.

    Args:
        skips_overflows: accept figures that are not finite, as in fp16, where such an update is skipped and the loss
            scale is lowered.
        vocabulary: size of the target vocabulary.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        state: TrainState,
        report: Report,
        *,
        skips_overflows: bool,
        vocabulary: int,
    ) -> None:
        self._settings, self._state, self._report = settings, state, report
        self._skips_overflows, self._vocabulary = skips_overflows, vocabulary
        self._was_sound = True

    def check_update(self, loss: float, norm: float, rate: float, group: Sequence[Batch]) -> None:
        """Check an update that was just tried: loss per token, gradient norm and learning rate.

        Raises:
            DivergenceError: a number is not finite; the optimizer never makes a step then.
        """
        if not self._is_sound(loss, norm):
            self._diverged(loss, norm, rate, group)

    def check_mean(self, loss: float, nll: float, norm: float, rate: float) -> None:
        """Check the means per token since the last log line, and the norm and rate of the last update.

        Raises:
            DivergenceError: a number is not finite, or the loss is far above that of guessing.
        """
        if not self._is_sound(loss, norm):
            self._diverged(loss, norm, rate)
        # One update that fp16 has skipped makes the mean of its log line no number; a second line is no accident.
        was_sound, self._was_sound = self._was_sound, math.isfinite(nll)
        if is_hopeless(nll, self._vocabulary) and not (self._skips_overflows and was_sound and not self._was_sound):
            self._diverged(loss, norm, rate, taken=True)

    def _is_sound(self, loss: float, norm: float) -> bool:
        return self._skips_overflows or (math.isfinite(loss) and math.isfinite(norm))

    def _diverged(
        self, loss: float, norm: float, rate: float, group: Sequence[Batch] = (), *, taken: bool = False
    ) -> NoReturn:
        """Raise `DivergenceError`; `group` is the update that was not counted, `taken` if the weights have changed."""
        state = self._state
        step, cursor = state.step + bool(group), state.cursor
        best = ""
        if state.best_metric is not None:
            best = f"; the best model is that of step {state.best_step:,} ({abs(state.best_metric):.2f})"
        position = f"epoch {cursor.epoch + 1}, pool {cursor.pool + 1}, batch {cursor.batch + 1}"
        smaller = min(self._settings.optimizer.learning_rate / 3, _USUAL_RATE)
        details = self._report.diverged(_facts(state, step=step, loss=loss, norm=norm, rate=rate), group)
        raise DivergenceError(
            f"training diverged at step {step:,}: loss {loss:.3g} per token, gradient norm {norm:.3g}, "
            f"learning rate {rate:.3g}" + ("" if taken else "; no update was taken") + best,
            where=position if details is None else f"{details} ({position})",
            hint=f"training.optimizer.learning_rate={smaller:.1g}, or more "
            "training.schedule.warmup_steps, in another folder with -o",
            code="training.diverged",
        )


def is_hopeless(nll: float, vocabulary: int) -> bool:
    """Whether a loss per token, in nats, is so far above that of guessing (ln V) that training cannot recover."""
    return not math.isfinite(nll) or nll > 5.0 + 3.0 * math.log(vocabulary)


def _facts(state: TrainState, *, step: int, loss: float, norm: float, rate: float) -> dict[str, Any]:
    """Figures of the error for diverged.json; numbers that JSON does not know become text."""
    numbers = {"loss": loss, "gradient_norm": norm, "learning_rate": rate}
    shown = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    return {"step": step, **shown, "cursor": state.cursor._asdict()}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the device or on the host (torch has no class for the latter)."""
    return isinstance(error, torch.OutOfMemoryError) or what_ran_out(error) is not None


def out_of_memory_error(
    settings: TrainingSettings,
    device: torch.device,
    when: str,
    batches: Sequence[Batch],
    *,
    ranks: int,
    is_saved: bool = False,
) -> ResourceError:
    """The error to raise when memory ran out, with a smaller batch that makes the same update as a hint.

    Args:
        when: what was tried, without its batch.
        batches: this rank's shares of those of the update.
        ranks: ranks that share a batch.
        is_saved: whether the run has a checkpoint.
    """
    largest = _largest(batches)
    size = settings.batch_size
    if size == "auto":
        size = ranks * largest.source.shape[0]
        size *= max(largest.source.shape[1], largest.target_in.shape[1]) if settings.batch_type == "tokens" else 1
    limited = device.type == "cpu" and address_space_left() is not None
    smaller = f"training.batch_size={max(1, size // 2)} training.accumulation_steps={settings.accumulation_steps * 2}"
    return ResourceError(
        f"out of memory on {device} {when} ({_shape(largest)})" + ("; the last checkpoint is kept" if is_saved else ""),
        # A run directory that has begun keeps its batch size.
        hint=("ulimit -v unlimited, or " if limited else "")
        + f"{smaller}, in another folder with -o, or training.activation_checkpointing=true",
        code="memory.training",
    )


def _largest(batches: Sequence[Batch]) -> Batch:
    return max(batches, key=lambda batch: batch.source.numel() + batch.target_in.numel())


def _shape(batch: Batch) -> str:
    tokens = f"{batch.source.numel():,} source and {batch.target_in.numel():,} target tokens"
    return f"{len(batch.source):,} pairs, {tokens}, padding included"
