"""Report of a run: one JSON line per event in metrics.jsonl, a tracker, and progress on the console."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import ExceptHookArgs
from typing import Any, NamedTuple

from torch.utils.tensorboard.writer import SummaryWriter

from seq2seq.alignment.pictures import attention_picture
from seq2seq.atomic_files import no_follow, write_json, write_text
from seq2seq.console import Progress, say, warn
from seq2seq.data.batches import Batch
from seq2seq.errors import UserError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.failpoints import reach
from seq2seq.sealed_records import SentenceAttention, write_attention
from seq2seq.training.experiment_tracker import Tracker, TrackerName

Texts = Callable[[Batch], list[tuple[str, str]]]


class StepReport(NamedTuple):
    """Training figures, averaged since the last log line."""

    step: int
    epoch: float
    loss: float
    """Label-smoothed loss, nats per target token."""
    perplexity: float
    """exp(negative log-likelihood per target token), on training data with dropout."""
    gradient_norm: float
    learning_rate: float
    tokens_per_second: float
    """Source and target tokens."""
    target_tokens_per_second: float


class Validation(NamedTuple):
    """Result of one validation."""

    step: int
    loss: float
    """Negative log-likelihood, nats per target token; no smoothing, no dropout."""
    perplexity: float
    score: MetricResult | None
    """BLEU or chrF, whichever is the metric; None if that is the loss."""
    seconds: float
    samples: list[tuple[str, str, str]]
    """(source, reference, translation) of a few fixed sentences."""
    attention: Sequence[SentenceAttention] = ()
    """Attention of the samples and of the best and the worst translations; empty without attention."""

    @property
    def metric(self) -> float:
        """The number that the best model maximises: the score, or the negative loss."""
        return -self.loss if self.score is None else self.score.value

    @property
    def shown_metric(self) -> str:
        """The metric with its name: `BLEU 31.20`, `loss 2.31`."""
        return f"loss {self.loss:.2f}" if self.score is None else f"{self.score.name} {self.score.value:.2f}"


class Report:
    """Report of a training; this class, for ranks other than 0, writes and shows nothing."""

    def advance(self, max_steps: int) -> None:
        """Count one step of the number that is now expected."""

    def step(self, report: StepReport) -> None:
        """Log the training figures."""

    def validation(self, result: Validation, verdict: str, best: float) -> None:
        """Log a validation; `verdict` compares it with the best one, whose score (or loss) is `best`."""

    def diverged(self, facts: dict[str, Any], batches: Sequence[Batch]) -> Path | None:
        """Write diverged.json with the figures and texts of a failed update; None if it cannot be written."""
        return None

    def close(self) -> None:
        """Flush and close everything."""


class RunReport(Report):
    """Writes metrics.jsonl and the curves of a tracker, and shows progress.

    If the disk is full, one warning is given and training continues. `texts` decodes a batch, for `diverged`;
    `refresh` writes the page of the run after each validation, and returns whether it could; `config` is the run's,
    for the tracker.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resumed_step: int,
        max_steps: int,
        texts: Texts,
        refresh: Callable[[Path], bool] | None,
        tracker: TrackerName,
        config: Mapping[str, Any],
    ) -> None:
        self._folder = folder
        self._refresh = refresh
        self._metrics = folder / "metrics.jsonl"
        self._details = folder / "diverged.json"
        self._texts = texts
        self._broken = False
        self._status, self._loss, self._scores, self._speed = "", "", "", ""
        self._writer: SummaryWriter | None = None
        self._tracker = Tracker(tracker, folder, config) if tracker in ("wandb", "trackio") else None
        try:
            _drop_later_lines(self._metrics, resumed_step)
            if tracker == "tensorboard":
                _silence_writer_thread()  # it starts writing at once
                self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)
        except (OSError, UserError) as error:
            self._warn_once(error)
        self._progress = Progress("training", max_steps, "steps", initial=resumed_step)

    def advance(self, max_steps: int) -> None:
        self._progress.expect(max_steps)
        self._progress.update(1)

    def step(self, report: StepReport) -> None:
        self._write("train", report.step, report._asdict())
        speed = f"{report.tokens_per_second:,.0f} tokens/s"
        self._status = f"epoch {report.epoch:.1f}  loss {report.loss:.3f}  lr {report.learning_rate:.2e}  {speed}"
        self._loss, self._speed = f"loss {report.loss:.3f}", f"lr {report.learning_rate:.1e}  {speed}"
        self._note()

    def validation(self, result: Validation, verdict: str, best: float) -> None:
        score = result.score
        data = {
            "step": result.step,
            "loss": result.loss,
            "perplexity": result.perplexity,
            **({} if score is None else {score.name.lower(): score.value}),
            "signature": "" if score is None else score.signature,
            "seconds": result.seconds,
        }
        self._write("validation", result.step, data)
        self._scores = f"{'validation ' if score is None else ''}{result.shown_metric} (best {best:.2f})"
        self._note()
        shown = "" if score is None else f"{result.shown_metric}  "
        say(
            f"step {result.step:,}  {self._status}  |  validation {shown}perplexity {result.perplexity:.2f}"
            f"  ({result.seconds:.0f} s)  {verdict}"
        )
        for source, reference, translation in result.samples:
            say(f"    {source}\n      = {reference}\n      > {translation}")
        self._show_samples(result)
        if self._refresh is not None and not self._broken and not self._refresh(self._folder):
            self._refresh = None  # one warning is enough

    def _note(self) -> None:
        """Show the figures beside the progress; the first ones are what a narrow terminal shows."""
        self._progress.note("  ".join(filter(None, (self._loss, self._scores, self._speed))))

    def diverged(self, facts: dict[str, Any], batches: Sequence[Batch]) -> Path | None:
        pairs = [pair for batch in batches for pair in self._texts(batch)]
        try:
            write_json(self._details, {**facts, "pairs": [{"source": left, "target": right} for left, right in pairs]})
        except UserError:
            return None
        return self._details

    def close(self) -> None:
        self._progress.close()
        if self._tracker is not None:
            self._tracker.close()
        if self._writer is not None:
            with suppress(OSError):  # reported before
                self._writer.close()

    def _write(self, kind: str, step: int, data: dict[str, object]) -> None:
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **data}, ensure_ascii=False)
        try:
            reach("report.write")
            with open(self._metrics, "a", encoding="utf-8", opener=no_follow) as file:
                file.write(line + "\n")
        except OSError as error:
            self._warn_once(error)
        values = {
            f"{kind}/{name}": value
            for name, value in data.items()
            if isinstance(value, (int, float)) and name != "step"
        }
        if self._tracker is not None:
            self._tracker.log(values, step)
        if self._writer is None:
            return
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            self._warn_once(error)

    def _show_samples(self, result: Validation) -> None:
        """Samples and their attention: in TensorBoard, and in attention.json for the page of the run."""
        try:
            if result.attention:
                write_attention(self._folder / "attention.json", result.attention)
            if self._writer is None:
                return
            # Indented text is shown as it is.
            texts = [f"    {source}\n    = {right}\n    > {written}" for source, right, written in result.samples]
            self._writer.add_text("validation/samples", "\n    \n".join(texts), result.step)
            samples = [(source, written) for source, _, written in result.samples]
            for found in result.attention:
                if (found.source, found.translation) in samples:
                    number = samples.index((found.source, found.translation)) + 1
                    picture = attention_picture(found)
                    self._writer.add_image(f"attention/{number}", picture, result.step, dataformats="HW")
        except (OSError, UserError) as error:
            self._warn_once(error)

    def _warn_once(self, error: Exception) -> None:
        if not self._broken:
            reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
            warn(f"cannot write {self._metrics} and TensorBoard events: {reason}; training continues")
        self._broken = True


def _drop_later_lines(path: Path, step: int) -> None:
    """Remove lines that an interrupted run logged after the step from which it resumes."""
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        earlier = [line for line in lines if _step_of(line) <= step]
        if "".join(line + "\n" for line in earlier) != "\n".join(lines):
            write_text(path, "".join(line + "\n" for line in earlier))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")  # a line cut off by a crash


def _silence_writer_thread() -> None:
    """Suppress tracebacks of TensorBoard's writer thread; the writer raises the same error in this thread."""
    shown = threading.excepthook
    if getattr(shown, "__name__", "") == "all_but_the_writer":
        return

    def all_but_the_writer(end: ExceptHookArgs) -> None:
        if type(end.thread).__name__ != "_AsyncWriterThread":
            shown(end)

    threading.excepthook = all_but_the_writer
