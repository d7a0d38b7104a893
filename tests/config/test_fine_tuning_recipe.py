"""The recipe for fine-tuning: what it chooses, and what it leaves to the user."""

from __future__ import annotations

import pytest

from seq2seq.config import Config, load_config
from seq2seq.config.fine_tuning import RECIPE_KEYS, rate_is_too_high, recipe
from seq2seq.errors import ConfigError

EARLIER = load_config([], ["training.optimizer.learning_rate=0.003", "training.label_smoothing=0.2"])


def values(pairs: int, *settings: str, earlier: Config = EARLIER, no_replay: str | None = None) -> dict[str, object]:
    given = load_config([], ["training.init_from=runs/none", *settings]).given()
    chosen = recipe(given, earlier, pairs, 40.0, vocabulary=2000, no_replay=no_replay)
    assert set(chosen) <= set(RECIPE_KEYS)
    assert not set(chosen) & set(given)
    assert all(choice.reason for choice in chosen.values())
    return {key.removeprefix("training."): choice.value for key, choice in chosen.items()}


@pytest.mark.parametrize("pairs", [1, 20, 500, 20_000, 5_000_000])
def test_every_size_has_a_schedule_that_is_valid(pairs: int) -> None:
    config = load_config([], ["training.init_from=runs/x"])
    found = values(pairs)
    for key, value in found.items():
        config = config.replaced(f"training.{key}", value)
    assert Config.model_validate(config.model_dump()) == config
    assert config.training.optimizer.learning_rate == pytest.approx(1e-3)
    assert config.training.label_smoothing == 0.2
    assert config.training.schedule.warmup_steps <= config.training.max_steps / 5
    assert config.training.validate_every <= config.training.max_steps
    assert config.training.patience


def test_steps_follow_the_corpus_the_batch_and_the_replay() -> None:
    steps = [values(pairs)["max_steps"] for pairs in (500, 5_000, 50_000)]
    assert steps == sorted(steps)
    alone, half = (values(5_000, f"training.replay={share}")["max_steps"] for share in (0, 0.5))
    assert half == pytest.approx(2 * alone, rel=0.01)  # type: ignore[operator]
    large = values(5_000, "training.batch_size=8192")["max_steps"]
    small = values(5_000, "training.batch_size=2048")["max_steps"]
    assert small == pytest.approx(4 * large, rel=0.05)  # type: ignore[operator]
    assert values(5_000, "training.batch_size=10", "training.batch_type=sentences", "training.max_epochs=3")[
        "max_steps"
    ] == pytest.approx(3_000, rel=0.01)


def test_a_batch_of_sentences_is_no_batch_of_tokens() -> None:
    found = values(500, "training.batch_type=sentences")
    assert found["max_steps"] == pytest.approx(values(500)["max_steps"], rel=0.05)
    assert found["batch_size"] < values(500)["batch_size"] / 5  # type: ignore[operator]


def test_what_follows_from_given_steps() -> None:
    found = values(500, "training.max_steps=50")
    assert "max_steps" not in found
    assert found["schedule.warmup_steps"] == 5
    assert found["validate_every"] == 5
    assert values(500, "training.schedule.warmup_steps=900")["max_steps"] == 1800


@pytest.mark.parametrize(("pairs", "metric"), [(500, "loss"), (9_999, "loss"), (10_000, None)])
def test_few_pairs_are_judged_by_the_loss(pairs: int, metric: str | None) -> None:
    """Between 1.7 and 2.1 BLEU, step 48 was kept by chance and patience ended a run whose loss still fell."""
    assert values(pairs).get("metric") == metric
    assert "metric" not in values(pairs, "training.metric=chrf")


def test_a_run_that_was_fine_tuned_keeps_its_rate() -> None:
    """Divided each time, the rate of a run that is fine-tuned again and again would vanish."""
    tuned = load_config([], ["training.init_from=runs/x", "training.optimizer.learning_rate=0.0003"])
    assert values(500, earlier=tuned)["optimizer.learning_rate"] == 0.0003
    muon = load_config([], ["training.optimizer.kind=muon", "training.optimizer.learning_rate=0.02"])
    assert values(500, earlier=muon)["optimizer.kind"] == "muon"
    assert rate_is_too_high(0.003, EARLIER)
    assert not rate_is_too_high(0.0005, EARLIER)
    assert not rate_is_too_high(0.0003, tuned)


def test_replay_is_off_where_the_corpus_is_gone() -> None:
    chosen = recipe({}, EARLIER, 500, 40.0, no_replay="no file a.de")
    assert chosen["training.replay"].value == 0.0
    assert "no file a.de" in chosen["training.replay"].reason
    with pytest.raises(ConfigError, match=r"training\.init_from=RUN"):
        load_config([], ["training.replay=0.5"])
