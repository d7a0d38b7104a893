"""Recipe for fine-tuning: training settings for a finished model and a new corpus, by the number of its pairs.

Everything that the user sets stays, and what is left follows from it: a given batch size changes the steps, given steps
change the warm-up and the validations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from seq2seq.config.settings import Config, OptimizerSettings, TrainingSettings
from seq2seq.config.settings_by_size import FILLED, Choice, choose

_PASSES = ((300, 25.0), (10_000, 8.0), (100_000, 4.0), (1_000_000, 2.0))
"""(pairs, passes over the corpus), interpolated over the logarithm of the pairs."""
_RATE_DIVISOR = 3
"""Divisor of the peak rate of training from scratch, which would undo what the model has learned. With a tenth of that
rate, the validation loss still fell at the end (scripts/bench/RESULTS.md)."""
_TOO_HIGH = 2
"""A given rate this many times that of the recipe gets a warning."""
_FEW_PAIRS = 10_000
"""With fewer new pairs, validation sets are small and first scores low, so that BLEU chooses by chance."""
REPLAY = 0.5
_VALIDATIONS, _PATIENCE = 10, 5

RECIPE_KEYS = (
    *(f"training.optimizer.{name}" for name in ("kind", "betas", "epsilon", "weight_decay", "learning_rate")),
    "training.schedule.kind",
    "training.schedule.warmup_steps",
    "training.label_smoothing",
    "training.batch_size",
    "training.max_steps",
    "training.validate_every",
    "training.patience",
    "training.metric",
    "training.replay",
)
"""Settings that the recipe chooses where they are not given."""


def recipe(
    given: Mapping[str, Any],
    earlier: Config,
    pairs: int,
    characters: float,
    *,
    vocabulary: int = 0,
    no_replay: str | None = None,
) -> dict[str, Choice]:
    """The settings of `RECIPE_KEYS` that are not given, with their reasons.

    Args:
        given: settings of the user by dotted key.
        earlier: config of the run that training starts from.
        pairs: new training pairs.
        characters: mean characters of a line on the longer side.
        vocabulary: entries of the run's vocabulary.
        no_replay: why the training text of that run cannot be repeated; None if it can.
    """
    before = earlier.training
    table = choose(pairs, characters=characters, least_vocabulary=vocabulary)
    chosen: dict[str, Choice] = {}

    def take(key: str, value: Any, reason: str) -> Any:
        """The value in use: the given one, or the chosen one."""
        if key in given:
            return given[key]
        chosen[key] = Choice(value, reason)
        return value

    for name in ("kind", "betas", "epsilon", "weight_decay"):
        if (value := getattr(before.optimizer, name)) != getattr(OptimizerSettings(), name):
            take(f"training.optimizer.{name}", value, "as in the earlier run")
    take("training.optimizer.learning_rate", *_rate(before))
    if before.label_smoothing != TrainingSettings().label_smoothing:
        take("training.label_smoothing", before.label_smoothing, "as in the earlier run")
    share = take("training.replay", *_replay(no_replay))
    unit = given.get("training.batch_type", "tokens")
    tokens = table.tokens / FILLED if unit == "tokens" else 1.0  # of a pair, in this unit
    usual = table.batch_size if unit == "tokens" else max(1, round(table.batch_size * FILLED / table.tokens))
    batch = take("training.batch_size", usual, f"{unit}; small corpora need many updates, hence small ones")
    per_update = (usual if batch == "auto" else batch) / tokens * given.get("training.accumulation_steps", 1)
    passes = given.get("training.max_epochs") or _passes(pairs)
    steps = round(passes * max(1.0, pairs / (1 - share) / per_update))
    steps = max(steps, 2 * given.get("training.schedule.warmup_steps", 0))
    steps = take(
        "training.max_steps", steps, f"about {passes:.3g} passes over the new pairs; fewer if patience ends it"
    )
    take("training.schedule.kind", "constant", "no decay: validation decides where to stop")
    take("training.schedule.warmup_steps", min(100, steps // 10), "short, while the optimizer measures gradients")
    take("training.validate_every", max(1, min(1000, steps // _VALIDATIONS)), f"{_VALIDATIONS} validations")
    take("training.patience", _PATIENCE, "half of the validations: small corpora are soon learned by heart")
    if pairs < _FEW_PAIRS:
        take("training.metric", "loss", "BLEU of few or poor translations chooses by chance")
    return chosen


def _rate(before: TrainingSettings) -> tuple[float, str]:
    if before.init_from is not None:
        return before.optimizer.learning_rate, "that of the earlier run, which was fine-tuned itself"
    rate = float(f"{before.optimizer.learning_rate / _RATE_DIVISOR:.3g}")
    return rate, "a third of the earlier peak; higher rates forget more"


def rate_is_too_high(given: float, earlier: Config) -> bool:
    """Whether a learning rate is as high as from scratch, so that the model would forget what it has learned."""
    return given > _TOO_HIGH * _rate(earlier.training)[0]


def _replay(no_replay: str | None) -> tuple[float, str]:
    if no_replay is not None:
        return 0.0, f"the corpus of the earlier run is not at hand: {no_replay}"
    return REPLAY, "share of pairs of the earlier run's corpus, so that it is not forgotten"


def _passes(pairs: int) -> float:
    """Passes over a corpus, between the rows of the table or at one of its ends."""
    size = min(max(pairs, _PASSES[0][0]), _PASSES[-1][0])
    for (low, left), (high, right) in pairwise(_PASSES):
        if size <= high:
            share = math.log(size / low) / math.log(high / low)
            return float(left * (right / left) ** share)
    raise AssertionError("the size is within the table")
