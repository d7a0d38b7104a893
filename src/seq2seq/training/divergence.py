"""Training that has diverged: how it is seen, and what the user hears of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from seq2seq.config import TrainingSettings
from seq2seq.data.batching import Batch
from seq2seq.errors import DivergenceError
from seq2seq.training.report import RunReport
from seq2seq.training.state import TrainState


class DivergenceWatch:
    """Looks at the figures of updates; those that tell of a divergence end the run.

    Args:
        skips_overflows: whether a number that is not finite is no harm, as in fp16, which skips such an update and
            lowers its scale.
        vocabulary: size of the target vocabulary.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        state: TrainState,
        report: RunReport,
        *,
        skips_overflows: bool,
        vocabulary: int,
    ) -> None:
        self._settings, self._state, self._report = settings, state, report
        self._skips_overflows, self._vocabulary = skips_overflows, vocabulary

    def check_update(self, loss: float, norm: float, rate: float, group: Sequence[Batch]) -> None:
        """Look at the update just tried: loss per token, gradient norm and learning rate.

        Raises:
            DivergenceError: a number is not finite; the optimizer never makes a step then.
        """
        if not self._is_sound(loss, norm):
            self._diverged(loss, norm, rate, group)

    def check_mean(self, loss: float, nll: float, norm: float, rate: float) -> None:
        """Look at the means per token since the last log line, and at the last update's norm and rate.

        Raises:
            DivergenceError: a number is not finite, or training will not find back.
        """
        if not self._is_sound(loss, norm):
            self._diverged(loss, norm, rate)
        if is_hopeless(nll, self._vocabulary):
            self._diverged(loss, norm, rate, taken=True)

    def _is_sound(self, loss: float, norm: float) -> bool:
        return self._skips_overflows or (math.isfinite(loss) and math.isfinite(norm))

    def _diverged(
        self, loss: float, norm: float, rate: float, group: Sequence[Batch] = (), *, taken: bool = False
    ) -> NoReturn:
        """`group` is an update that was not counted; `taken` says that the weights have changed."""
        state = self._state
        step, cursor = state.step + bool(group), state.cursor
        best = ""
        if state.best_metric is not None:
            best = f"; the best model is that of step {state.best_step:,} ({abs(state.best_metric):.2f})"
        place = f"epoch {cursor.epoch + 1}, pool {cursor.pool + 1}, batch {cursor.batch + 1}"
        details = self._report.diverged(_facts(state, step=step, loss=loss, norm=norm, rate=rate), group)
        raise DivergenceError(
            f"training diverged at step {step:,}: loss {loss:.3g} per token, gradient norm {norm:.3g}, "
            f"learning rate {rate:.3g}" + ("" if taken else "; no update was taken") + best,
            where=place if details is None else f"{details} ({place})",
            hint=f"training.optimizer.learning_rate={self._settings.optimizer.learning_rate / 3:.1g}, or more "
            "training.schedule.warmup_steps, in another folder with -o",
            code="training.diverged",
        )


def is_hopeless(nll: float, vocabulary: int) -> bool:
    """Whether a loss per token, in nats, is so much worse than guessing (ln V) that training will not find back."""
    return not math.isfinite(nll) or nll > 5.0 + 3.0 * math.log(vocabulary)


def _facts(state: TrainState, *, step: int, loss: float, norm: float, rate: float) -> dict[str, Any]:
    """What the error says, as data; numbers that JSON does not know become text."""
    numbers = {"loss": loss, "gradient_norm": norm, "learning_rate": rate}
    shown = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    return {"step": step, **shown, "cursor": state.cursor._asdict()}
