"""The training loop.

`Trainer.fit` reads top-down: resume, rehearse, then one update for each group of batches, with logging, validation and
saving in between. Data arrive as a stream that starts at a cursor, and validation is a function that is passed in, so
the loop knows neither corpora nor search.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

from torch import nn

from seq2seq.atomic_files import show_bytes
from seq2seq.checkpoints.checkpoint import Checkpoint, load_model_tensors, model_tensors
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.config import TrainingSettings
from seq2seq.console import say, warn
from seq2seq.data.batch_plan import Cursor
from seq2seq.data.batches import Batch, TrainingBatches, loader_error
from seq2seq.distributed.ranks import Ranks, UpdateTotals, agreed_stop, sum_update
from seq2seq.evaluation.metrics import perplexity
from seq2seq.failpoints import reach
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.evaluation_weights import PREFIX as AVERAGE_PREFIX
from seq2seq.optimization.evaluation_weights import EvaluationWeights
from seq2seq.optimization.optimizers import (
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from seq2seq.optimization.precision import ASYNCHRONOUS, Precision
from seq2seq.signals import Interrupted, StopRequest
from seq2seq.system import address_space_left, free_memory, peak_memory
from seq2seq.training.failures import DivergenceWatch, is_out_of_memory, out_of_memory_error
from seq2seq.training.metrics_log import Report, StepReport, Validation
from seq2seq.training.random_state import random_states, set_random_states
from seq2seq.training.rehearsal import rehearse, rehearsing
from seq2seq.training.step import LossModule, RunningTotals, UpdateReport, train_step
from seq2seq.training.stopping import StoppingCriteria

_TIMED_STEPS, _TIMED_SECONDS = 16, 1.0
"""Most steps of an estimate, and the time after which three are enough."""

_CAUTION = 2.0
"""How much more than a first update needs must be free for the largest batch not to be rehearsed."""

OnPace = Callable[[float], object]
"""Called once with the seconds that one update takes."""

Validate = Callable[[int, StopRequest], Validation | None]
"""Validation of the model after a number of updates; returns None on every rank if the request interrupted it."""


def grouped(batches: Iterator[tuple[Batch, Cursor]], size: int) -> Iterator[tuple[list[Batch], Cursor]]:
    """Groups of `size` batches, one group for each update, with the cursor after it; the last one may be smaller."""
    while read := list(islice(batches, size)):
        yield [batch for batch, _ in read], read[-1][1]


def suffice(durations: Sequence[float], agreed_seconds: float) -> bool:
    """True if the first updates suffice for an estimate; `agreed_seconds` is their sum, the same on all ranks."""
    return len(durations) >= _TIMED_STEPS or (agreed_seconds > _TIMED_SECONDS and len(durations) >= 3)


def typical(durations: Sequence[float]) -> float:
    """The median duration of the first updates without two, which fill caches."""
    return statistics.median(durations[2:] or durations[1:] or durations or [0.0])


class StepTimer:
    """Stopwatch of the updates, which calls `on_pace` once, if it is given."""

    def __init__(self, on_pace: OnPace | None) -> None:
        self._on_pace, self._first = on_pace, list[float]()
        self.restart()

    def restart(self) -> None:
        """Leave out the time since the last update."""
        self._begin = time.monotonic()

    def lap(self, update: UpdateReport) -> float:
        """Seconds of this update, with the reading of its batches."""
        if self._on_pace is not None:
            float(update.loss)  # waits for the device
        now = time.monotonic()
        seconds, self._begin = now - self._begin, now
        if self._on_pace is not None:
            self._first.append(seconds)
        return seconds

    def tell_pace(self, agreed_seconds: float, *, at_once: bool) -> None:
        """Call `on_pace` if the updates suffice for an estimate, or `at_once`; its time is left out."""
        if self._on_pace is not None and (at_once or suffice(self._first, agreed_seconds)):
            self._on_pace(typical(self._first))
            self._on_pace = None
            self.restart()


class Trainer:
    """Training of one model in one run directory.

    Args:
        model: the model, on its device.
        settings: the `training` section of the config.
        precision: device and number format of the step.
        checkpoints: where the state is saved and resumed from.
        report: opens the report of this rank, given the last step done and the expected number of steps.
        validate: the validation; None without a validation set.
        ranks: this process among those that share every batch; a single one by default.
    """

    def __init__(
        self,
        model: Seq2SeqModel,
        settings: TrainingSettings,
        precision: Precision,
        checkpoints: CheckpointFolder,
        report: Callable[[int, int], Report],
        validate: Validate | None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.precision = precision
        self.checkpoints = checkpoints
        self.losses = LossModule(
            model,
            label_smoothing=settings.label_smoothing,
            r_drop=settings.r_drop,
            simcut=settings.simcut,
            cutoff=settings.cutoff,
        )
        self.optimizer = build_optimizer(model, settings.optimizer)
        self.weights = EvaluationWeights(model, self.optimizer, settings.ema_decay)
        self.state = TrainState()
        self.ranks = ranks or Ranks.single()
        self.validate = validate
        self._distributed_losses: nn.Module | None = None
        self._was_rehearsed = False
        self._totals = RunningTotals(self.ranks)
        self._open_report = report

    def fit(self, data: TrainingBatches, share: float = 1.0, on_pace: OnPace | None = None) -> TrainState:
        """Train to the end, starting from the last checkpoint if there is one.

        Args:
            data: the stream of batches.
            share: share of the steps after which training pauses, at the next validation; the state is then not
                `finished`, and a later call goes on as if there had been no pause.
            on_pace: called on every rank after the first updates of a new run, before it saves anything.

        Raises:
            Interrupted: a signal came; the state was saved.
            DivergenceError: loss or gradient is not finite.
            ResourceError: memory or disk ran out.
            WorkerError: a data loader process died.
        """
        _warn_if_address_space_is_small()
        with self.ranks.first_then_others("checkpoints"):
            if self.ranks.is_first:
                self.checkpoints.clean()
        if checkpoint := self.checkpoints.load_last():
            self.resume(checkpoint)
        self.ranks.require_equal("checkpoint", f"step {self.state.step}")
        agreed = self.state.seconds if self.ranks.size > 1 else None
        self.stopping = StoppingCriteria(self.settings, self.state, agreed)
        if self.state.finished and self.stopping.is_done():
            if self.ranks.is_first:  # the last save may have been interrupted before it
                self.checkpoints.prune(keep=self.settings.average_checkpoints)
            self.ranks.barrier()
            return self.state
        self.state.finished = False
        if self.state.step == 0 and not self._was_rehearsed and self.rehearses_first:
            self.rehearse(data)
        if self.ranks.is_first:
            self._warn_if_disk_is_small()
        report = self._open_report(self.state.step, self.stopping.expected_steps())
        try:
            try:
                with StopRequest() as stop:
                    self._run_updates(data, report, stop, share, on_pace if self.state.step == 0 else None)
            finally:
                report.close()
        except RuntimeError as error:  # torch's handler of SIGCHLD raises it anywhere, in `close` as well
            if (died := loader_error(error)) is None:
                raise
            raise died from error
        self.ranks.barrier()  # rank 0 has saved its files
        return self.state

    def resume(self, checkpoint: Checkpoint) -> None:
        """Load weights, optimizer, random state and counters from a checkpoint."""
        self.state = checkpoint.state
        load_model_tensors(self.model, checkpoint.model, str(checkpoint.path))
        self.weights.load(checkpoint.training)
        set_random_states(checkpoint.training, self.ranks, self.precision.device)
        other = ("rng|", AVERAGE_PREFIX)
        moments = {name: tensor for name, tensor in checkpoint.training.items() if not name.startswith(other)}
        load_optimizer_tensors(self.model, self.optimizer, moments)
        self.precision.load_state(self.state.precision)
        if self.ranks.is_first:
            self.checkpoints.restore_marks(checkpoint)
        say(f"resuming from step {self.state.step:,} (epoch {self.state.cursor.epoch + 1})")
        max_steps = self.settings.max_steps
        if self.state.step > max_steps and not self.state.finished:
            say(f"training.max_steps {max_steps:,} has been passed: the run ends here")

    def rehearse(self, data: TrainingBatches) -> None:
        """Try one step on the largest batch, without a trace; see `training.rehearsal`.

        Raises:
            ResourceError: it does not fit into memory.
        """
        batch = data.longest().share(0, self.ranks.size)
        rehearse(self.losses, batch, self.optimizer, self.precision, self.settings, self.ranks.size)
        self._was_rehearsed = True

    @property
    def rehearses_first(self) -> bool:
        """Whether the largest batch is tried before the first update; on a CPU a first update shows whether it must."""
        return self.precision.device.type != "cpu"

    def _may_run_short(self, data: TrainingBatches, group: list[Batch]) -> bool:
        """True if the largest batch, unless it was rehearsed, might not fit into memory, after a first update has shown
        what batches need.

        A rehearsal takes as long as two updates, and a computer hardly ever needs it.
        """
        if self._was_rehearsed:
            return False
        largest, first = data.longest().relative_memory(), max(batch.relative_memory() for batch in group)
        device, ranks = self.precision.device, self.ranks.size
        needed = _CAUTION * peak_memory(device) * max(1.0, largest / ranks / first)
        return ranks * needed > free_memory(device)

    def time_steps(self, data: TrainingBatches) -> float:
        """Seconds of one update, from a few that leave no trace. Every rank must call it."""
        self._wrapped_losses()  # gives all ranks the weights of rank 0, which must outlive the rehearsal
        first, durations = None, list[float]()
        with rehearsing(self.model, self.optimizer, self.precision), StopRequest() as stop:
            self.model.train()
            groups = grouped(data.epoch(Cursor()), self.settings.accumulation_steps)
            for group, _ in groups:
                begin = time.monotonic()
                totals = sum_update(self.ranks, group, sum(durations), stop)
                if totals.stop or suffice(durations, totals.seconds):
                    break
                first = first or group
                self._train_step(group, totals.target_tokens, "in a timed step", waits=True)
                durations.append(time.monotonic() - begin)
        if first is not None and self._may_run_short(data, first):
            self.rehearse(data)
        return typical(durations)

    def _train_step(self, group: list[Batch], target_tokens: int, when: str, *, waits: bool = False) -> UpdateReport:
        """One update from a group of batches; `waits` for the device, and names `when` in its error.

        Raises:
            ResourceError: it does not fit into memory.
        """
        losses, norm = self._wrapped_losses(), self.settings.max_gradient_norm
        try:
            update = train_step(
                losses, group, self.optimizer, self.precision, max_gradient_norm=norm, target_tokens=target_tokens
            )
            if waits:
                float(update.loss)
            return update
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            is_saved, ranks, device = bool(self.checkpoints.steps()), self.ranks.size, self.precision.device
            raise out_of_memory_error(self.settings, device, when, group, ranks=ranks, is_saved=is_saved) from None

    def _wrapped_losses(self) -> nn.Module:
        if self._distributed_losses is None:
            self._distributed_losses = self.ranks.wrap(self.losses)
        return self._distributed_losses

    def _run_updates(
        self, data: TrainingBatches, report: Report, stop: StopRequest, share: float, on_pace: OnPace | None
    ) -> None:
        settings, state, timer = self.settings, self.state, StepTimer(on_pace)
        is_fp16, vocabulary = self.precision.choice.name == "fp16", self.model.output.out_features
        watch = DivergenceWatch(settings, state, report, skips_overflows=is_fp16, vocabulary=vocabulary)
        self._totals = RunningTotals(self.ranks, state.window)
        self._wrapped_losses()
        if self._validation_was_interrupted():
            self._validate_and_save(report, stop)
        timer.restart()
        for group, cursor in self._groups(data, share):
            totals = self._agreed_totals(group, stop)
            update = self._update(group, totals, watch)
            state.cursor, state.validated = cursor, False
            seconds = timer.lap(update)
            state.seconds += seconds
            self._totals.add(update, seconds)
            if state.step == 1 and self._may_run_short(data, group):
                self.rehearse(data)
                timer.restart()
            self.stopping.measure_pace(data.pairs_per_epoch)
            report.advance(self.stopping.expected_steps())
            validates = state.step % self.stopping.validate_every() == 0 or self.stopping.has_reached_limit()
            timer.tell_pace(totals.seconds, at_once=validates)
            if state.step % settings.log_every == 0 or validates:
                report.step(self._summary(update, data.pairs_per_epoch, watch))
                self._totals = RunningTotals(self.ranks)
            if validates and not self.stopping.has_reached_limit():
                self._validate_and_save(report, stop)
                timer.restart()
            number = stop.number if self.ranks.size == 1 else totals.stop
            if number is not None:
                self._save_and_stop(number)
        if self.stopping.is_done():
            self._finish(report, stop)

    def _groups(self, data: TrainingBatches, share: float) -> Iterator[tuple[list[Batch], Cursor]]:
        """The batches of one update after another, with the cursor after them, until the run ends or pauses."""
        while not self.stopping.is_done() and not self._pauses(share):
            for group in grouped(data.epoch(self.state.cursor), self.settings.accumulation_steps):
                yield group
                if self.stopping.is_done() or self._pauses(share):
                    return

    def _agreed_totals(self, group: list[Batch], stop: StopRequest) -> UpdateTotals:
        """Totals of an update over all ranks, which go on with the training time of rank 0."""
        totals = sum_update(self.ranks, group, self.state.seconds, stop)
        self.state.seconds = totals.seconds
        if self.ranks.size > 1:
            self.stopping.agreed_seconds = totals.seconds
        return totals

    def _finish(self, report: Report, stop: StopRequest) -> None:
        """Validate and save at the end of the run, and say which limit ended it."""
        if self.state.validated:  # a smaller patience or max_steps ends the run at a step that was validated before
            self.state.finished = True
        if not self.state.finished:
            self._validate_and_save(report, stop)
        self.stopping.tell_end_by_limit()

    def _update(self, group: list[Batch], totals: UpdateTotals, watch: DivergenceWatch) -> UpdateReport:
        settings, state = self.settings, self.state
        peak = settings.optimizer.learning_rate
        steps = self.stopping.expected_steps()
        rate = learning_rate(state.step + 1, self.stopping.schedule(), peak=peak, max_steps=steps)
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        reach("step.begin")
        update = self._train_step(group, totals.target_tokens, f"at step {state.step + 1:,}")._replace(
            source_tokens=totals.source_tokens
        )
        if self.precision.device.type not in ASYNCHRONOUS:  # there this would wait; the log line checks
            loss, norm = float(update.loss) / update.target_tokens, float(update.gradient_norm)
            watch.check_update(loss, norm, rate, group)
        self.weights.update()
        state.step += 1
        state.tokens_seen += update.target_tokens
        return update

    def _summary(self, update: UpdateReport, pairs_per_epoch: int, watch: DivergenceWatch) -> StepReport:
        state, totals = self.state, self._totals
        loss, nll = totals.losses()
        target = totals.target_tokens
        rate, norm = float(self.optimizer.param_groups[0]["lr"]), float(update.gradient_norm)
        watch.check_mean(loss / target, nll / target, norm, rate)
        return StepReport(
            step=state.step,
            epoch=round(state.cursor.epoch + state.cursor.pairs / pairs_per_epoch, 3),
            loss=loss / target,
            perplexity=perplexity(nll / target),
            gradient_norm=norm,
            learning_rate=rate,
            tokens_per_second=(target + totals.source_tokens) / totals.seconds,
            target_tokens_per_second=target / totals.seconds,
        )

    def _validate_and_save(self, report: Report, stop: StopRequest) -> None:
        """Validate, compare with the best, save. After a signal the resumed run starts with the same validation."""
        state = self.state
        started = time.monotonic()
        improved = True
        if self.validate is not None:
            reach("validation.begin")
            with self.weights.in_model():
                result = self.validate(state.step, stop)
            if result is None:
                self._save_and_stop(agreed_stop(self.ranks, stop))
            improved = state.judge(result.metric, result.loss)
            if not self.stopping.tries_patience():
                state.stalled = 0
            patience = f" of {self.settings.patience}" if self.settings.patience else ""
            verdict = f"stalled {state.stalled}{patience}" if state.stalled else "no new best"
            best = abs(state.best_metric or 0.0)
            verdict += f" (best {best:.2f} at step {state.best_step:,})"
            report.validation(result, "new best" if improved else verdict, best)
        state.seconds += time.monotonic() - started
        state.finished = self.stopping.is_done()
        path = self._save(validated=True)
        if path is None:
            return
        if improved:
            self.checkpoints.mark_best(path)
        self.checkpoints.prune(keep=self.settings.average_checkpoints)

    def _save(self, *, validated: bool) -> Path | None:
        """Write a checkpoint; every rank must call it, rank 0 writes."""
        self.state.validated = validated
        self.state.precision = self.precision.state()
        self.state.window = self._totals.saved()
        random = random_states(self.ranks, self.precision.device)
        if not self.ranks.is_first:
            return None
        training = optimizer_tensors(self.model, self.optimizer) | self.weights.tensors() | random
        with self.weights.in_model():
            return self.checkpoints.save(model_tensors(self.model), training, self.state)

    def _save_and_stop(self, number: int) -> NoReturn:
        """Save unless that is done, and raise `Interrupted`; every rank must call it."""
        if not self.state.validated:
            say(f"{signal.Signals(number).name} received: saving step {self.state.step:,}")
            self._save(validated=False)
            self.ranks.barrier()  # the launcher may end all ranks soon after the first has ended
        raise Interrupted(number, f"saved step {self.state.step:,}")

    def _validation_was_interrupted(self) -> bool:
        """Whether the run was stopped during the validation of its current step."""
        state = self.state
        at_validation = state.step > 0 and state.step % self.stopping.validate_every() == 0
        return at_validation and not state.validated and not self.stopping.has_reached_limit()

    def _pauses(self, share: float) -> bool:
        return share < 1.0 and self.state.validated and self.state.step >= share * self.stopping.expected_steps()

    def _warn_if_disk_is_small(self) -> None:
        model = sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())
        # Two moments for each weight, and the training weights where others are evaluated.
        training = (3 if self.weights.differs else 2) * model
        self.checkpoints.warn_if_disk_is_small(model, training, self.settings.average_checkpoints)


_SAFE_ADDRESS_SPACE = 4 << 30
"""Minimum address space, in bytes: with less, torch's threads may fail to start, which ends the process."""


def _warn_if_address_space_is_small() -> None:
    left = address_space_left()
    if left is not None and left < _SAFE_ADDRESS_SPACE:
        warn(
            f"{show_bytes(left)} of address space are left to this process, and training may fail for want of it; "
            "lift the limit before: ulimit -v unlimited"
        )
