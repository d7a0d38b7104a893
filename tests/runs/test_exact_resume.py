"""A run that was stopped and continued ends in the same bits as one that was not, whatever was switched on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.cli.conftest import checkpoint_of

from seq2seq.config import load_config
from seq2seq.errors import DataError
from seq2seq.runs.train import train
from seq2seq.signals import Interrupted
from seq2seq.training.metrics_log import RunReport

SIZE = ["model.hidden_size=16", "model.dropout=0.2", "model.word_dropout=0.1"]
# Each option that keeps a state of its own, or draws, is in one of the runs.
RUNS = {
    "transformer": [
        *(f"model.{key}" for key in ("ff_size=32", "encoder_layers=1", "decoder_layers=1")),
        "tokenizer.kind=bpe",
        "tokenizer.sampling=0.2",
        "training.r_drop=2",
        "training.ema_decay=0.9",
        "training.optimizer.kind=muon",
        "training.num_workers=2",
    ],
    "gru": ["model.kind=gru", "model.embedding_size=16", "training.optimizer.kind=schedule_free", "training.simcut=3"],
}
STEPS = 6

pytestmark = pytest.mark.usefixtures("default_signals")


def run(corpus: Path, folder: Path, overrides: list[str], stop_at: int | None, *, goes_on: bool = True) -> None:
    """Train; with `stop_at`, SIGTERM comes during that update, and the same command continues where it `goes_on`."""
    config = load_config(
        [],
        [
            f"data.train=[{{source: {corpus}/corpus.en, target: {corpus}/corpus.de}}]",
            "data.holdout=4",
            "data.cleaning.max_tokens=24",  # a recurrent model takes as many steps as its longest sentence
            "tokenizer.vocabulary_size=400",
            "training.batch_size=160",
            "training.accumulation_steps=2",
            f"training.max_steps={STEPS}",
            "training.validate_every=2",
            "training.log_every=2",
            "training.metric=loss",
            "training.average_checkpoints=1",
            "decoding.beam_size=1",
            "decoding.max_length_ratio=0.5",
            "devices=1",
            f"run_directory={folder}",
            *overrides,
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        advance, done = RunReport.advance, 0

        def interrupting(report: RunReport, max_steps: int) -> None:
            nonlocal done
            done += 1
            if done == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            advance(report, max_steps)

        patch.setattr(RunReport, "advance", interrupting)
        patch.setattr("seq2seq.optimization.precision.bf16_speedup", lambda: 2.0)
        if stop_at is not None:
            with pytest.raises(Interrupted):
                train(config)
            if not goes_on:
                return
            # On a busy machine, timed products may say something else another time.
            patch.setattr("seq2seq.optimization.precision.bf16_speedup", lambda: 0.5)
        torch.manual_seed(99)  # a new process has another random state
        train(config)


def last_state(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: weights, optimizer, averages, random state."""
    found: dict[str, torch.Tensor] = {}
    for name in ("model", "training"):
        tensors = safetensors.torch.load((checkpoint_of(folder, "last") / f"{name}.safetensors").read_bytes())
        found |= {f"{name}:{key}": tensor for key, tensor in tensors.items()}
    return found


@pytest.mark.parametrize(("name", "stop_at"), [("transformer", 3), ("gru", 5)])
def test_weights_and_optimizer_are_the_same_bits(name: str, stop_at: int, corpus: Path, tmp_path: Path) -> None:
    settings = [*SIZE, *RUNS[name]]
    run(corpus, tmp_path / "whole", settings, None)
    run(corpus, tmp_path / "parts", [*settings, "training.num_workers=0"], stop_at)
    whole, parts = last_state(tmp_path / "whole"), last_state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for tensor in whole:
        assert torch.equal(whole[tensor], parts[tensor]), tensor


def test_a_corpus_that_has_moved_is_the_same_corpus(corpus: Path, tmp_path: Path) -> None:
    """The names of its files were compared as settings, so that no run was resumed on a machine with other folders."""
    settings = [*SIZE, *RUNS["transformer"], "training.num_workers=0"]
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(corpus, before)
    run(before, tmp_path / "whole", settings, None)
    run(before, tmp_path / "parts", settings, 3, goes_on=False)
    before.rename(after)
    with pytest.raises(DataError, match="no such file") as gone:
        run(before, tmp_path / "parts", settings, None)
    assert "where the corpus has moved: data.train=" in str(gone.value.hint)
    run(after, tmp_path / "parts", settings, None)
    whole, parts = last_state(tmp_path / "whole"), last_state(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole.keys() | parts.keys())
    assert str(after) in (tmp_path / "parts" / "config.yaml").read_text(encoding="utf-8")
