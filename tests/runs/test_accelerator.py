"""A whole run on an accelerator, by the simulated device: training, validation, search, scores and links."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.cli.conftest import TINY, builtin_pairs, run_command, train_tiny
from tests.parallel_text import write_pairs
from tests.simulated_device import needs_simulated_device, simulated

from seq2seq.training import trainer

__all__ = ["simulated"]
pytestmark = needs_simulated_device

SHORT = (
    "tokenizer.vocabulary_size=330",
    "training.max_steps=2",
    "training.validate_every=1",
    "training.schedule.warmup_steps=1",
    "data.holdout=2",
    "decoding.max_length_ratio=0.01",
    "decoding.max_length_offset=4",
)


@pytest.mark.parametrize("kind", TINY)
def test_every_command_on_an_accelerator(
    kind: str, tmp_path: Path, simulated: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, scores and links are those that the CPU finds with the same checkpoint."""
    monkeypatch.setattr(trainer, "_TIMED_STEPS", 1)
    write_pairs(tmp_path, builtin_pairs("demo", "train")[:60])
    pairs = [("The man sleeps .", "Der Mann schläft ."), ("The old woman drinks tea .", "Die alte Frau trinkt Tee .")]
    write_pairs(tmp_path, pairs, "few")
    run, few = tmp_path / "run", ("--source", tmp_path / "few.en", "--target", tmp_path / "few.de")
    trained = train_tiny(tmp_path, kind, run, *SHORT)
    assert trained.code == 0, trained.err
    assert "simulated:0 with" in trained.err
    commands = {
        "beam": ("translate", run, tmp_path / "few.en", "--n-best", 2, "--beam-size", 2, "--scores"),
        "score": ("score", run, *few),
        "align": ("align", run, *few),
    }
    for name, command in commands.items():
        there, here = run_command(*command), run_command(*command, "--device", "cpu")
        assert there.code == 0, there.err
        assert there.out == here.out, name
