"""Checkpoints are complete or absent, verified before use, and never pickled."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import seq2seq
from seq2seq.atomic_files import new_folder, remove_partial, write_bytes
from seq2seq.checkpoints.checkpoint import load_model_tensors, model_tensors
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.data.batch_plan import Cursor
from seq2seq.errors import CheckpointError
from tests.checkpoints.test_folder import save, tensors


def test_round_trip(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load_last() is None
    save(folder, 1)
    path = save(folder, 2)
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.path == path
    assert checkpoint.state == TrainState(step=2, cursor=Cursor(0, 0, 4), best_metric=0.5, validated=True)
    assert torch.equal(checkpoint.model["weight"], tensors(2)["weight"])
    assert torch.equal(checkpoint.training["rng|cpu"], torch.get_rng_state())
    assert (folder.path / "last").read_text() == "step-00000002\n"


def test_tied_weights_are_stored_once_and_restored_tied() -> None:
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "output": nn.Linear(4, 5, bias=False)})
        model["output"].weight = model["embedding"].weight
        return model

    first, second = tied(), tied()
    stored = model_tensors(first)
    assert list(stored) == ["embedding.weight"]
    load_model_tensors(second, stored, "test")
    assert second["output"].weight is second["embedding"].weight
    assert torch.equal(second["output"].weight, first["embedding"].weight)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match="extra"):
        load_model_tensors(model, {**model_tensors(model), "extra": torch.ones(1)}, "here")
    with pytest.raises(CheckpointError, match="shape"):
        load_model_tensors(model, {**model_tensors(model), "bias": torch.ones(3)}, "here")


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def interrupted() -> None:
        with new_folder(tmp_path / "folder") as folder:
            (folder / "half").write_bytes(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file"]
    (tmp_path / ".partial-file").write_bytes(b"ne")
    assert remove_partial(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.fault(24)
def test_no_pickle_in_the_source() -> None:
    source = Path(seq2seq.__file__).parent
    forbidden = re.compile(
        r"\b(pickle|dill|joblib|shelve|marshal)\.\w|import (pickle|dill|joblib|shelve|marshal)|trust_remote_code *="
        r"|(?<!safetensors\.)torch\.(load|save)\(|allow_pickle *= *True|\.from_pretrained\([^)]*\.bin"
    )
    assert [path for path in source.rglob("*.py") if forbidden.search(path.read_text(encoding="utf-8"))] == []


def test_two_processes_write_the_same_file(tmp_path: Path) -> None:
    """`seq2seq report` of a run in training once moved its half-written page into place, or failed."""
    path, half = tmp_path / "report.html", tmp_path / f".partial-pid{os.getppid()}-report.html"
    half.write_bytes(b"half")
    write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert remove_partial(tmp_path) == []  # the other one still writes
    assert half.read_bytes() == b"half"
    half.rename(half.with_name(".partial-pid999999999-report.html"))
    write_bytes(path, b"again")
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
