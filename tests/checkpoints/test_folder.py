"""Which checkpoints stay, which one is the best, and which one a run goes on from."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seq2seq.checkpoints.checkpoint import load_checkpoint
from seq2seq.checkpoints.folder import MARKS, CheckpointFolder
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.data.batch_plan import Cursor
from seq2seq.errors import CheckpointError, ResourceError


def tensors(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), float(value)), "bias": torch.full((2,), -float(value))}


def save(folder: CheckpointFolder, step: int, *, training: bool = True, validated: bool = True) -> Path:
    extra = {"rng|cpu": torch.get_rng_state()} if training else {}
    state = TrainState(step=step, cursor=Cursor(0, 0, 2 * step), best_metric=0.5, validated=validated)
    return folder.save(tensors(step), extra, state)


def full_disk(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


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


def test_the_best_model_alone_can_be_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    folder.keep_best()
    assert len(folder.steps()) == 1, "nothing is removed before there is a best one"
    folder.mark_best(save(folder, 2))
    save(folder, 3)
    folder.keep_best()
    assert [path.name for path in folder.steps()] == ["step-00000002"]
    assert not (tmp_path / "step-00000002" / "training.safetensors").exists()
    assert folder.load_best().path.name == "step-00000002"
    assert folder.best() == (tmp_path / "step-00000002", "")


def test_what_cannot_be_pruned_does_not_keep_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk in pruning ended the run; one damaged manifest, and nothing was pruned any more: the disk filled."""
    folder = CheckpointFolder(tmp_path)
    for step in range(1, 7):
        save(folder, step)
    folder.mark_best(tmp_path / "step-00000001")
    (tmp_path / "step-00000001" / "manifest.json").write_text("{}")
    monkeypatch.setattr("os.fsync", full_disk)
    folder.prune(keep=3)
    assert [path.name[-1] for path in folder.steps()] == ["1", "4", "5", "6"]
    assert load_checkpoint(tmp_path / "step-00000004", with_training=True).training  # as it was
    monkeypatch.undo()
    folder.prune(keep=3)
    assert not load_checkpoint(tmp_path / "step-00000004", with_training=True).training
    warnings = capsys.readouterr().err
    assert warnings.count("warning: ") == warnings.count("old checkpoints cannot be removed: ") == 2


def test_a_mean_stays_the_best_until_a_step_is_better(tmp_path: Path) -> None:
    """Of a run that was prolonged, the first step above the old steps took the place of a mean that was better."""
    folder = CheckpointFolder(tmp_path)

    def save_scored(step: int, metric: float, name: str | None = None) -> Path:
        state = TrainState(step=step, best_metric=metric, best_step=step, validated=name is None)
        return folder.save(tensors(step), {"rng|cpu": torch.get_rng_state()}, state, name)

    folder.mark_best(save_scored(1, 38.0))
    folder.mark_best(save_scored(1, 40.0, "averaged"))
    for step, metric, best in [(2, 39.0, "averaged"), (3, 41.0, "step-00000003")]:
        path = save_scored(step, metric)
        folder.restore_marks(load_checkpoint(path, with_training=False))  # as after a kill before `best` moved
        assert folder.load_best().path.name == best
        folder.mark_best(path)
        assert folder.load_best().path.name == best
    folder.mark_best(save_scored(3, 42.0, "averaged"))
    assert folder.load_best().path.name == "averaged"


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    model = save(folder, 2) / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1
    assert "step-00000002 is damaged" in capsys.readouterr().err


def scored(folder: CheckpointFolder, metrics: list[float]) -> None:
    """One checkpoint for each metric, marked as training does."""
    state = TrainState()
    for step, metric in enumerate(metrics, start=1):
        state.step, state.validated = step, True
        improved = state.judge(metric, 1.0)
        path = folder.save(tensors(step), {"rng|cpu": torch.get_rng_state()}, state)
        if improved:
            folder.mark_best(path)


@pytest.mark.fault(54)
@pytest.mark.parametrize("ending", [None, "", "\r\n"])
def test_a_copy_without_names_is_used_and_resumed(
    ending: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy without `best` and `last` did not translate, or went on from a worse best model."""
    scored(CheckpointFolder(tmp_path), [0.1, 0.9, 0.3])
    for path in (tmp_path / mark for mark in MARKS):
        if ending is None:
            path.unlink()
        else:
            path.write_bytes((path.read_text().strip() + ending).encode())
    folder = CheckpointFolder(tmp_path)
    assert torch.equal(folder.load_best().model["weight"], tensors(2)["weight"])
    warned = "best is missing or damaged; the records of the run name step-00000002" in capsys.readouterr().err
    assert warned == (ending is None)
    folder.clean()
    last = folder.load_last()
    assert last is not None
    assert (last.state.step, last.state.best_step) == (3, 2)
    folder.restore_marks(last)
    folder.prune(keep=1)
    assert [(tmp_path / mark).read_text().strip() for mark in MARKS] == ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*MARKS, "step-00000002", "step-00000003"]
    assert folder.load_best().path.name == "step-00000002"
    assert "warning" not in capsys.readouterr().err


@pytest.mark.fault(53)
@pytest.mark.parametrize("damage", ["model.safetensors", "state.json", "manifest.json", "", "averaged"])
def test_a_damaged_best_is_found_before_training_goes_on(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run trained to its end, and the score of the test set failed at the damaged model."""
    folder = CheckpointFolder(tmp_path)
    scored(folder, [0.5, 0.9, 0.6, 0.4])
    best, expected = tmp_path / "step-00000002", ("step-00000003", 3, 0.6)
    if damage == "averaged":
        best = folder.save(tensors(9), {}, TrainState(step=4, best_metric=1.0, best_step=2), "averaged")
        folder.mark_best(best)
        damage, expected = "model.safetensors", ("step-00000002", 2, 0.9)
    if damage:
        content = (best / damage).read_bytes()
        (best / damage).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        shutil.rmtree(best)
    folder = CheckpointFolder(tmp_path)
    folder.clean()
    last = folder.load_last()
    said = capsys.readouterr().err
    assert said.count("warning: the best model is lost: ") == 1
    assert str(best) in said
    assert last is not None
    folder.restore_marks(last)
    assert (folder.load_best().path.name, last.state.best_step, last.state.best_metric) == expected


def test_the_name_in_best_cannot_lead_elsewhere(tmp_path: Path) -> None:
    """A run from a stranger names whatever it likes."""
    folder = CheckpointFolder(tmp_path / "checkpoints")
    scored(folder, [0.5, 0.4])
    scored(CheckpointFolder(tmp_path / "other"), [0.5])
    for name in ("../other/step-00000001", str(tmp_path), "..", ".", "", "best", "x" * 10_000, "é" * 99, "\0"):
        (folder.path / "best").write_text(name)
        assert folder.name_of("best") is folder.find(name) is None
        assert folder.load_best().path == folder.path / "step-00000001"


def test_all_damaged_is_an_error_and_never_a_silent_restart(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        (save(folder, step) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="resumed") as caught:
        folder.load_last()
    assert caught.value.exit_code == 5
    assert len(folder.steps()) == 2


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


def test_an_interrupted_pruning_leaves_nothing_behind(tmp_path: Path) -> None:
    """A second Ctrl-C while an older checkpoint forgot its optimizer state left half a manifest for good."""
    folder = CheckpointFolder(tmp_path)
    half = save(folder, 1) / ".partial-manifest.json"
    half.write_text("{")
    folder.clean()
    assert not half.exists()
    assert load_checkpoint(tmp_path / "step-00000001", with_training=True).training


def test_average_is_the_mean(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    mean = folder.average([save(folder, step) for step in (1, 2, 6)])
    torch.testing.assert_close(mean, tensors(3))


def test_a_full_disk_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ResourceError, match="No space left") as caught:
        save(folder, 2)
    assert "free" in (caught.value.hint or "")
    monkeypatch.undo()
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1


def test_a_loss_that_is_no_number_does_not_stay_the_best() -> None:
    """With a metric that cannot move, such as a BLEU of 0, no later model was better than it."""
    state = TrainState()
    assert state.judge(0.0, math.nan)
    assert state.judge(0.0, 5.0)
    assert not state.judge(0.0, math.nan)
