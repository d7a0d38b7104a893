"""`seq2seq.load` offers what the command offers: checkpoint, precision, workers, ensemble, engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import seq2seq
from seq2seq.errors import CheckpointError, ConfigError, UsageError

OLD_RUNS = Path(__file__).parent / "old_runs"
LINES = (OLD_RUNS / "corpus.en").read_text(encoding="utf-8").splitlines()[:12]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD_RUNS / "runs" / "transformer", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def test_the_named_checkpoint_is_loaded(run: Path) -> None:
    assert seq2seq.load(run).checkpoint == "step-00000250"
    assert seq2seq.load(run, checkpoint="last").checkpoint == "step-00000401"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        seq2seq.load(run, checkpoint="step-7")


def test_workers_and_threads_do_not_change_the_output(run: Path) -> None:
    alone = seq2seq.load(run, threads=1, workers=1).translate(LINES)
    assert seq2seq.load(run, threads=1, workers=2).translate(LINES) == alone
    assert seq2seq.load(run, threads=2).translate(LINES) == alone


def test_an_ensemble_of_a_model_with_itself_is_the_model(run: Path) -> None:
    alone = seq2seq.load(run, precision="fp32").translate(LINES)
    assert seq2seq.load(run, ensemble=[run], precision="fp32").translate(LINES) == alone


def test_what_is_not_there_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="is not a device"):
        seq2seq.load(run, device="abacus")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        seq2seq.load(run, device="cpu", precision="fp16")
    with pytest.raises((CheckpointError, UsageError), match="export"):
        seq2seq.load(run, engine="ctranslate2")


def test_attention_is_a_distribution_over_the_source(run: Path) -> None:
    matrix = seq2seq.load(run).attention(LINES[0])
    assert matrix.weights.sum(dim=1).tolist() == pytest.approx([1.0] * len(matrix.target_pieces), abs=1e-4)


def test_states_and_scores(run: Path) -> None:
    loaded = seq2seq.load(run)
    states, mask = loaded.encode(LINES)
    assert states.shape[:2] == mask.shape
    assert all(score < 0.0 for score in loaded.score([(line, line) for line in LINES]))
    assert json.loads(json.dumps(loaded.translate(LINES))) == loaded.translate(LINES)
