"""The loop: what an update is, what is best, and that an interruption changes nothing."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.config import Config, OptimizerSettings, TrainingSettings, load_config
from seq2seq.data.batch_plan import Cursor
from seq2seq.data.batches import Batch, collate
from seq2seq.errors import DivergenceError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.models.layers import Dropout
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.signals import Interrupted, StopRequest
from seq2seq.training.metrics_log import Validation
from seq2seq.training.step import LossModule, train_step
from seq2seq.training.trainer import Trainer
from tests.run_reports import bare_report

CPU = torch.device("cpu")
VOCABULARY = 20
MODELS = {
    "transformer": [
        "model.hidden_size=16",
        "model.ff_size=32",
        "model.encoder_layers=1",
        "model.decoder_layers=1",
    ],
    "gru": ["model.kind=gru", "model.hidden_size=16", "model.embedding_size=16"],
}


def tiny_model(kind: str, dropout: float = 0.0) -> Seq2SeqModel:
    torch.manual_seed(1)
    settings = load_config([], [*MODELS[kind], f"model.dropout={dropout}"]).model
    return build_model(settings, VOCABULARY, VOCABULARY)


def pairs(count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """A copying task, rows of different lengths."""
    random = np.random.default_rng(seed)
    rows = [random.integers(4, VOCABULARY, size=random.integers(1, 7)).tolist() for _ in range(count)]
    return [(row, row) for row in rows]


def batch_of(rows: list[tuple[list[int], list[int]]]) -> Batch:
    return collate([source for source, _ in rows], [target for _, target in rows])


@dataclass
class Copying:
    """Six batches an epoch in an order of its own; `before` is called with each batch's epoch and number."""

    batches: int = 6
    before: Callable[[int, int], None] = lambda epoch, number: None
    pairs_per_epoch: int = 48

    def epoch(self, cursor: Cursor) -> Iterator[tuple[Batch, Cursor]]:
        order = np.random.default_rng(cursor.epoch).permutation(self.batches)
        for number in range(cursor.batch, self.batches):
            self.before(cursor.epoch, number)
            after = Cursor(cursor.epoch, 0, number + 1, 8 * (number + 1))
            last = number + 1 == self.batches
            yield batch_of(pairs(8, int(order[number]))), Cursor(cursor.epoch + 1) if last else after

    def longest(self) -> Batch:
        return batch_of(pairs(8, 0))


def make_trainer(folder: Path, model: Seq2SeqModel, bleus: list[float] | None = None, **settings: object) -> Trainer:
    training = TrainingSettings.model_validate({"max_steps": 12, "validate_every": 4, "log_every": 2, **settings})
    folder.mkdir(exist_ok=True)
    scores = iter(bleus or [])

    def validate(step: int, stop: StopRequest) -> Validation:
        return Validation(step, 1.0 / step, 1.0, MetricResult("BLEU", next(scores, float(step)), "sig"), 0.0, [])

    return Trainer(
        model,
        training,
        Precision(PrecisionChoice("fp32", ""), CPU),
        CheckpointFolder(folder / "checkpoints"),
        report=partial(bare_report, folder),
        validate=validate,
    )


def weights(model: Seq2SeqModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("kind", MODELS)
def test_accumulation_equals_one_large_batch(kind: str) -> None:
    """Averaging the batches' means weighs tokens of short batches more (Hugging Face before 2024)."""
    rows = [pairs(3, 1), pairs(9, 2), pairs(5, 3)]
    results, losses = [], []
    for group in ([batch_of(part) for part in rows], [batch_of([row for part in rows for row in part])]):
        model = tiny_model(kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        losses_of = LossModule(model, label_smoothing=0.1)
        precision = Precision(PrecisionChoice("fp32", ""), CPU)
        report = train_step(losses_of, group, optimizer, precision, max_gradient_norm=1.0)
        results.append(weights(model))
        losses.append(float(report.loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for accumulated, whole in zip(*results, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_simcut_cuts_tokens_of_the_second_pass_alone(kind: str) -> None:
    model, batch = tiny_model(kind), batch_of(pairs(9, 2))
    for module in model.modules():
        if isinstance(module, Dropout):
            module.probability = 0.0
    plain = LossModule(model, label_smoothing=0.1)(batch)
    cut = LossModule(model, label_smoothing=0.1, simcut=3.0, cutoff=0.5)(batch)
    assert cut.nll.item() == pytest.approx(plain.nll.item(), rel=1e-5)
    assert cut.loss.item() > 1.001 * plain.loss.item()
    model.eval()  # the second pass is the first
    assert LossModule(model, label_smoothing=0.1, simcut=3.0, cutoff=0.5)(batch).loss.item() == pytest.approx(
        plain.loss.item(), rel=1e-5
    )


def test_left_over_batches_of_an_epoch_are_an_update(tmp_path: Path) -> None:
    """JoeyNMT drops the batches left over at the end of an epoch."""
    trainer = make_trainer(tmp_path, tiny_model("gru"), accumulation_steps=4, max_steps=100, max_epochs=2)
    state = trainer.fit(Copying())
    assert (state.step, state.cursor) == (4, Cursor(2))
    expected = sum(batch.tokens for epoch in range(2) for batch, _ in Copying().epoch(Cursor(epoch)))
    assert state.tokens_seen == expected


@pytest.mark.parametrize("kind", MODELS)
def test_loss_falls(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    trainer = make_trainer(
        tmp_path,
        model,
        max_steps=60,
        validate_every=30,
        optimizer={"learning_rate": 2e-2},
        schedule={"warmup_steps": 5},
    )
    trainer.fit(Copying())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[0] > 2.5
    assert losses[-1] < 0.6 * losses[0]
    assert len([line for line in lines if line["kind"] == "validation"]) == 2


@pytest.mark.parametrize(("kind", "stop_at"), [("transformer", 3), ("gru", 4), ("transformer", 7)])
def test_an_interrupted_run_ends_in_the_same_bits(kind: str, stop_at: int, tmp_path: Path) -> None:
    """Dropout on, accumulation 2, stopped by SIGTERM in the middle of an epoch."""
    options: dict[str, object] = {"accumulation_steps": 2, "max_steps": 10}
    whole = tiny_model(kind, dropout=0.3)
    make_trainer(tmp_path / "whole", whole, **options).fit(Copying())

    drawn = 0

    def interrupt(epoch: int, number: int) -> None:
        nonlocal drawn
        drawn += 1
        if drawn == 2 * stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = make_trainer(tmp_path / "parts", tiny_model(kind, dropout=0.3), **options)
    with pytest.raises(Interrupted) as caught:
        stopped.fit(Copying(before=interrupt))
    assert caught.value.exit_code == 143
    assert stopped.state.step == stop_at

    torch.manual_seed(99)  # the resumed process starts from another random state
    resumed = tiny_model(kind, dropout=0.3)
    torch.manual_seed(98)
    trainer = make_trainer(tmp_path / "parts", resumed, **options)
    state = trainer.fit(Copying())
    assert state.step == 10
    for ours, theirs in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(ours, theirs)
    timing = {"time", "seconds", "tokens_per_second", "target_tokens_per_second"}
    curves = [
        [
            {key: value for key, value in json.loads(line).items() if key not in timing}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "parts")
    ]
    assert curves[0] == curves[1]


def test_pauses_change_nothing(tmp_path: Path) -> None:
    """A run that pauses at validations ends in the same bits, and a pause that was reached is not trained again."""
    whole, parts = tiny_model("transformer", dropout=0.3), tiny_model("transformer", dropout=0.3)
    make_trainer(tmp_path / "whole", whole).fit(Copying())
    steps = []
    for share in (0.1, 0.1, 0.5, 1.0):
        torch.manual_seed(len(steps))  # the state is the checkpoint's
        state = make_trainer(tmp_path / "parts", parts if share == 1.0 else tiny_model("transformer", 0.3)).fit(
            Copying(), share
        )
        steps.append((state.step, state.finished))
    assert steps == [(4, False), (4, False), (8, False), (12, True)]
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(parts), strict=True))
    lines = [(folder / "metrics.jsonl").read_text().count("\n") for folder in (tmp_path / "whole", tmp_path / "parts")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        ({"kind": "inverse_sqrt", "warmup_steps": 20}, 28),
        ({"kind": "wsd", "warmup_steps": 4, "decay_fraction": 1.0}, 40),
        ({"kind": "wsd", "warmup_steps": 4, "decay_fraction": 0.1}, 12),
    ],
    ids=["warm-up", "falling rate", "neither"],
)
def test_patience_waits_for_the_warm_up_and_for_the_falling_rate(
    schedule: dict[str, object], end: int, tmp_path: Path
) -> None:
    scores = [10.0 - step for step in range(10)]
    trainer = make_trainer(tmp_path, tiny_model("gru"), scores, max_steps=40, patience=2, schedule=schedule)
    assert trainer.fit(Copying()).step == end


@pytest.mark.parametrize(
    ("scores", "settings", "best", "end"),
    [
        # fairseq and JoeyNMT have chosen the best model with the wrong direction for the metric.
        (
            [10.0, 30.0, 20.0, 25.0, 29.0, 99.0],
            {"max_steps": 1000, "patience": 3, "schedule": {"warmup_steps": 4}},
            (8, 30.0, 1 / 8),
            (20, 3),
        ),
        # No number is greater than NaN: one overflow in the first look, and the first model was kept as the best.
        ([math.nan, math.nan, 3.0], {}, (12, 3.0, 1 / 12), (12, 0)),
        # BLEU was 0.00 at every validation: the first model was kept as the best, and patience ended the run.
        pytest.param([0.0] * 9, {"patience": 1}, (12, 0.0, 1 / 12), (12, 0), marks=pytest.mark.fault(63)),
    ],
    ids=["patience", "nan", "equal scores, lower loss"],
)
def test_best_follows_the_metric_and_patience_stops(
    scores: list[float],
    settings: dict[str, object],
    best: tuple[int, float, float],
    end: tuple[int, int],
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, tiny_model("gru"), scores, **settings)
    state = trainer.fit(Copying())
    assert (state.best_step, state.best_metric, state.best_loss) == best
    assert (state.step, state.stalled) == end
    assert trainer.checkpoints.load_best().state.step == state.best_step


def test_with_the_loss_as_metric_lower_is_better(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, tiny_model("gru"), patience=1, max_steps=8)
    losses = iter([2.0, 1.0])
    trainer.validate = lambda step, stop: Validation(step, next(losses), 1.0, None, 0.0, [])
    assert trainer.fit(Copying()).best_step == 8


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = make_trainer(tmp_path, tiny_model("gru"))
    first.fit(Copying())
    again = make_trainer(tmp_path, tiny_model("gru"))
    assert again.fit(Copying()).step == 12
    longer = make_trainer(tmp_path, tiny_model("gru"), max_steps=14)
    assert longer.fit(Copying()).step == 14


def test_fewer_steps_than_were_made_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run stopped at step 8 and resumed with max_steps=5 ended as finished, and nothing said why."""

    def interrupt(epoch: int, number: int) -> None:
        if (epoch, number) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        make_trainer(tmp_path, tiny_model("gru")).fit(Copying(before=interrupt))
    capsys.readouterr()
    assert make_trainer(tmp_path, tiny_model("gru"), max_steps=5).fit(Copying()).step == 8
    assert "training.max_steps 5 has been passed: the run ends here" in capsys.readouterr().err


def test_a_smaller_patience_on_resume_ends_at_the_validated_step(tmp_path: Path) -> None:
    """The step was validated and counted once more: two lines in metrics.jsonl, and one more stalled validation."""
    schedule = {"warmup_steps": 4}
    make_trainer(tmp_path, tiny_model("gru"), bleus=[3.0, 2.0, 1.0], schedule=schedule).fit(Copying())
    state = make_trainer(tmp_path, tiny_model("gru"), max_steps=24, patience=2, schedule=schedule).fit(Copying())
    assert (state.step, state.stalled, state.finished) == (12, 2, True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["kind"], line["step"]) for line in lines]
    assert len(steps) == len(set(steps))


def test_divergence_names_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = tiny_model("gru")
    trainer = make_trainer(tmp_path, model, max_steps=100)

    def poison(epoch: int, number: int) -> None:
        if (epoch, number) == (1, 1):
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    with pytest.raises(DivergenceError, match="step 8") as caught:
        trainer.fit(Copying(before=poison))
    assert caught.value.exit_code == 6
    checkpoint = trainer.checkpoints.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 4
    assert all(tensor.isfinite().all() for tensor in checkpoint.model.values())


def test_rehearsal_changes_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, tiny_model("transformer", dropout=0.3))
    before, random_state = weights(trainer.model), torch.get_rng_state()
    trainer.rehearse(Copying())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(old, new) for old, new in zip(before, weights(trainer.model), strict=True))
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_the_largest_batch_is_rehearsed_where_memory_may_run_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    for name, free in (("tight", 0), ("free", 1 << 60)):
        monkeypatch.setattr("seq2seq.training.trainer.free_memory", lambda device, free=free: free)
        trainer = make_trainer(tmp_path / name, tiny_model("transformer", dropout=0.3))
        trainer.fit(Copying())
        assert trainer._was_rehearsed == (free == 0)
        trained.append(weights(trainer.model))
    assert all(torch.equal(tight, free) for tight, free in zip(*trained, strict=True))


def test_a_full_log_disk_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path, tiny_model("gru"))

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.writer.SummaryWriter.add_scalar", full)
    assert trainer.fit(Copying()).step == 12
    assert capsys.readouterr().err.count("training continues") == 1


def test_optimizer_moves_every_parameter() -> None:
    model = tiny_model("transformer")
    optimizer = build_optimizer(model, OptimizerSettings())
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert moved == {id(parameter) for parameter in model.parameters()}
    assert Config().training.optimizer == OptimizerSettings()


def test_a_limit_shapes_schedule_and_validations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training for 4.5 minutes ended within the warm-up, after 22 of 12,356 steps, and no message said so."""
    schedule = {"kind": "cosine", "warmup_steps": 1000}
    trainer = make_trainer(
        tmp_path, tiny_model("gru"), max_steps=9000, validate_every=500, max_epochs=6, log_every=1, schedule=schedule
    )
    assert trainer.fit(Copying()).step == 36
    said = capsys.readouterr().err
    assert "about 36 of 9,000 steps fit into the limit of this run" in said
    assert "warm-up of 9 steps" in said
    assert "training.max_epochs=6 ended training at step 36 of 9,000" in said
    assert "warning: after 36 steps a model has hardly learned to translate; raise training.max_epochs" in said
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in logged if line["kind"] == "train"]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(2e-5)
    assert [line["step"] for line in logged if line["kind"] == "validation"] == [18, 36]


def test_timed_steps_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a step is measured before the first one, which must not change what training computes."""
    monkeypatch.setattr("seq2seq.training.trainer._TIMED_STEPS", 16)
    results = []
    for name in ("timed", "plain"):
        torch.manual_seed(1)
        trainer = make_trainer(tmp_path / name, tiny_model("transformer", dropout=0.3), max_steps=6)
        if name == "timed":
            assert trainer.time_steps(Copying()) > 0
        trainer.fit(Copying())
        results.append(weights(trainer.model))
    for timed, plain in zip(*results, strict=True):
        torch.testing.assert_close(timed, plain, rtol=0, atol=0)


def test_a_limited_run_resumes_with_the_same_schedule(tmp_path: Path) -> None:
    """Without the measured pace in the state, a resumed run would fall back to the schedule of `max_steps`."""

    def interrupt(epoch: int, number: int) -> None:
        if (epoch, number) == (2, 3):
            signal.raise_signal(signal.SIGTERM)

    results = []
    for name in ("whole", "parts"):
        settings = {"max_steps": 9000, "max_epochs": 4, "validate_every": 500}
        torch.manual_seed(1)
        if name == "parts":
            with pytest.raises(Interrupted):
                make_trainer(tmp_path / name, tiny_model("gru"), **settings).fit(Copying(before=interrupt))
        trainer = make_trainer(tmp_path / name, tiny_model("gru"), **settings)
        trainer.fit(Copying())
        results.append(weights(trainer.model))
    for whole, part in zip(*results, strict=True):
        torch.testing.assert_close(whole, part, rtol=0, atol=0)
