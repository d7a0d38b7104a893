"""The table of choices: no size of corpus, no budget and no speed gives an odd model."""

from __future__ import annotations

import math

import pytest

from seq2seq.config import load_config
from seq2seq.config.settings_by_size import GRU_PAIRS, ROWS, Choices, Kind, choose

SIZES = [round(300 * 1.15**power) for power in range(83)]


def bytes_to_train(choices: Choices) -> float:
    """Weights, gradient, two moments, and the activations of a batch."""
    return 16 * choices.weights + 40 * choices.batch_size * choices.hidden_size * 4


def test_no_size_is_a_jump() -> None:
    """60,000 pairs had 6,000 entries and 60,001 had 15,100; 140,000 short pairs had 21 M weights."""
    for size in (*SIZES, *(row.pairs for row in ROWS), 59_999, 60_000, 600_000):
        here = choose(size, kind="transformer")
        for neighbour, tolerance in (
            (choose(size + 1, kind="transformer"), 0.02),
            (choose(round(1.01 * size), kind="transformer"), 0.05),
        ):
            for name in ("vocabulary", "batch_size", "learning_rate", "steps", "weights", "flops"):
                old, new = getattr(here, name), getattr(neighbour, name)
                assert abs(math.log(new / old)) < tolerance, (size, name, old, new)
            assert abs(neighbour.dropout - here.dropout) < 0.01
            # Whole numbers may step once; feed-forward blocks then take up the difference.
            for name, step in (("encoder_layers", 1), ("decoder_layers", 1), ("hidden_size", 16)):
                assert 0 <= getattr(neighbour, name) - getattr(here, name) <= step, (size, name)


def test_choices_grow_with_the_corpus_and_fit_a_machine() -> None:
    before = choose(100, kind="transformer")
    for size in SIZES:
        here = choose(size, kind="transformer")
        for name in ("vocabulary", "hidden_size", "encoder_layers", "decoder_layers", "batch_size", "weights", "steps"):
            assert getattr(here, name) >= 0.97 * getattr(before, name), (size, name)
        for name in ("dropout", "attention_dropout", "learning_rate", "passes"):
            assert getattr(here, name) <= getattr(before, name), (size, name)
        assert here.hidden_size % here.num_heads == 0
        assert 2 <= here.ff_size / here.hidden_size <= 6
        assert here.warmup_steps < here.steps / 4
        assert bytes_to_train(here) < 8e9
        before = here
    assert (choose(29_000).hidden_size, choose(29_000).vocabulary) == (192, 6000)
    assert choose(140_000).weights < 8e6


@pytest.mark.parametrize("size", [10, 300, 29_000, 165_000, 30_000_000])
def test_a_budget_shrinks_the_model_evenly(size: int) -> None:
    speed, before = 2e11, choose(size, minutes=1, speed=2e11, kind="transformer")
    for power in range(1, 60):
        minutes = 1.15**power
        here = choose(size, minutes=minutes, speed=speed, kind="transformer")
        assert here.weights >= before.weights
        assert here.weights < 1.35 * before.weights
        assert here.flops * here.tokens * here.pairs * here.passes <= 1.34 * 60 * minutes * speed
        before = here
    assert before.as_for == size if size <= 29_000 else before.weights > choose(29_000).weights
    assert "minutes" in choose(size, minutes=30, speed=speed).settings()["training.budget_minutes"].reason


def test_scores_are_said_where_they_were_measured() -> None:
    assert "39.7 BLEU" in choose(29_000).expected_score
    assert "24.1 BLEU" in choose(3_000).expected_score
    assert choose(3_000, kind="transformer").expected_score == choose(29_000, kind="gru").expected_score == ""
    assert choose(300).expected_score == choose(1_000_000).expected_score == ""


@pytest.mark.parametrize("kind", ["auto", "transformer", "gru"])
def test_choices_are_valid_settings(kind: Kind) -> None:
    for size in (10, 3_000, 400_000, 30_000_000):
        chosen = choose(size, minutes=300, speed=1e12, kind=kind).settings()
        values = [f"{key}={'null' if choice.value is None else choice.value}" for key, choice in chosen.items()]
        config = load_config([], values)
        assert config.training.budget_minutes == 300
        assert config.tokenizer.vocabulary_size == chosen["tokenizer.vocabulary_size"].value
        wanted = {"auto": "rnn" if size < GRU_PAIRS else "transformer", "gru": "rnn"}.get(kind, kind)
        assert config.model.kind == wanted


def test_few_pairs_and_little_time_take_a_gru() -> None:
    assert choose(GRU_PAIRS - 1).kind == "gru"
    assert choose(GRU_PAIRS).kind == "transformer"
    speed = 2e11
    kinds = [choose(100_000, minutes=1.3**power, speed=speed).kind for power in range(30)]
    assert kinds[0] == "gru"
    assert kinds[-1] == "transformer"
    assert sorted(kinds) == kinds, "more time never goes back to the GRU"


def test_a_gpu_takes_larger_batches_and_more_passes() -> None:
    for size in SIZES:
        cpu, gpu = choose(size), choose(size, on_gpu=True)
        assert cpu.batch_size <= gpu.batch_size <= max(25_000, cpu.batch_size)
        assert cpu.steps / 2.01 <= gpu.steps <= cpu.steps
        assert cpu.passes <= gpu.passes <= 2 * cpu.passes
        assert gpu.weights == cpu.weights
    assert choose(29_000, on_gpu=True).batch_size == 16_384
    assert choose(30_000_000, on_gpu=True) == choose(30_000_000)
