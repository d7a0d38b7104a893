"""The training loop: groups of batches in, better weights out.

`Trainer.fit` reads top-down: resume, then for every group of batches one update, with logging, validation and saving in
between. Data come as functions of (epoch, cursor) and validation as a function of the model, so that the loop knows
neither corpora nor search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from seq2seq.config import TrainingSettings
from seq2seq.console import say
from seq2seq.data.batching import Batch
from seq2seq.errors import DivergenceError, ResourceError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.optimizers import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from seq2seq.optimization.precision import Precision
from seq2seq.optimization.schedules import learning_rate
from seq2seq.training.checkpoint import Checkpoint, CheckpointFolder, load_model_tensors, model_tensors
from seq2seq.training.interruption import Interrupted, StopRequest
from seq2seq.training.report import RunReport, StepReport, Validation
from seq2seq.training.state import TrainState
from seq2seq.training.step import UpdateReport, Window, train_step


class EpochData(NamedTuple):
    """The training data, seen by the loop."""

    batches: Callable[[int, int], Iterator[Batch]]
    """(epoch, cursor) -> the batches of that epoch from that one on."""
    batches_per_epoch: Callable[[int], int]
    """epoch -> how many batches it has."""
    longest: Callable[[], Batch]
    """The batch that needs the most memory, for the rehearsal."""


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
    ) -> None:
        self.model = model
        self.settings = settings
        self.precision = precision
        self.checkpoints = checkpoints
        self.optimizer = build_optimizer(model, settings.optimizer)
        self.state = TrainState()
        self._window = Window()
        self._open_report = report
        self.validate = validate

    def fit(self, data: EpochData) -> TrainState:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            Interrupted: a signal came; the state was saved.
            DivergenceError: loss or gradient is not finite.
            ResourceError: memory or disk ran out.
        """
        self.checkpoints.clean()
        if checkpoint := self.checkpoints.load_last():
            self.resume(checkpoint)
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
        return self.state

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take weights, optimizer, random state and counters from a checkpoint."""
        self.state = checkpoint.state
        load_model_tensors(self.model, checkpoint.model, str(checkpoint.path))
        training = dict(checkpoint.training)
        torch.set_rng_state(training.pop("rng|cpu"))
        if (cuda := training.pop("rng|cuda", None)) is not None and self.precision.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.precision.device)
        load_optimizer_tensors(self.model, self.optimizer, training)
        self.precision.load_state(self.state.precision)
        say(f"resuming from step {self.state.step:,} (epoch {self.state.epoch + 1})")

    def rehearse(self, data: EpochData) -> None:
        """Run the largest batch forward and backward, so that memory fails now rather than hours in.

        Raises:
            ResourceError: it does not fit.
        """
        random_state = torch.get_rng_state()
        batch = data.longest().to(self.precision.device)
        self.model.train()
        try:
            with self.precision.autocast():
                hidden = self.model(batch.source, batch.target_in)
                loss = summed_loss(self.model.output, hidden, batch.target_out, self.settings.label_smoothing).loss
            loss.backward()  # type: ignore[no-untyped-call]
        except (torch.OutOfMemoryError, MemoryError):
            raise ResourceError(
                f"out of memory on {self.precision.device} with the largest batch "
                f"({batch.source.numel()} source and {batch.target_in.numel()} target tokens, padding included)",
                hint=f"training.batch_size={self.settings.batch_size // 2} training.accumulation_steps="
                f"{self.settings.accumulation_steps * 2}",
            ) from None
        self.model.zero_grad(set_to_none=True)
        torch.set_rng_state(random_state)

    def _train(self, data: EpochData, report: RunReport, stop: StopRequest) -> None:
        settings, state = self.settings, self.state
        self._window = Window(state.window)
        clock = time.monotonic()
        while not self._done():
            batch_count = data.batches_per_epoch(state.epoch)
            for group in self._groups(data.batches(state.epoch, state.cursor)):
                update = self._update(group)
                report.advance()
                now = time.monotonic()
                self._window.add(update, now - clock)
                state.seconds, clock = state.seconds + now - clock, now
                looks = state.step % settings.validate_every == 0 or self._out_of_steps()
                if state.step % settings.log_every == 0 or looks:
                    report.step(self._summary(update, batch_count))
                    self._window = Window()
                if looks and not self._out_of_steps():
                    self._look_and_save(report)
                    clock = time.monotonic()
                if stop.number is not None:
                    self._save(validated=False)
                    raise Interrupted(stop.number, state.step)
                if self._done():
                    break
            else:
                state.epoch, state.cursor = state.epoch + 1, 0
        if not state.finished:
            self._look_and_save(report)

    def _groups(self, batches: Iterator[Batch]) -> Iterator[list[Batch]]:
        """Batches of one update; what is left at the end of an epoch is an update too, not dropped."""
        group: list[Batch] = []
        for batch in batches:
            group.append(batch)
            if len(group) == self.settings.accumulation_steps:
                yield group
                group = []
        if group:
            yield group

    def _update(self, group: list[Batch]) -> UpdateReport:
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
                self.model,
                group,
                self.optimizer,
                self.precision,
                label_smoothing=settings.label_smoothing,
                max_gradient_norm=settings.max_gradient_norm,
            )
        except torch.OutOfMemoryError:
            raise ResourceError(
                f"out of memory on {self.precision.device} at step {state.step + 1}",
                hint=f"training.batch_size={settings.batch_size // 2}; the last checkpoint is kept",
            ) from None
        if self.precision.device.type != "cuda":  # a look costs nothing here; on CUDA the log line looks
            self._check_finite(result, rate)
        state.step += 1
        state.cursor += len(group)
        state.tokens_seen += result.target_tokens
        return result

    def _check_finite(self, result: UpdateReport, rate: float) -> None:
        loss, norm = float(result.loss), float(result.gradient_norm)
        if (math.isfinite(loss) and math.isfinite(norm)) or self.precision.choice.name == "fp16":
            return
        raise DivergenceError(
            f"training diverged at step {self.state.step + 1}: loss {loss / result.target_tokens:.3g} per token, "
            f"gradient norm {norm:.3g}, learning rate {rate:.3g}; no update was taken",
            where=f"epoch {self.state.epoch + 1}, batch {self.state.cursor + 1}",
            hint=f"training.optimizer.learning_rate={self.settings.optimizer.learning_rate / 3:.1g}, "
            "or more training.schedule.warmup_steps",
        )

    def _summary(self, update: UpdateReport, batch_count: int) -> StepReport:
        state, window = self.state, self._window
        loss, nll, target = float(window.loss), float(window.nll), window.target_tokens
        rate = float(self.optimizer.param_groups[0]["lr"])
        self._check_finite(update._replace(loss=torch.tensor(loss)), rate)
        return StepReport(
            step=state.step,
            epoch=round(state.epoch + state.cursor / batch_count, 3),
            loss=loss / target,
            perplexity=math.exp(min(nll / target, 700.0)),
            gradient_norm=float(update.gradient_norm),
            learning_rate=rate,
            tokens_per_second=(target + window.source_tokens) / window.seconds,
            target_tokens_per_second=target / window.seconds,
        )

    def _out_of_steps(self) -> bool:
        settings, state = self.settings, self.state
        return (
            state.step >= settings.max_steps
            or (settings.max_epochs is not None and state.epoch >= settings.max_epochs)
            or (settings.max_minutes is not None and state.seconds >= 60.0 * settings.max_minutes)
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
            result = self.validate(state.step)
            improved = self._judge(result)
            patience = f" of {self.settings.patience}" if self.settings.patience else ""
            best = abs(state.best_metric or 0.0)
            stalled = f"stalled {state.stalled}{patience} (best {best:.2f} at step {state.best_step:,})"
            report.validation(result, "new best" if improved else stalled)
        state.seconds += time.monotonic() - started
        state.finished = self._done()
        path = self._save(validated=True)
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

    def _save(self, *, validated: bool) -> Path:
        self.state.validated = validated
        self.state.precision = self.precision.state()
        self.state.window = self._window.saved()
        training = optimizer_tensors(self.model, self.optimizer)
        training["rng|cpu"] = torch.get_rng_state()
        if self.precision.device.type == "cuda":
            training["rng|cuda"] = torch.cuda.get_rng_state(self.precision.device)
        return self.checkpoints.save(model_tensors(self.model), training, self.state)
