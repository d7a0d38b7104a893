"""A run that was stopped and continued ends in the same bits as one that was not, whatever was switched on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import checkpoint_of

from seq2seq.config import load_config
from seq2seq.runs.train import train
from seq2seq.signals import Interrupted
from seq2seq.training.report import RunReport

MODELS = {
    "transformer": ["model.hidden_size=16", "model.ff_size=32", "model.encoder_layers=1", "model.decoder_layers=1"],
    "gru": ["model.kind=gru", "model.hidden_size=16", "model.embedding_size=16"],
}
STEPS = 9

pytestmark = pytest.mark.usefixtures("default_signals")


@pytest.fixture(autouse=True)
def small_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path_factory.getbasetemp() / "resume-cache"))


def run(corpus: Path, folder: Path, overrides: list[str], stop_at: int | None) -> None:
    """Train; with `stop_at`, SIGTERM comes during that update, and the same command continues."""
    config = load_config(
        [],
        [
            f"data.train=[{{source: {corpus}/corpus.en, target: {corpus}/corpus.de}}]",
            "data.holdout=8",
            "tokenizer.vocabulary_size=400",
            "training.batch_size=160",
            "training.accumulation_steps=2",
            f"training.max_steps={STEPS}",
            "training.validate_every=4",
            "training.log_every=2",
            "training.metric=loss",
            "training.average_checkpoints=1",
            "decoding.beam_size=1",
            "devices=1",
            f"run_directory={folder}",
            *overrides,
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        advance, done = RunReport.advance, 0

        def interrupting(report: RunReport) -> None:
            nonlocal done
            done += 1
            if done == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            advance(report)

        patch.setattr(RunReport, "advance", interrupting)
        if stop_at is not None:
            with pytest.raises(Interrupted):
                train(config)
        torch.manual_seed(99)  # a new process has another random state
        train(config)


def last_state(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: weights, optimizer, averages, random state."""
    found: dict[str, torch.Tensor] = {}
    for name in ("model", "training"):
        tensors = safetensors.torch.load((checkpoint_of(folder, "last") / f"{name}.safetensors").read_bytes())
        found |= {f"{name}:{key}": tensor for key, tensor in tensors.items()}
    return found


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    stop_at=st.integers(1, STEPS - 1),
    workers=st.sampled_from([0, 2]),
    sampling=st.sampled_from([0.0, 0.2]),
    tokenizer=st.sampled_from(["unigram", "bpe"]),
    r_drop=st.sampled_from([0.0, 2.0]),
    average=st.sampled_from(["ema", "schedule_free", "muon", "adafactor", "none"]),
    word_dropout=st.sampled_from([0.0, 0.1]),
)
def test_weights_and_optimizer_are_the_same_bits(
    kind: str,
    corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
    stop_at: int,
    workers: int,
    sampling: float,
    tokenizer: str,
    r_drop: float,
    average: str,
    word_dropout: float,
) -> None:
    overrides = [
        *MODELS[kind],
        "model.dropout=0.2",
        f"model.word_dropout={word_dropout}",
        f"tokenizer.kind={tokenizer}",
        f"tokenizer.sampling={sampling}",
        f"training.r_drop={r_drop}",
        f"training.num_workers={workers}",
    ]
    if average == "ema":
        overrides.append("training.ema_decay=0.9")
    elif average != "none":
        overrides.append(f"training.optimizer.kind={average}")
    folder = tmp_path_factory.mktemp("resume")
    run(corpus, folder / "whole", overrides, None)
    run(corpus, folder / "parts", [*overrides, f"training.num_workers={2 - workers}"], stop_at)
    whole, parts = last_state(folder / "whole"), last_state(folder / "parts")
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name
