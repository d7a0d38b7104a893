"""Cost of a run, told at its start, and budgets: decided once, kept with the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from seq2seq.cli.main import app
from seq2seq.config import TrainingSettings, load_config
from seq2seq.console import duration, set_quiet
from seq2seq.errors import UsageError
from seq2seq.runs import estimate as module
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.estimate import fitted, with_budget, within_limits
from seq2seq.runs.train import estimate, train
from seq2seq.sealed_records import Estimate
from seq2seq.signals import Interrupted
from seq2seq.training.trainer import Trainer

ESTIMATE = Estimate(
    parameters=1000,
    steps=10_000,
    passes=50.0,
    warmup_steps=1000,
    validate_every=500,
    step_seconds=0.5,
    validation_seconds=10.0,
    preparation_seconds=60.0,
    end_seconds=40.0,
    memory=10**9,
)


def settings(corpus: Path, run: Path, *more: str) -> list[str]:
    """A tiny run on one CPU thread."""
    return [
        f"data.train=[{{source: {corpus}/corpus.en, target: {corpus}/corpus.de}}]",
        *("data.holdout=4", "tokenizer.vocabulary_size=400", "devices=1", f"run_directory={run}", "model.kind=gru"),
        *("model.hidden_size=16", "model.embedding_size=16", "training.batch_size=160", "training.metric=loss"),
        *more,
    ]


def test_the_time_in_all_holds_every_part() -> None:
    assert ESTIMATE.training_seconds == 10_000 * 0.5 + 20 * 10
    assert ESTIMATE.seconds == 60 + 5200 + 40


def test_limits_and_budgets_shape_a_run() -> None:
    def made(**values: object) -> TrainingSettings:
        schedule = {"kind": "wsd", "warmup_steps": 1000}
        return TrainingSettings.model_validate({"max_steps": 10_000, "schedule": schedule, **values})

    assert within_limits(ESTIMATE, made(max_epochs=10)).steps == 2000
    half = within_limits(ESTIMATE, made(max_minutes=5200 / 120))
    assert (half.steps, half.passes) == (5000, 25.0)
    assert fitted(made(), ESTIMATE) == made()
    for minutes in (5, 30, 60):
        planned = with_budget(ESTIMATE, made(budget_minutes=minutes))
        assert 0.85 * 60 * minutes < planned.seconds <= 60 * minutes
        assert planned.steps / planned.validate_every >= 1.9
        assert planned.warmup_steps <= planned.steps / 9
        changed = fitted(made(budget_minutes=minutes), planned)
        assert (changed.max_steps, changed.schedule.kind) == (planned.steps, "wsd")
        assert changed.max_minutes == pytest.approx(minutes - 100 / 60)
    assert with_budget(ESTIMATE, made(budget_minutes=1000)).steps == 10_000
    assert with_budget(ESTIMATE, made(budget_minutes=1)).steps == 1
    longer = with_budget(with_budget(ESTIMATE, made(budget_minutes=30)), made(budget_minutes=60))
    assert longer == with_budget(ESTIMATE, made(budget_minutes=60))


def test_an_estimate_leaves_no_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_WORTH_SECONDS", 0.0)
    found = estimate(load_config([], settings(corpus, tmp_path / "run", "training.max_steps=5")))
    assert not list(tmp_path.iterdir())
    assert found.steps == 5
    assert found.memory > 10**7
    assert found.step_seconds > 0 < found.validation_seconds < found.end_seconds
    assert "to expect: 5 steps, " in capsys.readouterr().err


def test_without_a_budget_training_begins_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timed steps and translations before the first step took 3.3 s of CPU time; now those of the run are timed."""
    monkeypatch.setattr(module, "_WORTH_SECONDS", 0.0)
    monkeypatch.setattr("seq2seq.training.trainer._TIMED_STEPS", 16)
    monkeypatch.setattr(Trainer, "time_steps", lambda self, data: pytest.fail("these steps are not part of the run"))
    steps: list[int] = []
    original = Trainer._update

    def update(self: Trainer, *arguments: object) -> object:
        steps.append(int("to expect: 30 steps, " in capsys.readouterr().err))
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_update", update)
    given = settings(corpus, tmp_path / "run", "training.max_steps=30", "training.validate_every=30")
    train(load_config([], given))
    assert len(steps) == 30
    assert sum(steps) == 1
    assert 3 <= steps.index(1) <= 16
    found = RunDirectory(tmp_path / "run").load_estimate()
    assert found is not None
    assert found.step_seconds > 0 < found.preparation_seconds
    assert "(estimated " in capsys.readouterr().err


def test_an_estimate_changes_no_bit(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Translations are timed between two updates."""
    weights = []
    for name, worth in (("timed", 0.0), ("not", 1e9)):
        monkeypatch.setattr(module, "_WORTH_SECONDS", worth)
        train(load_config([], settings(corpus, tmp_path / name, "training.max_steps=20", "training.ema_decay=0.9")))
        weights.append(next((tmp_path / name / "checkpoints").glob("step-*/model.safetensors")).read_bytes())
    assert weights[0] == weights[1]


def test_a_process_in_bf16_keeps_the_code_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peak_memory", lambda device: 10**9)
    sizes = {}
    for name in ("fp32", "bf16"):
        precision = SimpleNamespace(device=torch.device("cpu"), choice=SimpleNamespace(name=name))
        trainer: Any = SimpleNamespace(precision=precision, model=torch.nn.Linear(2, 2))
        sizes[name] = module._foreseen_memory(trainer)
    assert sizes["bf16"] - sizes["fp32"] == module.GENERATED_PRODUCTS * module._PRODUCT_BYTES == 1 << 27


def test_a_start_on_prepared_data_loads_neither_what_prepares_them_nor_a_compiler(corpus: Path, tmp_path: Path) -> None:
    """`datasets` and pandas took 0.8 s of CPU time before the first step, and torch's compiler 1.2 s."""
    given = settings(corpus, tmp_path / "run", "training.max_steps=1")
    estimate(load_config([], given))
    code = f"""
import sys
from seq2seq.config import load_config
from seq2seq.runs.train import estimate
estimate(load_config([], {given!r}))
print(*{{"datasets", "pandas", "torch._dynamo"}} & sys.modules.keys())
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def test_a_budget_is_decided_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another speed of the machine must not change the schedule of a run that is resumed."""
    given = settings(corpus, tmp_path / "run", "training.budget_minutes=10", "training.schedule.kind=wsd")
    monkeypatch.setattr(Trainer, "time_steps", lambda self, data: 50.0)
    steps = 0

    def update(self: Trainer, *arguments: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)  # type: ignore[arg-type]

    original = Trainer._update
    monkeypatch.setattr(Trainer, "_update", update)
    with pytest.raises(Interrupted):
        train(load_config([], given))
    known = RunDirectory(tmp_path / "run").load_estimate()
    assert known is not None
    assert 5 <= known.steps <= 11
    said = capsys.readouterr().err
    assert "of 20,000 steps" in said
    assert f"{known.steps} steps will not do to learn to translate; a budget of about " in said
    monkeypatch.setattr(Trainer, "time_steps", lambda self, data: 0.1)
    assert train(load_config([], given)).steps == known.steps
    assert f"(estimated {duration(known.seconds)}), peak " in capsys.readouterr().err
    assert RunDirectory(tmp_path / "run").load_estimate() == known
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = [row for row in map(json.loads, lines) if row["kind"] == "train"][-1]
    assert last["learning_rate"] < 0.7e-3  # the decay has come to its end


def test_files_without_a_config_are_resumed_with_their_choices(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The speed of the machine chooses the model: measured again, it would choose another one, and be refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "machine_speed", lambda config, choices: speeds.pop())
    speeds, run = [1e13, 1e8], tmp_path / "runs" / "en-de"
    command = ["train", "--source", f"{corpus}/corpus.en", "--target", f"{corpus}/corpus.de", "--budget", "6s"]
    command += ["devices=1", "training.max_steps=2", "model.hidden_size=16", "model.ff_size=16", "data.holdout=4"]
    for number in range(2):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        set_quiet(False)
        assert result.exit_code == 0
        assert len(speeds) == 1, number
        assert "report.html" in result.stderr
        (run / "results.json").unlink()
    text = (run / "config.yaml").read_text()
    assert "# warm-up, flat, decay" in text
    assert yaml.safe_load(text)["training"]["budget_minutes"] == 0.1
    assert f"next: seq2seq translate {Path('runs/en-de')} FILE" in result.stderr


@pytest.mark.parametrize("time", ["soon", "0m", "-3m", "30x"])
def test_a_budget_is_a_time(time: str, corpus: Path) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        CliRunner().invoke(app, ["train", "c.yaml", f"--budget={time}"], catch_exceptions=False)
