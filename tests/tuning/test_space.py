"""What is tried, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from seq2seq.config import load_config
from seq2seq.errors import ConfigError, UsageError
from seq2seq.tuning.setup import read_setup
from seq2seq.tuning.space import (
    Dimension,
    Point,
    Sampler,
    choose_sampler,
    default_space,
    describe,
    next_choice,
    settings_of,
    size,
    split_lists,
)

SPACE = [
    Dimension("rate", ("1", "2", "3"), (("rate=1",), (), ("rate=3",)), 1),
    Dimension("size", ("s", "l"), ((), ("width=9", "depth=2")), 0),
]


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("a=1,2", ["1", "2"]),
        ("a=[1,2]", None),
        ("a=[1,2],[3]", ["[1,2]", "[3]"]),
        ("a={b: 1, c: 2}", None),
        ("a='x,y',z", ["'x,y'", "z"]),
        ("a=1", None),
        ("a= 1 , 2 ", ["1", "2"]),
    ],
)
def test_lists_are_split_at_their_own_commas(override: str, values: list[str] | None) -> None:
    single, several = split_lists([override])
    assert (single, several) == (([override], []) if values is None else ([], [("a", values)]))


@pytest.mark.parametrize("overrides", [["a=1,"], ["a=,1"], ["a=1,1"], ["a=1,2", "a=3,4"]])
def test_odd_lists_are_refused(overrides: list[str]) -> None:
    with pytest.raises(UsageError):
        split_lists(overrides)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["model.kind=gru"],
        ["preset=transformer-base", "training.label_smoothing=0"],
        ["tokenizer.kind=char", "training.batch_size=auto", "model.dropout=0.55"],
        ["training.batch_size=1", "training.max_steps=1", "tokenizer.vocabulary_size=8"],
        ["model.kind=gru", "model.hidden_size=6", "model.num_heads=1", "training.init_from=runs/x"],
        ["model.hidden_size=8", "model.ff_size=8", "model.num_heads=4"],
    ],
)
def test_the_space_of_a_config_is_valid_and_holds_the_config(settings: list[str]) -> None:
    config = load_config([], settings)
    space = default_space(config)
    assert size(space) > 20
    assert settings_of(space, tuple(dimension.first for dimension in space)) == []
    for dimension in space:
        assert len(dimension.labels) == len(dimension.settings) == len(set(dimension.settings))
        for option in dimension.settings:
            changed = load_config([], [*settings, *option])
            assert (changed == config) == (option == ())
    names = {dimension.name for dimension in space}
    assert ("model.attention_dropout" in names) == (config.model.kind == "transformer")
    assert ("tokenizer.vocabulary_size" in names) == (
        not {"tokenizer.kind=char", "training.init_from=runs/x"} & {*settings}
    )


def drawn(sampler: Sampler, space: Sequence[Dimension], seed: int = 1) -> list[Point]:
    tried: list[Point] = []
    while (choice := next_choice(sampler, space, tried, tried, seed)) is not None:
        tried.append(choice)
    return tried


@pytest.mark.parametrize("sampler", [name for name in get_args(Sampler) if name != "auto"])
def test_every_trial_comes_once_the_config_first(sampler: Sampler) -> None:
    if sampler == "optuna":
        pytest.importorskip("optuna")
    found = drawn(sampler, SPACE)
    assert found[0] == (1, 0)
    assert sorted(found) == [(rate, width) for rate in range(3) for width in range(2)]
    assert found == drawn(sampler, SPACE), "a search that was stopped goes on with the same trials"


def test_a_grid_of_any_size_is_walked_one_by_one() -> None:
    """The whole product was listed for each trial."""
    space = [Dimension(str(number), ("a", "b"), ((), (f"{number}=b",)), 0) for number in range(60)]
    tried: list[Point] = [(0,) * 60]
    for number in range(1, 9):
        choice = next_choice("grid", space, tried, tried, 1)
        assert choice is not None
        assert int("".join(map(str, choice)), 2) == number
        tried.append(choice)


def test_random_trials_stay_near_the_config_and_depend_on_the_seed() -> None:
    space = [
        Dimension(str(number), ("a", "b", "c"), ((), (f"{number}=b",), (f"{number}=c",)), 0) for number in range(9)
    ]
    found, other = ([(0,) * 9], [(0,) * 9])
    for seed, tried in ((1, found), (2, other)):
        while len(tried) < 40:
            choice = next_choice("random", space, tried, [], seed)
            assert choice is not None
            tried.append(choice)
    assert found != other
    assert len(set(found)) == 40
    changes = [sum(index > 0 for index in choice) for choice in found[1:]]
    assert 2.0 < sum(changes) / len(changes) < 4.5


def test_optuna_learns_from_the_ranking() -> None:
    pytest.importorskip("optuna")
    letters = tuple("abcde")
    space = [Dimension(name, letters, tuple((f"{name}={c}",) for c in letters), 0) for name in "xyz"]
    some = [(x, y, (x + 2 * y) % 5) for x in range(5) for y in range(5)]
    ranking = sorted(some, key=lambda choice: sum((index - 4) ** 2 for index in choice))
    found = [next_choice("optuna", space, some, ranking, seed) for seed in range(10)]
    assert sum(sum(choice) for choice in found if choice) / len(found) > 1.2 * sum(map(sum, some)) / len(some)


def test_auto_takes_all_trials_where_they_fit() -> None:
    assert choose_sampler("auto", SPACE, 6) == "grid"
    assert choose_sampler("auto", SPACE, 5) in ("random", "optuna")
    assert choose_sampler("random", SPACE, 6) == "random"


def test_a_trial_is_described_by_what_it_changes() -> None:
    assert describe(SPACE, (1, 0)) == "as in the config"
    assert describe(SPACE, (2, 1)) == "rate=3 size=l"
    assert settings_of(SPACE, (2, 1)) == ["rate=3", "width=9", "depth=2"]
    assert describe([dimension._replace(base=None) for dimension in SPACE], (0, 0)) == "rate=1 size=s"


def test_given_values_are_the_space() -> None:
    setup = read_setup([], ["data.holdout=5", "model.dropout=0.3,0.1", "training.optimizer.learning_rate=1e-2,1e-3"])
    assert [(dimension.name, dimension.labels, dimension.base) for dimension in setup.space] == [
        ("model.dropout", ("0.3", "0.1"), 1),
        ("training.optimizer.learning_rate", ("1e-2", "1e-3"), 1),
    ]
    config = setup.trial_config(settings_of(setup.space, (0, 1)))
    assert (config.model.dropout, config.training.optimizer.learning_rate) == (0.3, 1e-3)


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["data.holdout=5", "model.dropuot=0.1,0.2"], "config.unknown-key"),
        (["data.holdout=5", "model.dropout=0.1,big"], "config.value"),
        (["model.dropout=0.1,0.2"], "config.no-data"),
        (["data.holdout=5", "training.budget_minutes=1,2"], "usage.conflict"),
        (["data.holdout=5", "model.dropout=0.1,1e-1"], "usage.value"),
    ],
)
def test_mistakes_are_told_before_the_first_trial(overrides: list[str], code: str) -> None:
    with pytest.raises((ConfigError, UsageError)) as error:
        read_setup([], overrides)
    assert error.value.code == code
