"""The training loop: groups of batches in, better weights out.

`Trainer.fit` reads top-down: resume, then for every group of batches one update, with logging, validation and saving in
between. Data come as a stream from a cursor on and validation as a function of the model, so that the loop knows
neither corpora nor search.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import nn

from seq2seq.config import TrainingSettings
from seq2seq.console import say
from seq2seq.data.batching import Batch, Cursor
from seq2seq.errors import DivergenceError, ResourceError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.averaging import PREFIX as AVERAGE_PREFIX
from seq2seq.optimization.averaging import EvaluationWeights
from seq2seq.optimization.optimizers import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from seq2seq.optimization.precision import Precision
from seq2seq.optimization.schedules import learning_rate
from seq2seq.training.checkpoint import Checkpoint, CheckpointFolder, load_model_tensors, model_tensors
from seq2seq.training.distributed import Ranks
from seq2seq.training.fitting import rehearsing
from seq2seq.training.interruption import STOPPING_SIGNALS, Interrupted, StopRequest
from seq2seq.training.randomness import random_states, set_random_states
from seq2seq.training.report import RunReport, StepReport, Validation
from seq2seq.training.state import TrainState
from seq2seq.training.step import LossModule, UpdateReport, train_step
from seq2seq.training.window import Window


class TrainingData(Protocol):
    """The training data, seen by the loop (`data.batching.TrainingBatches`)."""

    def epoch(self, cursor: Cursor) -> Iterator[tuple[Batch, Cursor]]:
        """The rest of the cursor's epoch, each batch with the place after it."""
        ...

    @property
    def pairs_per_epoch(self) -> int:
        """Pairs read in an epoch."""
        ...

    def longest(self) -> Batch:
        """The batch that needs the most memory, for the rehearsal."""
        ...


class Agreement(NamedTuple):
    """What all ranks know of an update before it begins."""

    target_tokens: int
    source_tokens: int
    stop: int | None
    """A signal that came to one of them."""


class Trainer:
    """Trains one model in one run directory."""

    def __init__(
        self,
        model: Seq2SeqModel,
        settings: TrainingSettings,
        precision: Precision,
        checkpoints: CheckpointFolder,
        report: Callable[[int], RunReport],
        validate: Callable[[int], Validation] | None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.precision = precision
        self.checkpoints = checkpoints
        self.losses = LossModule(model, label_smoothing=settings.label_smoothing, r_drop=settings.r_drop)
        self.optimizer = build_optimizer(model, settings.optimizer)
        self.weights = EvaluationWeights(model, self.optimizer, settings.ema_decay)
        self.state = TrainState()
        self.ranks = ranks or Ranks.single()
        self._shared: nn.Module = self.losses
        self._agreed_seconds = 0.0
        self._window = Window(self.ranks)
        self._open_report = report
        self.validate = validate

    def fit(self, data: TrainingData) -> TrainState:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            Interrupted: a signal came; the state was saved.
            DivergenceError: loss or gradient is not finite.
            ResourceError: memory or disk ran out.
        """
        if self.ranks.is_first:
            self.checkpoints.clean()
        if checkpoint := self.checkpoints.load_last():
            self.resume(checkpoint)
        self.ranks.agree("checkpoint", f"step {self.state.step}")
        self._agreed_seconds = self.state.seconds
        if self.state.finished and self._done():
            return self.state
        self.state.finished = False
        if self.state.step == 0:
            self.rehearse(data)
        report = self._open_report(self.state.step)
        try:
            with StopRequest() as stop:
                self._train(data, report, stop)
        finally:
            report.close()
        self.ranks.barrier()  # what rank 0 has saved is there for all
        return self.state

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take weights, optimizer, random state and counters from a checkpoint."""
        self.state = checkpoint.state
        load_model_tensors(self.model, checkpoint.model, str(checkpoint.path))
        self.weights.load(checkpoint.training)
        set_random_states(checkpoint.training, self.ranks, self.precision.device)
        other = ("rng|", AVERAGE_PREFIX)
        moments = {name: tensor for name, tensor in checkpoint.training.items() if not name.startswith(other)}
        load_optimizer_tensors(self.model, self.optimizer, moments)
        self.precision.load_state(self.state.precision)
        say(f"resuming from step {self.state.step:,} (epoch {self.state.cursor.epoch + 1})")

    def rehearse(self, data: TrainingData) -> None:
        """One whole step on the largest batch, without lasting effect, so that memory fails now rather than hours in.

        Raises:
            ResourceError: it does not fit.
        """
        batch = data.longest()
        step = self.ranks.size
        batch = batch._replace(
            source=batch.source[::step], target_in=batch.target_in[::step], target_out=batch.target_out[::step]
        )
        try:
            with rehearsing(self.model, self.optimizer, self.precision):
                self.model.train()
                train_step(self.losses, [batch], self.optimizer, self.precision, max_gradient_norm=1.0)
        except (torch.OutOfMemoryError, MemoryError):
            raise self._out_of_memory(
                f"with the largest batch ({batch.source.numel()} source and {batch.target_in.numel()} target tokens, "
                "padding included)",
            ) from None

    def _out_of_memory(self, when: str) -> ResourceError:
        size = self.settings.batch_size
        smaller = "auto" if size == "auto" else size // 2
        return ResourceError(
            f"out of memory on {self.precision.device} {when}",
            hint=f"training.batch_size={smaller} training.accumulation_steps={self.settings.accumulation_steps * 2}, "
            "or training.activation_checkpointing=true",
        )

    def _train(self, data: TrainingData, report: RunReport, stop: StopRequest) -> None:
        settings, state = self.settings, self.state
        self._window = Window(self.ranks, state.window)
        self._shared = self.ranks.wrap(self.losses)
        clock = time.monotonic()
        while not self._done():
            for group, cursor in self._groups(data.epoch(state.cursor)):
                agreed = self._agree(group, stop)
                update = self._update(group, agreed)
                state.cursor = cursor
                report.advance()
                now = time.monotonic()
                self._window.add(update, now - clock)
                state.seconds, clock = state.seconds + now - clock, now
                looks = state.step % settings.validate_every == 0 or self._out_of_steps()
                if state.step % settings.log_every == 0 or looks:
                    report.step(self._summary(update, data.pairs_per_epoch))
                    self._window = Window(self.ranks)
                if looks and not self._out_of_steps():
                    self._look_and_save(report)
                    clock = time.monotonic()
                number = stop.number if self.ranks.size == 1 else agreed.stop
                if number is not None:
                    self._save(validated=False)
                    raise Interrupted(number, state.step)
                if self._done():
                    break
        if not state.finished:
            self._look_and_save(report)

    def _groups(self, batches: Iterator[tuple[Batch, Cursor]]) -> Iterator[tuple[list[Batch], Cursor]]:
        """Batches of one update, and the place after them; what is left at the end of an epoch is an update too."""
        while read := list(islice(batches, self.settings.accumulation_steps)):
            yield [batch for batch, _ in read], read[-1][1]

    def _agree(self, group: list[Batch], stop: StopRequest) -> Agreement:
        """Exchange what decides about the update and what follows it, so that every rank decides the same."""
        number = signal.SIGTERM if self.ranks.abandoned else stop.number
        target, source, self._agreed_seconds, *wishes = self.ranks.sum_host(
            [
                sum(batch.tokens for batch in group),
                sum(batch.source_tokens for batch in group),
                self.state.seconds if self.ranks.is_first else 0.0,
                *(float(number == known) for known in STOPPING_SIGNALS),
            ]
        )
        self.state.seconds = self._agreed_seconds
        wished = [known for known, wish in zip(STOPPING_SIGNALS, wishes, strict=True) if wish]
        return Agreement(int(target), int(source), wished[0] if wished else None)

    def _update(self, group: list[Batch], agreed: Agreement) -> UpdateReport:
        settings, state = self.settings, self.state
        rate = learning_rate(
            state.step + 1,
            settings.schedule,
            peak=settings.optimizer.learning_rate,
            max_steps=settings.max_steps,
        )
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        try:
            result = train_step(
                self._shared,
                group,
                self.optimizer,
                self.precision,
                max_gradient_norm=settings.max_gradient_norm,
                target_tokens=agreed.target_tokens,
            )._replace(source_tokens=agreed.source_tokens)
        except torch.OutOfMemoryError:
            raise self._out_of_memory(f"at step {state.step + 1}; the last checkpoint is kept") from None
        if self.precision.device.type != "cuda":  # a look costs nothing here; on CUDA the log line looks
            self._check_finite(result, rate)
        self.weights.update()
        state.step += 1
        state.tokens_seen += result.target_tokens
        return result

    def _check_finite(self, result: UpdateReport, rate: float) -> None:
        loss, norm = float(result.loss), float(result.gradient_norm)
        if (math.isfinite(loss) and math.isfinite(norm)) or self.precision.choice.name == "fp16":
            return
        cursor = self.state.cursor
        raise DivergenceError(
            f"training diverged at step {self.state.step + 1}: loss {loss / result.target_tokens:.3g} per token, "
            f"gradient norm {norm:.3g}, learning rate {rate:.3g}; no update was taken",
            where=f"epoch {cursor.epoch + 1}, pool {cursor.pool + 1}, batch {cursor.batch + 1}",
            hint=f"training.optimizer.learning_rate={self.settings.optimizer.learning_rate / 3:.1g}, "
            "or more training.schedule.warmup_steps",
        )

    def _summary(self, update: UpdateReport, pairs_per_epoch: int) -> StepReport:
        state, window = self.state, self._window
        loss, nll = window.totals()
        target = window.target_tokens
        rate = float(self.optimizer.param_groups[0]["lr"])
        self._check_finite(update._replace(loss=torch.tensor(loss)), rate)
        return StepReport(
            step=state.step,
            epoch=round(state.cursor.epoch + state.cursor.pairs / pairs_per_epoch, 3),
            loss=loss / target,
            perplexity=math.exp(min(nll / target, 700.0)),
            gradient_norm=float(update.gradient_norm),
            learning_rate=rate,
            tokens_per_second=(target + window.source_tokens) / window.seconds,
            target_tokens_per_second=target / window.seconds,
        )

    def _out_of_steps(self) -> bool:
        settings, state = self.settings, self.state
        seconds = state.seconds if self.ranks.size == 1 else self._agreed_seconds
        return (
            state.step >= settings.max_steps
            or (settings.max_epochs is not None and state.cursor.epoch >= settings.max_epochs)
            or (settings.max_minutes is not None and seconds >= 60.0 * settings.max_minutes)
        )

    def _done(self) -> bool:
        patience = self.settings.patience
        return self._out_of_steps() or (patience is not None and self.state.stalled >= patience)

    def _look_and_save(self, report: RunReport) -> None:
        """Validate, judge, save."""
        state = self.state
        started = time.monotonic()
        improved = True
        if self.validate is not None:
            with self.weights.in_model():
                result = self.validate(state.step)
            improved = self._judge(result)
            patience = f" of {self.settings.patience}" if self.settings.patience else ""
            best = abs(state.best_metric or 0.0)
            stalled = f"stalled {state.stalled}{patience} (best {best:.2f} at step {state.best_step:,})"
            report.validation(result, "new best" if improved else stalled)
        state.seconds += time.monotonic() - started
        state.finished = self._done()
        path = self._save(validated=True)
        if path is None:
            return
        if improved:
            self.checkpoints.mark_best(path)
        self.checkpoints.prune(keep=self.settings.average_checkpoints)

    def metric(self, result: Validation) -> float:
        """The number that the best model is best at. Its direction is settled here alone: higher is better."""
        return -result.loss if result.bleu is None else result.bleu

    def _judge(self, result: Validation) -> bool:
        """Update best and stalled."""
        state = self.state
        metric = self.metric(result)
        improved = state.best_metric is None or metric > state.best_metric
        if improved:
            state.best_metric, state.best_step, state.stalled = metric, state.step, 0
        else:
            state.stalled += 1
        return improved

    def _save(self, *, validated: bool) -> Path | None:
        """Write a checkpoint: rank 0, with what it needs of the others."""
        self.state.validated = validated
        self.state.precision = self.precision.state()
        self.state.window = self._window.saved()
        randomness = random_states(self.ranks, self.precision.device)
        if not self.ranks.is_first:
            return None
        training = optimizer_tensors(self.model, self.optimizer) | self.weights.tensors() | randomness
        with self.weights.in_model():
            return self.checkpoints.save(model_tensors(self.model), training, self.state)
