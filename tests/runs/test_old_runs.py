"""Runs that earlier versions wrote still translate, evaluate and resume.

`old_runs/` holds two tiny runs that version 0.1.0 (commit 691801e) wrote before its modules were renamed, stopped by
SIGTERM at step 401 of 500, and `expected.json` with what that version made of them afterwards. `best` and `last`, which
that version made as links, were replaced by files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seq2seq import load
from seq2seq.config import load_config
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_config import (
    config_changes,
    load_run_config,
    save_run_config,
    with_data_seed,
    with_defaults_of_the_start,
)
from seq2seq.runs.train import train

OLD_RUNS = Path(__file__).parent / "old_runs"
EXPECTED = json.loads((OLD_RUNS / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(params=["transformer", "gru"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of an old run, beside its corpus."""
    shutil.copytree(OLD_RUNS, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    return Path("runs") / kind


def test_an_old_run_translates_and_scores_as_before(kind: str, old_run: Path) -> None:
    lines = Path("corpus.en").read_text(encoding="utf-8").splitlines()[:20]
    references = Path("corpus.de").read_text(encoding="utf-8").splitlines()[:20]
    run = load(old_run, checkpoint="last", threads=1)
    assert run.translate(lines) == EXPECTED[kind]["translations"]
    scores = run.score(list(zip(lines, references, strict=True)))
    assert scores == pytest.approx(EXPECTED[kind]["scores"], rel=1e-4)


def test_the_seed_of_an_old_run_decides_its_data_too(old_run: Path) -> None:
    """Runs that were started without `data.seed` held out other pairs for every `seed`."""
    stored = old_run / "config.yaml"
    directory, config = RunDirectory(old_run), load_config([stored])
    assert (config.seed, config.data.seed, load_run_config(directory).data.seed) == (3, 1, 3)
    resumed = with_data_seed(directory, config)
    assert resumed.data.seed == 3
    assert config_changes(load_run_config(directory), resumed) == []
    other = with_data_seed(directory, load_config([stored], ["data.seed=1"]))
    assert config_changes(load_run_config(directory), other) == ["data.seed: 3 -> 1"]
    save_run_config(directory, resumed, {})
    assert load_config([stored]).data.seed == 3


def test_an_old_run_resumes_to_the_same_model_and_results(kind: str, old_run: Path) -> None:
    """Equal up to the last bits, which other processors compute differently."""
    steps = 500 if kind == "transformer" else 450  # recurrent models are slower
    result = train(load_config([old_run / "config.yaml"], [f"training.max_steps={steps}"]))
    assert result.steps == steps
    if steps == 500:
        assert result.checkpoint == EXPECTED[kind]["checkpoint"]
        assert [metric.value for metric in result.metrics] == pytest.approx(EXPECTED[kind]["metrics"], abs=0.5)
    lines = (old_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [(line["kind"], line["step"], line["loss"]) for line in map(json.loads, lines)]
    for name, step, loss in EXPECTED[kind]["losses"]:
        if step <= steps:
            assert (name, step, pytest.approx(loss, rel=1e-3)) in losses


def test_the_command_of_an_old_run_keeps_its_defaults(old_run: Path) -> None:
    """The run has stored them; those of today, which the same command has, would be refused as other settings."""
    directory = RunDirectory(old_run)
    resumed = with_defaults_of_the_start(directory, load_config([]))
    assert (resumed.training.metric, resumed.tokenizer.sample_size) == ("bleu", 2_000_000)
    for metric in ("auto", "loss"):
        given = load_config([], [f"training.metric={metric}", "tokenizer.sample_size=500"])
        resumed = with_defaults_of_the_start(directory, given)
        assert (resumed.training.metric, resumed.tokenizer.sample_size) == (metric, 500)
    assert with_defaults_of_the_start(RunDirectory(Path("new")), load_config([])) == load_config([])
