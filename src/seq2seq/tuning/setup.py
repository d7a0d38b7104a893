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
from seq2seq.tuning.space import Dimension, changes_vocabulary, default_space, given_space, size, split_lists


class Setup(NamedTuple):
    """A command line, read."""

    files: list[str]
    overrides: list[str]
    config: Config
    space: list[Dimension]
    members: int = 1
    """Trials of the ensemble at the end; 1 for none."""

    def trial_config(self, settings: Sequence[str], more: Sequence[str] = ()) -> Config:
        """The config of a trial.

        Raises:
            ConfigError: the settings contradict each other.
        """
        return load_config(self.files, [*self.overrides, *settings, *more])


def read_setup(files: Sequence[str], overrides: Sequence[str], members: int = 1) -> Setup:
    """Read configs, settings and `key=a,b,c`, for a search that ends with an ensemble of `members` trials.

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
    if members > 1 and (keys := [key for key, _ in lists if changes_vocabulary(key)]):
        raise UsageError(
            f"{keys[0]} cannot be searched with --ensemble: its members share one vocabulary",
            hint=f"one value of {keys[0]}, or leave --ensemble out",
            code="usage.conflict",
        )
    config = config.model_copy(update={"training": config.training.model_copy(update={"budget_minutes": None})})
    if lists:
        space = given_space(config, lists, lambda text: read_value(text, text))
    else:
        space = default_space(config)
        if members > 1:
            space = [dimension for dimension in space if not changes_vocabulary(dimension.name)]
    if size(space) < members:
        raise UsageError(
            f"an ensemble of {members} needs as many different trials, and the values make {size(space)}",
            hint=f"--ensemble {size(space)}, or more values, such as seed={','.join(map(str, range(1, members + 1)))}",
            code="usage.value",
        )
    return Setup(list(files), single, config, space, members)
