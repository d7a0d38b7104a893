"""Checkpoints are complete or absent, verified before use, and never pickled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import seq2seq
from seq2seq.data.batching import Cursor
from seq2seq.errors import CheckpointError, ResourceError
from seq2seq.files import new_folder, remove_partial, write_bytes
from seq2seq.training.checkpoint import (
    CheckpointFolder,
    load_checkpoint,
    load_model_tensors,
    model_tensors,
)
from seq2seq.training.state import TrainState


def tensors(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), float(value)), "bias": torch.full((2,), -float(value))}


def save(folder: CheckpointFolder, step: int, *, training: bool = True, validated: bool = True) -> Path:
    extra = {"rng|cpu": torch.get_rng_state()} if training else {}
    state = TrainState(step=step, cursor=Cursor(0, 0, 2 * step), best_metric=0.5, validated=validated)
    return folder.save(tensors(step), extra, state)


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
    assert (folder.path / "last").resolve() == path.resolve()


def test_pruning_keeps_the_best_the_newest_and_two_optimizer_states(tmp_path: Path) -> None:
    """OpenNMT-py keeps the last N only and can lose its best model."""
    folder = CheckpointFolder(tmp_path)
    folder.mark_best(save(folder, 1))
    for step in range(2, 8):
        save(folder, step)
        folder.prune(keep=3)
    assert [int(path.name.removeprefix("step-")) for path in folder.steps()] == [1, 5, 6, 7]
    with_training = [path.name for path in folder.steps() if (path / "training.safetensors").exists()]
    assert with_training == ["step-00000006", "step-00000007"]
    assert load_checkpoint(tmp_path / "step-00000001", with_training=True).training == {}
    assert folder.load_best().path.name == "step-00000001"


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    model = save(folder, 2) / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1
    assert "step-00000002 is damaged" in capsys.readouterr().err


def test_without_its_best_and_last_a_folder_names_what_it_has(tmp_path: Path) -> None:
    """Who deleted the newest checkpoint to save room was told to train first."""
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        save(folder, step)
    for link in ("best", "last"):
        (tmp_path / link).unlink(missing_ok=True)
    with pytest.raises(CheckpointError) as error:
        folder.load_best()
    assert error.value.hint == f"--checkpoint {folder.steps()[-1].name}"


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "manifest.json"])
def test_every_flipped_bit_is_seen(tmp_path: Path, name: str) -> None:
    """safetensors alone loads most files with one flipped bit, silently; hence the SHA-256."""
    path = save(CheckpointFolder(tmp_path), 1)
    content = bytearray((path / name).read_bytes())
    for position in range(0, len(content), max(1, len(content) // 40)):
        content[position] ^= 1
        (path / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(path, with_training=True)
        content[position] ^= 1


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = save(CheckpointFolder(tmp_path), 1)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path, with_training=True)


def test_all_damaged_is_an_error_and_never_a_silent_restart(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        (save(folder, step) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="resumed") as caught:
        folder.load_last()
    assert caught.value.exit_code == 5
    assert len(folder.steps()) == 2


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = save(CheckpointFolder(tmp_path), 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99, "seq2seq": "9.8"}))
    with pytest.raises(CheckpointError, match=r"made by seq2seq >= 9\.8") as caught:
        load_checkpoint(path, with_training=True)
    assert (caught.value.exit_code, caught.value.hint) == (5, "pip install -U seq2seq")
    save(CheckpointFolder(tmp_path), 0)
    with pytest.raises(CheckpointError, match=r"9\.8"):  # nor is an older one taken instead: work would be lost
        CheckpointFolder(tmp_path).load_last()


def test_an_interrupted_save_leaves_the_old_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    (tmp_path / ".partial-step-00000002").mkdir()
    (tmp_path / ".partial-step-00000002" / "model.safetensors").write_bytes(b"half")
    folder.clean()
    assert "unfinished save of step-00000002" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".partial")] == []
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1


def test_average_is_the_mean(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    mean = folder.average([save(folder, step) for step in (1, 2, 6)])
    torch.testing.assert_close(mean, tensors(3))


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


def test_a_full_disk_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left") as caught:
        save(folder, 2)
    assert "free" in (caught.value.hint or "")
    monkeypatch.undo()
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1


@pytest.mark.fault(24)
def test_no_pickle_in_the_source() -> None:
    source = Path(seq2seq.__file__).parent
    forbidden = re.compile(
        r"\b(pickle|dill|joblib|shelve|marshal)\.\w|import (pickle|dill|joblib|shelve|marshal)|trust_remote_code *="
        r"|(?<!safetensors\.)torch\.(load|save)\(|allow_pickle *= *True|\.from_pretrained\([^)]*\.bin"
    )
    assert [path for path in source.rglob("*.py") if forbidden.search(path.read_text(encoding="utf-8"))] == []
