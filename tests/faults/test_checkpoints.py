"""Damaged, missing, foreign and half-written checkpoints; disks that are full or fail for a moment."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from seq2seq.checkpoints.checkpoint import load_checkpoint
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.data.batch_plan import Cursor
from seq2seq.errors import CheckpointError, ResourceError, UserError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_config import load_run_config
from seq2seq.version import UPDATE
from tests.faults.conftest import Failpoint
from tests.training.test_trainer import Copying, make_trainer, tiny_model

FILES = ["model.safetensors", "training.safetensors", "state.json", "manifest.json"]


def save(folder: CheckpointFolder, step: int, *, validated: bool = True) -> Path:
    weights = {"weight": torch.full((4, 8), float(step)), "bias": torch.full((8,), -float(step))}
    state = TrainState(step=step, cursor=Cursor(0, 0, step, step), best_metric=1.5, best_step=step, validated=validated)
    return folder.save(weights, {"rng|cpu|0": torch.get_rng_state()[:64], "weight|exp_avg": torch.ones(4, 8)}, state)


@pytest.fixture
def two(tmp_path: Path) -> CheckpointFolder:
    """Checkpoints of steps 1 and 2."""
    folder = CheckpointFolder(tmp_path / "checkpoints")
    save(folder, 1)
    save(folder, 2)
    return folder


def uses_the_older_one(folder: CheckpointFolder, capsys: pytest.CaptureFixture[str]) -> str:
    """Load the last checkpoint, which must be step 1, and return what was said."""
    capsys.readouterr()
    checkpoint = folder.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 1
    assert float(checkpoint.model["weight"][0, 0]) == 1.0
    said = capsys.readouterr().err
    assert re.search(r"warning: step-00000002 is damaged \(.*\); using step-00000001", said), said
    return said


def cut(whole: bytes, dice: random.Random) -> Iterator[bytes]:
    for length in (0, len(whole) - 1, *(dice.randrange(len(whole)) for _ in range(6))):
        yield whole[:length]


def flip(whole: bytes, dice: random.Random) -> Iterator[bytes]:
    for _ in range(25):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        yield bytes(damaged)


@pytest.mark.fault(17, 18)
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_and_the_checkpoint_before_is_used(
    name: str,
    damage: Callable[[bytes, random.Random], Iterator[bytes]],
    two: CheckpointFolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A power failure or a full disk of a network drive cuts files; other tools load what is there or crash.

    safetensors alone loads 195 of 200 files with one flipped bit, silently; the manifest itself counts, too.
    """
    path = two.path / "step-00000002" / name
    for content in damage(path.read_bytes(), random.Random(1)):
        path.write_bytes(content)
        assert name in uses_the_older_one(two, capsys)


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_and_the_one_before_is_used(
    name: str, two: CheckpointFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint without its manifest used to be passed over in silence: a day of training was gone unnoticed."""
    (two.path / "step-00000002" / name).unlink()
    assert name in uses_the_older_one(two, capsys)


@pytest.mark.fault(20)
def test_all_damaged_lists_them_and_never_begins_anew(tmp_path: Path) -> None:
    """A run that silently began anew would overwrite what could still be rescued."""
    trainer = make_trainer(tmp_path, tiny_model("gru"))
    trainer.fit(Copying())
    for path in trainer.checkpoints.steps():
        (path / "model.safetensors").write_bytes(b"")
    before = {path: path.read_bytes() for path in trainer.checkpoints.path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be resumed from") as caught:
        make_trainer(tmp_path, tiny_model("gru")).fit(Copying())
    assert caught.value.exit_code == 5
    for path in trainer.checkpoints.steps():
        assert f"\n    {path.name} is damaged" in caught.value.what
    assert "another folder with -o" in (caught.value.hint or "")
    assert before == {path: path.read_bytes() for path in trainer.checkpoints.path.rglob("*") if path.is_file()}


@pytest.mark.fault(20)
def test_only_an_average_left_is_no_fresh_start(two: CheckpointFolder) -> None:
    """Somebody tidied up and left only the averaged model: training would have begun anew beside it."""
    (two.path / "step-00000001").rename(two.path / "averaged")
    shutil.rmtree(two.path / "step-00000002")
    with pytest.raises(CheckpointError, match="averaged is left over"):
        two.load_last()


@pytest.mark.fault(22)
def test_a_newer_format_says_which_version_wrote_it(two: CheckpointFolder) -> None:
    """An older program that took the checkpoint before would throw away what the newer one has done."""
    path = two.path / "step-00000002" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3, "seq2seq": "0.9.0"}))
    with pytest.raises(CheckpointError, match=r"made by seq2seq >= 0\.9\.0") as caught:
        two.load_last()
    assert (caught.value.exit_code, caught.value.hint) == (5, UPDATE)


class Canary:
    """Unpickling one writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", ["step-0003.pt", "pytorch_model.bin", "best", "last.pkl", "step-00000003/model.pt"])
def test_a_pickle_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    """A checkpoint from the web as .pt runs code when it is loaded; here nobody ever unpickles anything."""
    import pickle

    canary = tmp_path / "canary"
    path = tmp_path / "run" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(Canary(canary)))
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints")
    attempts = [folder.load_last, lambda: load_checkpoint(path, with_training=True)]
    if "/" not in name:
        attempts += [folder.load_best, lambda: load_run_config(RunDirectory(path))]
    for attempt in attempts:
        with pytest.raises(CheckpointError, match="unsafe format") as caught:
            attempt()
        assert caught.value.exit_code == 5
    assert not canary.exists()


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_place_of_a_file_is_damage(
    name: str, two: CheckpointFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same under an honest name."""
    import pickle

    (two.path / "step-00000002" / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    uses_the_older_one(two, capsys)
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(16)
def test_a_brief_input_output_error_is_met_with_three_tries(
    two: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, failpoint: Failpoint
) -> None:
    """A network disk that fails for a second ended runs of days."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    failpoint("write=eio@3-4,write.before_rename=eio@1,read=eio@1-2")
    save(two, 3)
    checkpoint = two.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 3
    failpoint("write=eio@2-4")
    with pytest.raises(ResourceError, match="Input/output error") as caught:
        save(two, 4)
    assert caught.value.exit_code == 7
    assert [path.name for path in sorted(two.path.iterdir()) if "4" in path.name] == []
    failpoint("")
    checkpoint = two.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 3


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "place", ["write", "write.half", "write.before_fsync", "write.before_rename", "folder.before_rename"]
)
def test_a_full_disk_names_the_room_and_keeps_what_was_saved(
    place: str, two: CheckpointFolder, failpoint: Failpoint
) -> None:
    """torch's own writer ends the process with std::terminate when the disk is full."""
    before = sorted(path.name for path in two.path.iterdir())
    failpoint(f"{place}=enospc@1-")
    with pytest.raises(ResourceError, match="No space left on device") as caught:
        save(two, 3)
    assert caught.value.exit_code == 7
    needed = "" if place.startswith("folder") else r"needed [\d.]+ [KM]iB, "  # a rename writes no bytes of ours
    assert re.match(rf"{needed}free [\d,.]+ [KMG]iB; ", caught.value.hint or "")
    failpoint("")
    assert sorted(path.name for path in two.path.iterdir()) == before
    checkpoint = two.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 2


@pytest.mark.fault(13)
def test_a_disk_that_will_be_full_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours into a run is late to hear of it; and where a checkpoint cannot fit, no byte of it is written."""
    monkeypatch.setattr("seq2seq.checkpoints.folder.free_bytes", lambda path: 1000)
    trainer = make_trainer(tmp_path, tiny_model("gru"), max_steps=1)
    trainer.fit(Copying())
    told = capsys.readouterr().err
    assert re.search(r"warning: checkpoints may need [\d.]+ [KM]iB more, and 1\.0 KiB are free", told)
    monkeypatch.undo()
    monkeypatch.setattr("seq2seq.atomic_files.free_bytes", lambda path: 100)
    with pytest.raises(ResourceError, match="No space left"):
        save(CheckpointFolder(tmp_path / "full"), 1)
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.fault(4)
def test_what_is_renamed_was_on_the_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power loss, a name may stand for an empty file unless its content was synchronised before the rename.

    scripts/chaos/write_order.py reads the order of a whole training from its system calls.
    """
    step, last = (tmp_path / "checkpoints" / name for name in ("step-00000001", "last"))
    synced: list[tuple[int, bool, bool]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, step.exists(), last.exists()))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", record)
    save(CheckpointFolder(step.parent), 1)
    folder = step.parent.stat().st_ino
    before = {file for file, has_step, _ in synced if not has_step}
    assert {step.stat().st_ino, *(file.stat().st_ino for file in step.iterdir())} <= before
    assert last.stat().st_ino in {file for file, _, has_last in synced if not has_last}
    # Each new name is on the disk before anything else is written.
    renamed = [entry for place, entry in enumerate(synced[1:]) if entry[1:] != synced[place][1:]]
    assert renamed == [(folder, True, False), (folder, True, True)]


@pytest.mark.fault(2)
def test_a_checkpoint_that_is_written_again_is_never_absent(
    two: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, failpoint: Failpoint
) -> None:
    """The last step is saved twice where a signal came at its end; a kill between removal and rename lost it."""
    failpoint("folder.replaced=stop_here")
    seen = []

    def interrupted(name: str) -> None:
        if name == "folder.replaced":
            seen.append(sorted(path.name for path in two.path.iterdir()))
            raise KeyboardInterrupt

    monkeypatch.setattr("seq2seq.atomic_files.reach", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(two, 2)
    assert ".replaced-step-00000002" in seen[0]
    two.clean()
    checkpoint = two.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 2
    assert not [path.name for path in two.path.iterdir() if path.name.startswith(".")]


@pytest.mark.fault(3)
def test_stopped_checkpoints_do_not_push_validated_ones_out(tmp_path: Path) -> None:
    """Ten signals in a row left ten checkpoints without validation; the mean was then of other weights."""
    folder = CheckpointFolder(tmp_path)
    for step in range(1, 5):
        save(folder, step)
    for step in range(5, 9):
        save(folder, step, validated=False)
        folder.prune(keep=3)
    assert [path.name[-1] for path in folder.validated()] == ["2", "3", "4"]
    assert [path.name[-1] for path in folder.steps()] == ["2", "3", "4", "7", "8"]


@pytest.mark.fault(17)
def test_the_step_that_was_damaged_is_made_again_and_kept(tmp_path: Path) -> None:
    """Trained once more from the one before, to the same bits; pruning must not take it for the damaged one."""
    first = make_trainer(tmp_path, tiny_model("gru", dropout=0.3), max_steps=8)
    first.fit(Copying())
    path = tmp_path / "checkpoints" / "step-00000008"
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-9])
    again = make_trainer(tmp_path, tiny_model("gru", dropout=0.3), max_steps=12)
    again.fit(Copying())
    assert (path / "model.safetensors").read_bytes() == whole
    assert [found.name[-2:] for found in again.checkpoints.steps()][-2:] == ["08", "12"]


@pytest.mark.fault(19)
def test_a_damaged_older_checkpoint_does_not_keep_a_run_from_its_end(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mean of checkpoints needs it: the same command would have failed with the same error for ever."""
    from seq2seq.config import load_config
    from seq2seq.runs.train import train

    data = f"data.train=[{{source: {corpus}/corpus.en, target: {corpus}/corpus.de}}]"
    settings = [data, "data.holdout=4", "tokenizer.vocabulary_size=400", "model.kind=gru"]
    settings += ["model.hidden_size=16", "model.embedding_size=16", "devices=1", f"run_directory={tmp_path / 'run'}"]
    settings += [f"training.{text}" for text in ("batch_size=160", "metric=loss", "max_steps=4", "validate_every=2")]
    config = load_config([], [*settings, "training.average_checkpoints=2"])
    train(config)
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors").unlink()
    assert train(config).steps == 4
    assert "warning: no average of the last 2 checkpoints" in capsys.readouterr().err


@pytest.mark.fault(2)
def test_best_and_last_are_put_right_after_a_kill_before_they_were_written(two: CheckpointFolder) -> None:
    """A kill after the save and before `best` moved left `best` at a worse model, for good if no better one came."""
    two.mark_best(two.path / "step-00000001")
    (two.path / "last").unlink()
    checkpoint = two.load_last()
    assert checkpoint is not None
    two.restore_marks(checkpoint)
    assert [(two.path / mark).read_text() for mark in ("best", "last")] == ["step-00000002\n"] * 2


@pytest.mark.fault(20)
def test_forged_states_are_no_traceback(two: CheckpointFolder) -> None:
    """Whoever edits a state and its checksums by hand gets an error, not a traceback hours later."""
    for key, value in [("step", "x"), ("cursor", [0, 0, "1", 2]), ("window", 3), ("seconds", None)]:
        data = TrainState().to_json() | {key: value}
        with pytest.raises(UserError):
            TrainState.from_json(json.loads(json.dumps(data)))
