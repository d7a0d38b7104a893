"""Learning-rate schedules, and their length in runs that a limit ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

from seq2seq.config import ScheduleSettings, TrainingSettings


def learning_rate(step: int, settings: ScheduleSettings, *, peak: float, max_steps: int) -> float:
    """Learning rate of update `step` (from 1 to `max_steps`).

    Linear warm-up to `peak` over W steps, then: `inverse_sqrt` peak * sqrt(W / step) (Vaswani et al. 2017, equation 3,
    scaled to its peak); `cosine` half a period down to final_ratio * peak (Loshchilov and Hutter 2017); `wsd` flat,
    then linear down over the last decay_fraction (Hu et al. 2024); `constant` flat.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return peak * step / warmup
    match settings.kind:
        case "constant":
            return peak
        case "inverse_sqrt":
            return peak * math.sqrt(max(warmup, 1) / max(step, 1))
        case "cosine":
            progress = min(1.0, (step - warmup) / max(1, max_steps - warmup))
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        case "wsd":
            decay = max(1.0, settings.decay_fraction * (max_steps - warmup))
            share = min(1.0, max(0.0, (max_steps - step) / decay))
    return peak * (settings.final_ratio + (1.0 - settings.final_ratio) * share)


def expected_steps(settings: TrainingSettings, pace: Mapping[str, float]) -> int:
    """Steps until `max_steps`, `max_epochs` or `max_minutes` ends the run, whichever comes first.

    `pace` holds `seconds` and `epochs` of one update; before it has been measured, `max_steps` is expected.
    """
    steps = [float(settings.max_steps)]
    if settings.max_minutes is not None and pace.get("seconds"):
        steps.append(60.0 * settings.max_minutes / pace["seconds"])
    if settings.max_epochs is not None and pace.get("epochs"):
        steps.append(settings.max_epochs / pace["epochs"])
    return max(1, round(min(steps)))


def fitted_schedule(settings: TrainingSettings, steps: int) -> ScheduleSettings:
    """The schedule of a run that a limit ends after `steps`: the warm-up takes no more than a quarter of them."""
    if steps >= settings.max_steps:
        return settings.schedule
    return settings.schedule.model_copy(update={"warmup_steps": min(settings.schedule.warmup_steps, steps // 4)})
