"""The same loop on a CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seq2seq.data.batches import collate
from seq2seq.devices import choose_device
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision, choose_precision
from tests.training.test_trainer import MODELS, Copying, make_trainer, pairs, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("kind", MODELS)
def test_loss_equals_that_of_the_cpu(kind: str) -> None:
    rows = pairs(16, 1)
    batch = collate([source for source, _ in rows], [target for _, target in rows])
    model = tiny_model(kind)
    losses = []
    for device in ("cpu", "cuda"):
        model.to(device)
        there = batch.to(device)
        summed = summed_loss(model.output, model(there.source, there.target_in), there.target_out)
        losses.append(float(summed.loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("wanted", ["bf16", "fp16"])
def test_mixed_precision_learns_and_resumes(kind: str, wanted: str, tmp_path: Path) -> None:
    device = choose_device("auto")
    trainer = make_trainer(tmp_path, tiny_model(kind).to(device), max_steps=60, optimizer={"learning_rate": 1e-2})
    trainer.precision = Precision(choose_precision(wanted, device), device)  # type: ignore[arg-type]
    assert trainer.fit(Copying()).step == 60
    again = make_trainer(tmp_path, tiny_model(kind).to(device), max_steps=64)
    again.precision = trainer.precision
    assert again.fit(Copying()).step == 64
