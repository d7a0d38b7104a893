"""The settings to try: a space chosen from the config, or given as `key=a,b,c`, and how trials are drawn from it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any, Literal, NamedTuple

from seq2seq.config import Config
from seq2seq.errors import UsageError
from seq2seq.extras import install

Sampler = Literal["auto", "grid", "random", "optuna"]

_KEPT = 0.7
"""Probability with which a random trial keeps a value of the config: most combinations of many changes are bad."""
_TRIES = 200
_LEAST_HALVED = 1000
_SUGGESTIONS = 5
_LEAST_RANKED = 4
"""Trials with a score from which optuna's suggestions are better than random ones."""
_OPENING, _CLOSING = "[{(", "]})"


class Dimension(NamedTuple):
    """One setting to try, or several that change together."""

    name: str
    labels: tuple[str, ...]
    settings: tuple[tuple[str, ...], ...]
    """The settings of each choice as `key=value`."""
    base: int | None
    """Index of the choice that the config has; None if it has none of them."""

    @property
    def first(self) -> int:
        """Index of the choice that the first trial has."""
        return self.base or 0


Point = tuple[int, ...]
"""One trial: the index of a choice in each dimension."""


def settings_of(space: Sequence[Dimension], choice: Point) -> list[str]:
    """The settings of a trial as `key=value`."""
    return [text for dimension, index in zip(space, choice, strict=True) for text in dimension.settings[index]]


def describe(space: Sequence[Dimension], choice: Point) -> str:
    """What a trial changes, by the last part of each name."""
    changed = [
        f"{dimension.name.rpartition('.')[2]}={dimension.labels[index]}"
        for dimension, index in zip(space, choice, strict=True)
        if index != dimension.base
    ]
    return " ".join(changed) or "as in the config"


def size(space: Sequence[Dimension]) -> int:
    """Number of different trials."""
    return math.prod(len(dimension.settings) for dimension in space)


def split_lists(overrides: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Settings with one value, and those with several, as key and values.

    Commas within brackets or quotes are part of a value: `training.freeze=[a,b]` is one list, and
    `training.freeze=[a],[b]` are two.

    Raises:
        UsageError: a value is empty or given twice, or a key has several lists.
    """
    single: list[str] = []
    several: list[tuple[str, list[str]]] = []
    for override in overrides:
        key, _, text = override.partition("=")
        values = _split(text)
        if len(values) == 1:
            single.append(override)
            continue
        if "" in values or len(set(values)) < len(values) or key in dict(several):
            raise UsageError(
                f"{override} wants different values between its commas",
                hint=f"{key}={','.join(dict.fromkeys(filter(None, values))) or 'A'},...",
                code="usage.value",
            )
        several.append((key, values))
    return single, several


def _split(text: str) -> list[str]:
    """The text at its commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def changes_vocabulary(key: str) -> bool:
    """True if runs that differ in this setting may have different vocabularies."""
    return key.startswith(("data.", "tokenizer.", "training.init_from")) and key != "tokenizer.sampling"


def given_space(config: Config, lists: Sequence[tuple[str, list[str]]], read: Callable[[str], Any]) -> list[Dimension]:
    """The space of `key=a,b,c`; `read` parses a value as a config does.

    Raises:
        UsageError: two values are equal, such as 0.1 and 1e-1.
    """
    tree = config.model_dump(mode="json")
    space = []
    for key, values in lists:
        now: Any = tree
        for part in key.split("."):
            now = now.get(part) if isinstance(now, dict) else None
        parsed = [read(value) for value in values]
        if repeated := [value for index, value in enumerate(values) if parsed[index] in parsed[:index]]:
            raise UsageError(
                f"{key}={','.join(values)} has {repeated[0]} twice, in other words",
                hint=f"{key}={','.join(value for value in values if value not in repeated)}",
                code="usage.value",
            )
        equal = [index for index, value in enumerate(parsed) if value == now]
        settings = tuple((f"{key}={value}",) for value in values)
        space.append(Dimension(key, tuple(values), settings, equal[0] if equal else None))
    return space


def default_space(config: Config) -> list[Dimension]:
    """What is worth trying for a config: rates, regularisation, vocabulary, batch and size of the model.

    A run that starts from another one keeps the model and the vocabulary of that one.
    """
    training, model, tokenizer = config.training, config.model, config.tokenizer
    is_new = training.init_from is None
    space = [
        _scaled("training.optimizer.learning_rate", training.optimizer.learning_rate, (0.5, 0.7, 1, 1.4, 2)),
        _around("model.dropout", model.dropout, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), 0.2),
        _around("training.label_smoothing", training.label_smoothing, (0.0, 0.1, 0.2), 0.1),
        _around("model.word_dropout", model.word_dropout, (0.0, 0.1), 0.1),
    ]
    if model.kind == "transformer":
        space.append(_around("model.attention_dropout", model.attention_dropout, (0.0, 0.1, 0.2), 0.1))
    if is_new and tokenizer.kind in ("unigram", "bpe"):
        space.append(_around("tokenizer.sampling", tokenizer.sampling, (0.0, 0.1, 0.2), 0.2))
        if not tokenizer.source_model:
            # A small vocabulary can hardly be halved: its characters and bytes need 300 entries and more.
            smaller = (0.5,) if tokenizer.vocabulary_size >= _LEAST_HALVED else ()
            space.append(_scaled("tokenizer.vocabulary_size", tokenizer.vocabulary_size, (*smaller, 1, 2)))
    if isinstance(batch := training.batch_size, int):
        # As many passes over the data, where time allows.
        sizes = [(max(1, round(batch * factor)), max(2, round(training.max_steps / factor))) for factor in (0.5, 1, 2)]
        half, _, double = [(f"training.batch_size={size}", f"training.max_steps={steps}") for size, steps in sizes]
        space.append(Dimension("training.batch_size", tuple(str(size) for size, _ in sizes), (half, (), double), 1))
    if is_new:
        space.append(_model_sizes(config))
    return space


def _scaled(key: str, value: float, factors: Sequence[float]) -> Dimension:
    """Multiples of a value, whole numbers where it is one."""
    scaled = [
        max(8, round(value * factor)) if type(value) is int else float(f"{value * factor:.3g}") for factor in factors
    ]
    scaled[factors.index(1)] = value
    return _dimension(key, scaled, value)


def _around(key: str, value: float, values: Sequence[float], distance: float) -> Dimension:
    """The value and those of a list that are near it."""
    near = {other for other in values if abs(other - value) <= distance + 1e-9}
    return _dimension(key, sorted(near | {value}), value)


def _dimension(key: str, values: Sequence[float], base: float) -> Dimension:
    values = list(dict.fromkeys(values))
    settings = tuple(() if value == base else (f"{key}={json.dumps(value)}",) for value in values)
    return Dimension(key, tuple(f"{value:g}" for value in values), settings, values.index(base))


def _model_sizes(config: Config) -> Dimension:
    """Three quarters, all and five quarters of the widths, in steps that the heads divide."""
    model = config.model
    keys = ("hidden_size", "ff_size") if model.kind == "transformer" else ("hidden_size", "embedding_size")
    of = 2 * model.num_heads
    settings: dict[str, tuple[str, ...]] = {"100%": ()}
    for label, factor in (("75%", 0.75), ("125%", 1.25)):
        sizes = {key: max(of, of * round(factor * getattr(model, key) / of)) for key in keys}
        if any(value != getattr(model, key) for key, value in sizes.items()):  # a tiny model has no smaller steps
            settings[label] = tuple(f"model.{key}={value}" for key, value in sizes.items())
    labels = sorted(settings, key=lambda label: int(label[:-1]))
    return Dimension("model.size", tuple(labels), tuple(settings[label] for label in labels), labels.index("100%"))


def choose_sampler(wanted: Sampler, space: Sequence[Dimension], fitting: int) -> Sampler:
    """The sampler that `auto` stands for: all trials where they fit, else optuna where it is installed.

    Raises:
        UsageError: optuna is asked for, and is not installed.
    """
    has_optuna = find_spec("optuna") is not None
    if wanted == "optuna" and not has_optuna:
        raise UsageError(
            "--sampler optuna needs optuna, which is not installed",
            hint=f"{install('tune')}, or --sampler random",
            code="export.library",
        )
    if wanted != "auto":
        return wanted
    if size(space) <= fitting:
        return "grid"
    return "optuna" if has_optuna else "random"


def next_choice(
    sampler: Sampler, space: Sequence[Dimension], tried: Sequence[Point], ranking: Sequence[Point], seed: int
) -> Point | None:
    """The next trial: a function of those before it, so that a search that was stopped goes on with the same.

    Args:
        sampler: how it is drawn; the first trial is always the config itself, where its values are in the space.
        space: the dimensions.
        tried: all trials so far.
        ranking: those that have a score, the best first.
        seed: the seed of the search.

    Returns:
        None if every trial was tried, or hardly another can be drawn.
    """
    if not tried:
        return tuple(dimension.first for dimension in space)
    generator = random.Random(f"{seed} {len(tried)}")
    known = set(tried)
    if sampler == "optuna" and len(ranking) >= max(_LEAST_RANKED, len(space) // 2):
        for number in range(_SUGGESTIONS):  # what is promising was often tried
            if (found := _ask_optuna(space, ranking, seed + _SUGGESTIONS * len(tried) + number)) not in known:
                return found
    if sampler == "grid" or size(space) <= 4 * len(tried):
        choices = product(*(range(len(dimension.settings)) for dimension in space))  # the last one runs fastest
        left = (choice for choice in choices if choice not in known)
        if sampler == "grid":
            return next(left, None)
        return generator.choice(rest) if (rest := list(left)) else None
    for _ in range(_TRIES):
        choice = tuple(
            dimension.first if generator.random() < _KEPT else generator.randrange(len(dimension.settings))
            for dimension in space
        )
        if choice not in known:
            return choice
    return None


def _ask_optuna(space: Sequence[Dimension], ranking: Sequence[Point], seed: int) -> Point:
    """A suggestion of optuna's tree-structured Parzen estimator (Bergstra et al. 2011), which needs the order alone."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=0))
    distributions = {
        dimension.name: optuna.distributions.IntDistribution(0, len(dimension.settings) - 1) for dimension in space
    }
    for place, choice in enumerate(ranking):
        params = {dimension.name: index for dimension, index in zip(space, choice, strict=True)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=float(place)))
    params = study.ask(distributions).params
    return tuple(int(params[dimension.name]) for dimension in space)
