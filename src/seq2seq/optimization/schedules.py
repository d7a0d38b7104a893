"""The learning rate as a pure function of the step, so that nothing about it needs saving."""

from __future__ import annotations

import math

from seq2seq.config import ScheduleSettings


def learning_rate(step: int, settings: ScheduleSettings, *, peak: float, max_steps: int) -> float:
    """Learning rate of update `step` (from 1 to `max_steps`).

    Linear warm-up to `peak` over W steps, then: `inverse_sqrt` peak * sqrt(W / step) (Vaswani et al. 2017, equation 3,
    scaled to its peak); `cosine` half a period down to final_ratio * peak (Loshchilov and Hutter 2017); `wsd` flat,
    then
    linear down over the last decay_fraction (Hu et al. 2024); `constant` flat.
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
