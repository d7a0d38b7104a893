"""The command line of a search: configs, settings, and the values of settings to try."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.config import Config, load_config
from seq2seq.config.yaml import read_value
from seq2seq.errors import ConfigError, UsageError
from seq2seq.runs.fine_tuning_recipe import choose_recipe
from seq2seq.tuning.space import Dimension, default_space, given_space, split_lists


class Setup(NamedTuple):
    """A command line, read."""

    files: list[str]
    overrides: list[str]
    config: Config
    space: list[Dimension]

    def trial_config(self, settings: Sequence[str], more: Sequence[str] = ()) -> Config:
        """The config of a trial.

        Raises:
            ConfigError: the settings contradict each other.
        """
        return load_config(self.files, [*self.overrides, *settings, *more])


def read_setup(files: Sequence[str], overrides: Sequence[str]) -> Setup:
    """Read configs, settings and `key=a,b,c`.

    Raises:
        ConfigError, UsageError: a file, a setting or one of the values is wrong.
    """
    if pipe := next((name for name in files if Path(name).is_fifo()), None):
        raise UsageError(
            f"{pipe} is a pipe, and each trial reads the config again", hint="write it to a file", code="usage.value"
        )
    single, lists = split_lists(overrides)
    config = load_config(files, single)
    if config.training.init_from is not None:  # what is tried is around the recipe of a fine-tuning
        recipe = [f"{key}={json.dumps(choice.value)}" for key, choice in choose_recipe(config).items()]
        single = [*recipe, *single]
        config = load_config(files, single)
    for key, values in lists:  # all mistakes before the first trial
        for value in values:
            try:
                load_config(files, [*single, f"{key}={value}"])
            except ConfigError as error:
                if error.code == "config.unknown-key" or len(lists) == 1:
                    raise  # with more lists, it may fit together with a value of another one
    if not config.data.valid and not config.data.holdout:
        raise ConfigError(
            "trials are compared on a validation set, and the config has none",
            hint="data.valid, or data.holdout=500",
            code="config.no-data",
        )
    if "training.budget_minutes" in dict(lists):
        raise UsageError(
            "training.budget_minutes cannot be searched: --budget is shared by all trials",
            hint="training.max_steps=A,B",
            code="usage.conflict",
        )
    config = config.model_copy(update={"training": config.training.model_copy(update={"budget_minutes": None})})
    space = given_space(config, lists, lambda text: read_value(text, text)) if lists else default_space(config)
    return Setup(list(files), single, config, space)
