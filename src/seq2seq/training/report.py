"""What a run tells: a JSON line per event in metrics.jsonl, TensorBoard, and short lines for the person who watches."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from torch.utils.tensorboard.writer import SummaryWriter

from seq2seq.console import Progress, say, warn


class StepReport(NamedTuple):
    """Means since the last log line."""

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
    """One look at the validation set."""

    step: int
    loss: float
    """Negative log-likelihood, nats per target token; no smoothing, no dropout."""
    perplexity: float
    bleu: float | None
    """None where the metric is the loss."""
    signature: str
    seconds: float
    samples: list[tuple[str, str, str]]
    """(source, reference, translation) of a few fixed sentences."""


class RunReport:
    """Writes metrics.jsonl and TensorBoard events, and shows progress."""

    def __init__(self, folder: Path, *, resumed_step: int, max_steps: int) -> None:
        self._metrics = folder / "metrics.jsonl"
        _drop_later_lines(self._metrics, resumed_step)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)
        self._progress = Progress("training", max_steps, "steps")
        self._progress.update(resumed_step)
        self._broken = False
        self._status = ""

    def advance(self) -> None:
        """One more step is done."""
        self._progress.update(1)

    def step(self, report: StepReport) -> None:
        """Log one line of training figures."""
        self._write("train", report.step, report._asdict())
        self._status = (
            f"epoch {report.epoch:.1f}  loss {report.loss:.3f}  lr {report.learning_rate:.2e}  "
            f"{report.tokens_per_second:,.0f} tokens/s"
        )
        self._progress.note(self._status)

    def validation(self, result: Validation, verdict: str) -> None:
        """Log a validation; `verdict` is "new best" or "stalled 2 of 10 (...)"."""
        data = {key: value for key, value in result._asdict().items() if key != "samples" and value is not None}
        self._write("validation", result.step, data)
        score = f"BLEU {result.bleu:.2f}  " if result.bleu is not None else ""
        say(
            f"step {result.step:,}  {self._status}  |  validation {score}perplexity {result.perplexity:.2f}"
            f"  ({result.seconds:.0f} s)  {verdict}"
        )
        for source, reference, translation in result.samples:
            say(f"    {source}\n      = {reference}\n      > {translation}")

    def close(self) -> None:
        """Flush and close everything."""
        self._progress.close()
        self._writer.close()

    def _write(self, kind: str, step: int, data: dict[str, object]) -> None:
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **data}, ensure_ascii=False)
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            for name, value in data.items():
                if isinstance(value, (int, float)) and name != "step":
                    self._writer.add_scalar(f"{kind}/{name}", value, step)
        except OSError as error:
            # A full log disk must not end a run; once is enough to say so.
            if not self._broken:
                warn(f"cannot write {self._metrics}: {error.strerror}; training goes on")
            self._broken = True


class NoReport(RunReport):
    """Tells nothing: ranks other than the first have one."""

    def __init__(self) -> None:
        pass

    def advance(self) -> None:
        """Nothing."""

    def step(self, report: StepReport) -> None:
        """Nothing."""

    def validation(self, result: Validation, verdict: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _drop_later_lines(path: Path, step: int) -> None:
    """Forget what an interrupted run logged after the step that it resumes from."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut off by a crash
