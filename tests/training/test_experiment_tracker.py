"""`training.tracker`: wandb and trackio get the curves, and never end a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seq2seq.config import load_config
from seq2seq.errors import ConfigError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.runs.train import train
from seq2seq.training import experiment_tracker as tracker
from seq2seq.training.experiment_tracker import require_tracker
from seq2seq.training.metrics_log import StepReport, Validation
from tests.run_reports import bare_report

STEP = StepReport(2, 0.1, 3.0, 20.0, 1.0, 1e-3, 100.0, 50.0)
VALIDATION = Validation(4, 2.0, 7.4, MetricResult("BLEU", 12.5, "sig"), 0.1, [])


class Fake(ModuleType):
    """A library with the calls of wandb and trackio."""

    def __init__(self, name: str, fails_in: str = "") -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self._fails_in = fails_in

    def _call(self, name: str, facts: Any) -> None:
        self.calls.append((name, facts))
        if name == self._fails_in:
            raise ConnectionError("no network\nmore")

    def init(self, **facts: Any) -> None:
        self._call("init", facts)

    def log(self, values: dict[str, float], *, step: int) -> None:
        self._call("log", (step, values))

    def finish(self) -> None:
        self._call("finish", None)


def report(folder: Path, name: Any) -> None:
    """A run of two events."""
    made = bare_report(folder, tracker=name)
    made.step(STEP)
    made.validation(VALIDATION, "new best", 1.0)
    made.close()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_curves_go_to_one_run_also_after_a_resume(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(name)
    monkeypatch.setitem(sys.modules, name, fake)
    report(tmp_path, name)
    report(tmp_path, name)
    kinds = [kind for kind, _ in fake.calls]
    assert kinds == ["init", "log", "log", "finish"] * 2
    first, second = fake.calls[0][1], fake.calls[4][1]
    assert first == second, "the same run"
    assert first["resume"] == "allow"
    assert first["config"] == {"seed": 1}
    assert fake.calls[1][1][0] == 2
    assert fake.calls[1][1][1]["train/loss"] == 3.0
    assert fake.calls[2][1] == (
        4,
        {"validation/loss": 2.0, "validation/perplexity": 7.4, "validation/bleu": 12.5, "validation/seconds": 0.1},
    )
    assert not (tmp_path / "tensorboard").exists()
    for place, damaged in ((8, "{"), (12, "[" * 100_000)):
        (tmp_path / tracker.FILE).write_text(damaged, encoding="utf-8")
        report(tmp_path, name)
        assert fake.calls[place][1] != first, "a damaged id is replaced"


@pytest.mark.parametrize("fails_in", ["init", "log", "finish"])
def test_a_failure_is_one_warning(
    fails_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Fake("wandb", fails_in))
    report(tmp_path, "wandb")
    assert capsys.readouterr().err.count("cannot log to wandb: no network; training continues without it") == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == ["train", "validation"]


def test_none_writes_no_events(tmp_path: Path) -> None:
    report(tmp_path, "none")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_missing_library_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    require_tracker("none")
    config = load_config([], ["preset=demo-gru", "training.tracker=wandb", f"run_directory={tmp_path / 'run'}"])
    with pytest.raises(ConfigError, match="wandb is not installed") as error:
        train(config)
    assert error.value.code == "export.library"
    assert not (tmp_path / "run").exists()
