"""The recipe for fine-tuning, applied to the config of a run with `training.init_from`."""

from __future__ import annotations

from pathlib import Path

from seq2seq.config import Config, load_config
from seq2seq.config.differences import as_yaml
from seq2seq.config.fine_tuning import RECIPE_KEYS, rate_is_too_high, recipe
from seq2seq.config.settings_by_size import Choice
from seq2seq.console import say, warn
from seq2seq.data.corpus import count_pairs
from seq2seq.errors import ConfigError, UserError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.fine_tuning import find_run
from seq2seq.runs.load import load_tokenizers
from seq2seq.runs.replay import earlier_data
from seq2seq.runs.run_config import load_run_config
from seq2seq.system import is_first_rank

_RATE = "training.optimizer.learning_rate"


def with_recipe(config: Config, directory: RunDirectory) -> tuple[Config, dict[str, str]]:
    """The config with a value of the recipe for each setting that is not given, and the reasons by key.

    A run with checkpoints keeps the values that it was started with.

    Raises:
        CheckpointError: there is no run to start from.
        DataError, NetworkError, UsageError: a new corpus cannot be read.
    """
    if config.training.init_from is None:
        return config, {}
    given = config.given()
    if directory.has_checkpoints:
        return _with_stored(config, directory), {}
    chosen = choose_recipe(config)
    for key, choice in chosen.items():
        config = config.replaced(key, choice.value)
    if is_first_rank():
        _tell(config, chosen, given)
    return config, {key: choice.reason for key, choice in chosen.items()}


def choose_recipe(config: Config) -> dict[str, Choice]:
    """The settings of the recipe that a config does not give. Raises as `with_recipe`."""
    run, _ = find_run(Path(str(config.training.init_from)))
    earlier = load_run_config(run)
    data = config.data
    counts = [
        count_pairs(source, errors=data.errors, max_unreadable=data.cleaning.max_unreadable) for source in data.train
    ]
    lines = sum(count for count, _ in counts)
    missing = (not data.valid) + (not data.test)
    no_replay = None
    if "training.replay" not in config.given():
        try:
            earlier_data(run)
        except UserError as error:
            no_replay = error.what.splitlines()[0]
    return recipe(
        config.given(),
        earlier,
        max(1, lines - missing * data.holdout),
        sum(characters for _, characters in counts) / max(1, lines),
        vocabulary=load_tokenizers(run).target.size,
        no_replay=no_replay,
    )


def _with_stored(config: Config, directory: RunDirectory) -> Config:
    try:
        stored = load_config([directory.config]).given()
    except ConfigError:  # `save_run_config` reports it
        return config
    given = config.given()
    for key in RECIPE_KEYS:
        if key in stored and key not in given:
            config = config.replaced(key, stored[key])
    return config


def _tell(config: Config, chosen: dict[str, Choice], given: dict[str, object]) -> None:
    run = config.training.init_from
    if chosen:
        lines = [f"{key}: {as_yaml(choice.value)}  # {choice.reason}" for key, choice in chosen.items()]
        say(f"settings for fine-tuning {run}, where none are given:" + "".join(f"\n    {line}" for line in lines))
    rate = config.training.optimizer.learning_rate
    if _RATE in given and rate_is_too_high(rate, load_run_config(find_run(Path(str(run)))[0])):
        warn(
            f"{_RATE}: {rate:g} is a rate for training from the start, with which a model forgets what it has learned; "
            "without this setting, fine-tuning takes a third of the earlier run's"
        )
