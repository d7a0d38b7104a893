"""Training that diverges or runs out of memory, logs that cannot be written, places that cannot be used."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch

from seq2seq import system as host_memory
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.config import TrainingSettings, load_config
from seq2seq.data.batches import Batch
from seq2seq.errors import ConfigError, DivergenceError, ResourceError, UsageError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_config import config_changes, save_run_config
from seq2seq.runs.train import _opened
from seq2seq.training.failures import DivergenceWatch, out_of_memory_error
from seq2seq.training.metrics_log import Report
from tests.faults.conftest import Failpoint
from tests.run_reports import bare_report
from tests.training.test_trainer import Copying, batch_of, make_trainer, pairs, tiny_model, weights


@pytest.mark.fault(26)
def test_a_gradient_that_is_no_number_takes_no_update(tmp_path: Path, failpoint: Failpoint) -> None:
    """One NaN makes every weight NaN at the next step; hours later somebody sees a BLEU of 0."""
    trainer = make_trainer(tmp_path, tiny_model("gru"), max_steps=100)

    def texts(batch: Batch) -> list[tuple[str, str]]:
        return [("source", "target")] * len(batch.source)

    trainer._open_report = partial(bare_report, tmp_path, texts=texts)
    failpoint("step.loss=nan@7")
    with pytest.raises(
        DivergenceError, match=r"diverged at step 7: loss [\d.]+ per token, gradient norm nan"
    ) as caught:
        trainer.fit(Copying())
    error = caught.value
    assert error.exit_code == 6
    assert "learning rate" in error.what
    assert "no update was taken" in error.what
    assert "best model is that of step 4" in error.what
    assert str(tmp_path / "diverged.json") in (error.where or "")
    assert re.search(r"epoch 2, pool 1, batch 1\b", error.where or "")
    assert "training.optimizer.learning_rate=" in (error.hint or "")
    details = json.loads((tmp_path / "diverged.json").read_text())
    assert (details["step"], details["gradient_norm"], len(details["pairs"])) == (7, "nan", 8)
    assert all(tensor.isfinite().all() for tensor in weights(trainer.model))
    checkpoint = trainer.checkpoints.load_last()
    assert checkpoint is not None
    assert checkpoint.state.step == 4


@pytest.mark.fault(26)
def test_an_overflow_of_fp16_is_skipped_only(tmp_path: Path) -> None:
    """The scale of fp16 is meant to overflow now and then: that is no divergence."""
    for skips in (True, False):
        watch = DivergenceWatch(TrainingSettings(), TrainState(), Report(), skips_overflows=skips, vocabulary=20)
        with nullcontext() if skips else pytest.raises(DivergenceError):
            watch.check_update(math.inf, math.nan, 0.1, ())


@pytest.mark.fault(27)
@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_learning_rate_of_100_is_told_with_figures(kind: str, tmp_path: Path) -> None:
    """Such a loss may stay finite for ever: without a look at its size the run goes on to the last step."""
    settings = {"optimizer": {"learning_rate": 100.0}, "schedule": {"warmup_steps": 1}, "validate_every": 1}
    trainer = make_trainer(tmp_path, tiny_model(kind), max_steps=300, **settings)
    with pytest.raises(DivergenceError, match=r"diverged at step \d+: loss .* per token") as caught:
        trainer.fit(Copying())
    assert caught.value.exit_code == 6
    assert "learning_rate=" in (caught.value.hint or "")
    checkpoint = trainer.checkpoints.load_last()
    assert checkpoint is not None
    assert all(tensor.isfinite().all() for tensor in checkpoint.model.values())


@pytest.mark.fault(28)
@pytest.mark.parametrize("times", ["2", "5"])
def test_out_of_memory_names_the_batch_and_a_smaller_one(
    times: str, tmp_path: Path, failpoint: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is the rehearsal of the largest batch, which follows a first update; the other comes later."""
    monkeypatch.setattr("seq2seq.training.trainer.free_memory", lambda device: 1 << 60 if times == "5" else 0)
    trainer = make_trainer(tmp_path, tiny_model("transformer"), batch_size=4096, accumulation_steps=2)
    failpoint(f"step.loss=oom@{times}")
    with pytest.raises(
        ResourceError, match=r"out of memory on cpu .*8 pairs, [\d,]+ source and [\d,]+ target tokens"
    ) as caught:
        trainer.fit(Copying())
    assert caught.value.exit_code == 7
    assert "training.batch_size=2048 training.accumulation_steps=4" in (caught.value.hint or "")
    if times == "2":
        assert "largest batch" in caught.value.what
    else:
        assert "the last checkpoint is kept" in caught.value.what


@pytest.mark.fault(29)
def test_a_host_out_of_memory_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failpoint: Failpoint
) -> None:
    """torch says `DefaultCPUAllocator: can't allocate memory` in a plain RuntimeError, Python MemoryError."""
    trainer = make_trainer(tmp_path, tiny_model("gru"))
    failpoint("step.loss=memory@3")
    with pytest.raises(ResourceError, match="out of memory on cpu at step 3"):
        trainer.fit(Copying())
    failpoint("")

    def full(*arguments: object, **options: object) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr("seq2seq.training.trainer.train_step", full)
    with pytest.raises(ResourceError, match="out of memory on cpu") as caught:
        trainer.fit(Copying())
    assert caught.value.exit_code == 7


LOADER = "libtorch_cpu.so: failed to map segment from shared object"


@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("library", "error", "what"),
    [
        ("typer", "MemoryError()", "out of memory"),
        ("torch", f"OSError('{LOADER}: Cannot allocate memory')", f"out of memory: {LOADER}: Cannot allocate memory"),
    ],
)
def test_a_host_too_small_for_the_imports(library: str, error: str, what: str, tmp_path: Path) -> None:
    """`ulimit -v 1000000; seq2seq train` was called a bug of ours, with a crash report."""
    code = "import sys\nclass Small:\n  def find_spec(self, name, *_):\n"
    code += f"    if name == '{library}': raise {error}\n"
    code += "sys.meta_path.insert(0, Small())\nsys.argv[1:] = ['translate', 'nowhere']\n"
    code += "from seq2seq.__main__ import run\nrun()"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (7, ""), done.stderr
    assert done.stderr.splitlines()[0] == f"error: {what}  [memory.host]"
    assert done.stderr.splitlines()[1:] == [f"  hint: {host_memory.OUT_OF_MEMORY_HINT}"]
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(29)
@pytest.mark.parametrize("mebibytes", [200])  # with more, torch itself may abort
def test_a_limit_below_what_torch_needs(mebibytes: int) -> None:
    """The same by a real limit: whatever fails first, and however the libraries wrap it."""
    resource = pytest.importorskip("resource")
    limit = mebibytes << 20
    done = subprocess.run(
        [sys.executable, "-m", "seq2seq", "translate", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "[memory.host]" in done.stderr


def test_what_the_loader_says_of_other_causes_is_no_lack_of_memory() -> None:
    """It "cannot allocate memory in static TLS block" for a library that is loaded too late, on any machine."""
    late = ImportError("libgomp.so.1: cannot allocate memory in static TLS block")
    barred = ImportError("a.so: failed to map segment from shared object: Operation not permitted")
    for error in (late, barred, ValueError("cannot allocate memory"), KeyError("x")):
        assert host_memory.what_ran_out(error) is None
    wrapped = RuntimeError("numpy could not be imported")
    wrapped.__cause__ = ImportError(LOADER)
    assert host_memory.what_ran_out(wrapped) == f"out of memory: {LOADER}"


@pytest.mark.fault(14)
def test_a_full_disk_in_the_logs_is_told_once(
    tmp_path: Path, failpoint: Failpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """The curves are not worth a run."""
    failpoint("report.write=enospc@2-")
    assert make_trainer(tmp_path, tiny_model("gru")).fit(Copying()).step == 12
    assert capsys.readouterr().err.count("No space left on device; training continues") == 1


@pytest.mark.fault(14)
def test_a_full_disk_under_train_log_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left in the file's buffer used to raise once more when the file was closed, at the end of a good run."""
    from seq2seq.console import logging_to, say

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with logging_to(full):
        say("one")
        say("two")
    with logging_to(tmp_path / "no" / "folder"):
        say("three")
    said = capsys.readouterr().err
    assert said.count("cannot write the log: No space left on device") == 1
    assert said.count("cannot write the log: No such file or directory") == 1
    assert [line for line in said.split("\n") if line in ("one", "two", "three")] == ["one", "two", "three"]


@pytest.mark.fault(15)
@pytest.mark.parametrize("place", ["/proc/run", "/dev/null/run"])
def test_a_place_that_cannot_be_written_is_told_before_training(place: str) -> None:
    """Rather than at the first checkpoint."""
    with pytest.raises(UsageError, match=f"cannot write to {place}: ") as caught:
        RunDirectory(Path(place)).create()
    assert (caught.value.exit_code, caught.value.hint) == (2, "choose another with -o")


@pytest.mark.fault(15)
@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounts, as root")
def test_a_run_on_a_read_only_disk_is_told_before_training(tmp_path: Path) -> None:
    """A run that was copied to a read-only disk cannot be continued there."""
    code = "from seq2seq.runs.directory import RunDirectory; from seq2seq.runs.lock import locked\n"
    code += "import sys; from pathlib import Path\n"
    code += "d = RunDirectory(Path(sys.argv[1])); d.create()\nwith locked(d.path): pass"
    (tmp_path / "run" / "validation").mkdir(parents=True)
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} || exit 77"
    script = f'{mount}; exec "{sys.executable}" -c "$0" {tmp_path / "run"}'
    done = subprocess.run(["unshare", "-m", "bash", "-c", script, code], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("may not mount")
    assert "UsageError: cannot write" in done.stderr
    assert "Read-only file system" in done.stderr


@pytest.mark.fault(13)
@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounts, as root")
@pytest.mark.parametrize(
    "write",
    [
        "from seq2seq.runs.lock import locked\nwith locked(disk): pass",
        "from seq2seq.resumable_output import open_output\nfrom seq2seq.decoding.text_batches import Line\n"
        "with open_output(disk / 'out.de', {}) as out: out.write('eins\\n', [Line('one')], {})",
    ],
)
def test_a_full_disk_is_named(write: str, tmp_path: Path) -> None:
    """The rest of the buffer was written once more when the file was closed, with an error that named no path."""
    code = f"import sys; from pathlib import Path; disk = Path(sys.argv[1])\n{write}"
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && (head -c 1M /dev/zero > {tmp_path}/fill; true) || exit 77"
    script = f'{mount} 2> /dev/null; exec "{sys.executable}" -c "$0" {tmp_path}'
    done = subprocess.run(["unshare", "-m", "bash", "-c", script, code], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("may not mount")
    assert f"ResourceError: cannot write {tmp_path}" in done.stderr
    assert "free 0.0 KiB; free some space" in done.stderr
    assert "OSError" not in done.stderr


@pytest.mark.fault(21)
def test_every_changed_key_is_told_one_by_one(tmp_path: Path) -> None:
    """A run continued with another learning rate or vocabulary is neither the old nor the new experiment."""
    before = load_config([], ["data.train=[{builtin: demo}]", f"run_directory={tmp_path}"])
    directory = RunDirectory(tmp_path)
    directory.create()
    save_run_config(directory, before, {})
    kept = directory.config.read_bytes()
    edits = {
        "seed": ("1", "2"),
        "model.dropout": ("0.1", "0.4"),
        "training.optimizer.learning_rate": ("0.0005", "0.01"),
        "training.batch_size": ("4096", "512"),
        "tokenizer.vocabulary_size": ("8000", "400"),
        "data.cleaning.max_tokens": ("256", "99"),
    }
    for key, (_, new) in edits.items():
        with pytest.raises(ConfigError, match=re.escape(f"{key}: ")) as caught:
            save_run_config(directory, load_config([directory.config], [f"{key}={new}"]), {})
        assert f"-> {new}" in caught.value.what
        assert caught.value.exit_code == 2
    after = load_config([directory.config], [f"{key}={new}" for key, (_, new) in edits.items()])
    assert {change.split(":")[0] for change in config_changes(before, after)} == set(edits)
    assert directory.config.read_bytes() == kept
    allowed = ["training.max_steps=77", "devices=2", "decoding.beam_size=9"]
    save_run_config(directory, load_config([directory.config], allowed), {})


@pytest.mark.fault(26)
def test_one_skipped_overflow_of_fp16_in_a_log_line_is_no_divergence(tmp_path: Path) -> None:
    """The mean of its line is no number either; a second such line means that nothing is learned any more."""
    watch = DivergenceWatch(TrainingSettings(), TrainState(), Report(), skips_overflows=True, vocabulary=20)
    watch.check_mean(math.nan, math.nan, math.inf, 0.1)
    watch.check_mean(2.0, 2.0, 1.0, 0.1)
    watch.check_mean(math.nan, math.nan, math.inf, 0.1)
    with pytest.raises(DivergenceError):
        watch.check_mean(math.nan, math.nan, math.inf, 0.1)


@pytest.mark.fault(28)
def test_a_batch_size_that_was_fitted_is_halved_too() -> None:
    """`training.batch_size=auto` was advised to a run that had it, with the same batch."""
    batch = batch_of(pairs(8, 0))
    settings = TrainingSettings.model_validate({"batch_size": "auto"})
    error = out_of_memory_error(settings, torch.device("cpu"), "at step 3", [batch], ranks=2, is_saved=True)
    size = 2 * 8 * max(batch.source.shape[1], batch.target_in.shape[1])
    assert f"training.batch_size={size // 2} training.accumulation_steps=2, in another folder" in (error.hint or "")


@pytest.mark.parametrize("kept", ["diverged.json", "metrics.jsonl", "checkpoints", None])
def test_a_run_that_fails_keeps_its_figures(kept: str | None, tmp_path: Path) -> None:
    """One that failed before its first checkpoint was removed whole, with the file that the error named."""
    directory = RunDirectory(tmp_path / "run")
    config = load_config([], ["data.train=[{builtin: demo}]"])

    def diverge() -> None:
        with _opened(directory, config, {}):
            if kept is not None:
                (directory.path / kept).mkdir()
            raise DivergenceError("it diverged")

    with pytest.raises(DivergenceError):
        diverge()
    assert directory.path.exists() == (kept is not None)
