"""Runs that are killed, told to stop, started twice, or lose one of their processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import Config, load_config
from seq2seq.errors import UsageError, WorkerError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.lock import locked
from seq2seq.runs.train import train
from seq2seq.signals import Interrupted, StopRequest, interruptible
from seq2seq.training.metrics_log import RunReport, Validation
from tests.children import Child, command, is_gone, terminal
from tests.cli import conftest
from tests.cli.conftest import checkpoint_of
from tests.training.test_trainer import Copying, make_trainer, tiny_model, weights

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc"),
    pytest.mark.usefixtures("default_signals"),
]
GRU, TRANSFORMER = conftest.TINY["gru"], conftest.TINY["transformer"]


def training(corpus: Path, folder: Path, *settings: str) -> list[object]:
    """Arguments of `seq2seq train` on the corpus: dropout, accumulation, sampled subwords and loader processes."""
    files = ("--source", corpus / "corpus.en", "--target", corpus / "corpus.de", "-o", folder)
    return ["train", *files, *SETTINGS, *settings]


SETTINGS = [
    "devices=1",
    "data.holdout=4",
    "data.cleaning.max_tokens=24",  # a recurrent model takes as many steps as its longest sentence
    "tokenizer.vocabulary_size=400",
    "tokenizer.sampling=0.2",
    "model.dropout=0.2",
    "training.batch_size=256",
    "training.accumulation_steps=2",
    "training.average_checkpoints=2",
    "training.max_steps=8",
    "training.validate_every=2",
    "training.log_every=1",
    "training.metric=loss",
    "training.precision=fp32",
    "training.num_workers=2",
    "training.schedule.warmup_steps=2",
    "decoding.beam_size=1",
    "decoding.max_length_ratio=0.2",
    "decoding.max_length_offset=3",
]


def tiny_config(corpus: Path, folder: Path, *settings: str) -> Config:
    """The same for training in this process, without loader processes."""
    data = f"data.train=[{{source: {corpus}/corpus.en, target: {corpus}/corpus.de}}]"
    return load_config([], [data, *SETTINGS, *GRU, "training.num_workers=0", *settings, f"run_directory={folder}"])


class Interruptions:
    """One training that is interrupted again and again, beside one that is not."""

    def __init__(self, corpus: Path, folder: Path, *settings: str) -> None:
        self.folder, self.run, self.log = folder, folder / "run", folder / "log"
        self.command = training(corpus, self.run, *settings)
        whole = command(*training(corpus, folder / "whole", *settings), folder=self.log)
        assert whole.code == 0, whole.err

    def start(self, failpoints: str = "", **options: Any) -> Child:
        return Child(*self.command, folder=self.log, environment={"SEQ2SEQ_FAILPOINTS": failpoints}, **options)

    def killed(self, failpoints: str) -> None:
        """The training kills itself at a failpoint."""
        with self.start(failpoints) as child:
            outcome = child.end()
        assert outcome.code == -signal.SIGKILL, outcome.err

    def stopped(self, number: signal.Signals, step: int) -> None:
        """The training gets a signal in a step, which it finishes and saves."""
        with self.start(f"step.begin=stop@{step}") as child:
            child.wait_until_stopped()
            child.send(number)
            child.send(signal.SIGCONT)
            outcome = child.end()
        assert outcome.code == 128 + number, outcome.err
        assert f"stopped by {number.name}, saved step " in outcome.err
        assert "; run the same command to continue" in outcome.err
        saved = int(outcome.err.partition("saved step ")[2].split(";")[0])
        assert saved == steps(self.run)[-1]

    def ends_in_the_same_bits(self) -> None:
        with self.start() as child:
            outcome = child.end()
        assert outcome.code == 0, outcome.err
        marks = [f"checkpoints/{mark}" for mark in ("best", "last")]
        last, best = (checkpoint_of(self.run, mark).relative_to(self.run) for mark in ("last", "best"))
        tensors = [last / "model.safetensors", last / "training.safetensors", best / "model.safetensors"]
        for name in [*marks, *tensors, "test.hyp"]:
            assert (self.run / name).read_bytes() == (self.folder / "whole" / name).read_bytes(), name
        assert steps(self.run) == steps(self.folder / "whole")
        assert not list(self.run.rglob(".*-*"))


def steps(run: Path) -> list[int]:
    """The logged steps."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    return [line["step"] for line in lines if line["kind"] == "train"]


@pytest.mark.fault(1, 2, 3)
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    """No other tool tests that a resumed run is the same: one leaves it as a TODO, one compares losses to 1e-4.

    scripts/chaos/kills.py kills at random times and at every failpoint.
    """
    interrupted = Interruptions(corpus, tmp_path, *GRU)
    interrupted.killed("step.begin=kill@5")  # in a step
    interrupted.killed("save.before_manifest=kill@1")  # in a save
    interrupted.killed("folder.half_removed=kill@1")  # while pruning
    interrupted.ends_in_the_same_bits()


@pytest.mark.fault(5, 6, 7, 8)
@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    """SIGTERM, Ctrl-C once and twice, SIGUSR1 of a scheduler, a closed window: the step is saved, the code is 128 + N.

    scripts/chaos/signals.py sends them at random times.
    """
    interrupted = Interruptions(corpus, tmp_path, *TRANSFORMER)
    interrupted.stopped(signal.SIGTERM, 2)
    interrupted.stopped(signal.SIGUSR1, 2)
    interrupted.stopped(signal.SIGINT, 1)

    with interrupted.start("step.begin=stop@1,save.begin=stop@1") as child:
        child.wait_until_stopped()
        child.send(signal.SIGINT)
        child.send(signal.SIGCONT)
        child.wait_until_stopped()  # in the save that answers it
        child.send(signal.SIGINT)
        child.send(signal.SIGCONT)
        assert child.end().code == 130

    ours, its = terminal()
    with interrupted.start("step.begin=stop@1", terminal=its) as child:
        child.wait_until_stopped()
        os.close(ours)  # the kernel sends SIGHUP, and SIGCONT after it
        assert child.end().code == 129
    interrupted.ends_in_the_same_bits()


@pytest.mark.fault(5)
def test_a_signal_in_a_validation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """Schedulers kill 30 s after SIGTERM; a look at a large validation set takes minutes, and the step was lost."""
    whole = tiny_model("gru", dropout=0.3)
    make_trainer(tmp_path / "whole", whole).fit(Copying())
    ended: list[int] = []

    def slow(step: int, stop: StopRequest) -> Validation | None:
        def work() -> float:
            if step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30.0)
                ended.append(step)
            return 1.0

        score = MetricResult("BLEU", step, "sig")
        return None if stop.unless_stopped(work) is None else Validation(step, 1.0 / step, 1.0, score, 0.0, [])

    trainer = make_trainer(tmp_path / "parts", tiny_model("gru", dropout=0.3))
    trainer.validate = slow
    with pytest.raises(Interrupted, match="stopped by SIGTERM, saved step 8") as caught:
        trainer.fit(Copying())
    assert not ended
    assert caught.value.exit_code == 143
    assert trainer.checkpoints.load_best().state.step == 4

    resumed = make_trainer(tmp_path / "parts", tiny_model("gru", dropout=0.3))
    looked: list[int] = []
    validate = resumed.validate
    assert validate is not None
    resumed.validate = lambda step, stop: (looked.append(step), validate(step, stop))[1]
    state = resumed.fit(Copying())
    assert looked == [8, 12]
    assert (state.best_step, state.step) == (12, 12)
    assert all(ours.equal(theirs) for ours, theirs in zip(weights(whole), weights(resumed.model), strict=True))


@pytest.mark.fault(5)
def test_a_signal_in_the_last_save_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was remembered by the loop, which had no further step to look at it; minutes of scoring went on."""
    trainer = make_trainer(tmp_path, tiny_model("gru"), max_steps=4)
    save = trainer.checkpoints.mark_best

    def interrupted(path: Path) -> None:
        save(path)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.checkpoints, "mark_best", interrupted)

    @interruptible()
    def work() -> None:
        trainer.fit(Copying())
        time.sleep(30.0)

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    assert trainer.checkpoints.load_best().state.finished


@pytest.mark.fault(5, 6)
def test_a_signal_outside_of_the_steps_says_what_was_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal while the test set was translated ended the process without a word, as if all had been lost."""

    def interrupted(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(30.0)

    config = tiny_config(corpus, tmp_path / "run", "training.max_steps=4")
    for place, number, message in [
        ("run_data.prepare", signal.SIGINT, "before the first step was saved"),
        ("evaluate.evaluate", signal.SIGTERM, "all 4 steps are saved, their test scores are not"),
        # The look at the mean of checkpoints; nothing but this is left to look at.
        ("evaluate._loss_and_tokens", signal.SIGTERM, "all 4 steps are saved, their test scores are not"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(f"seq2seq.runs.{place}", interrupted)
            with pytest.raises(Interrupted, match=f"{number.name}, {message}") as caught:
                train(config)
            assert caught.value.exit_code == 128 + number
    assert train(config).steps == 4


@pytest.mark.fault(6)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_dies_of_a_signal_instead_of_unwinding_its_parents_work() -> None:
    """A worker that was told to end would have run on into the parent's clean-up: its temporary files, its locks."""
    with interruptible():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30.0)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.fault(9)
def test_two_starts_at_once_leave_the_first_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two starts was refused, took the new folder for its own, and removed it under the first."""
    directory = RunDirectory(tmp_path / "run")
    exists = Path.exists
    with monkeypatch.context() as patch:
        # The second looks before the first has made the folder.
        patch.setattr(Path, "exists", lambda path: path != directory.path and exists(path))
        directory.create()
        with locked(directory.path), pytest.raises(UsageError, match=f"is in use by PID {os.getpid()}") as caught:
            train(tiny_config(corpus, directory.path))
    assert caught.value.exit_code == 2
    assert directory.path.exists()


@pytest.mark.fault(6)
def test_ctrl_c_while_the_program_starts() -> None:
    """Ctrl-C within the first half second was answered by a traceback out of an import."""
    code = "import sys\nclass Impatient:\n  def find_spec(self, name, *_):\n"
    code += "    if name == 'typer': raise KeyboardInterrupt\n"
    code += "sys.meta_path.insert(0, Impatient())\nfrom seq2seq.__main__ import run\nrun()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.fault(7)
def test_what_nohup_ignores_stays_ignored() -> None:
    """`nohup seq2seq train` was stopped by the closed window after all."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.number is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def die_with_the_lock(folder: Path) -> None:
    """Lock a run directory, fork a process as loaders are forked, and be killed."""
    with locked(folder):
        child = os.fork()
        if not child:
            signal.pause()
        (folder / "forked").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fault(9)
def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """Loader processes of a killed run live some seconds longer; the same command was refused by a lock of the dead."""
    directory = RunDirectory(tmp_path)
    directory.create()
    process = multiprocessing.get_context("forkserver").Process(target=die_with_the_lock, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    forked = int((tmp_path / "forked").read_text())
    try:
        with locked(directory.path):
            assert not is_gone(forked)
    finally:
        os.kill(forked, signal.SIGKILL)


@pytest.mark.fault(12)
def test_a_dead_loader_process_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch tells of it by an exception anywhere in the main thread: in the middle of a step it was called our bug."""
    advance = RunReport.advance

    def killing(report: RunReport, max_steps: int) -> None:
        advance(report, max_steps)
        for process in multiprocessing.active_children():
            process.kill()
        time.sleep(0.5)

    monkeypatch.setattr(RunReport, "advance", killing)
    with pytest.raises(WorkerError, match="loader process died") as caught:
        train(tiny_config(corpus, tmp_path / "run", "training.num_workers=2", "training.max_steps=40"))
    assert caught.value.exit_code == 8
    assert "training.num_workers=0" in (caught.value.hint or "")


@pytest.mark.fault(8)
def test_a_terminal_that_is_gone_is_no_error(tmp_path: Path) -> None:
    """A line to a closed terminal raised in the middle of a step: exit code 1, and the step was not saved."""
    code = "import os, sys\nfrom seq2seq.console import silence_if_stderr_is_gone, say, warn\n"
    code += "ours, its = os.openpty(); os.dup2(its, 2); os.close(its); os.close(ours)\n"
    code += "say('one'); warn('two'); silence_if_stderr_is_gone()\n"
    code += "print('three', file=sys.stderr, flush=True); sys.exit(129)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (129, "")


def test_progress_below_one_step_a_second_is_not_zero(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`0/s` looks as if nothing went on; and what was done before a resume is no speed of today."""
    from seq2seq import console

    clock = iter([0.0, 12.5])
    monkeypatch.setattr("time.monotonic", lambda: next(clock, 12.5))
    progress = console.Progress("training", 100, "steps", initial=50)
    progress.note("loss 2.31")
    progress.update(5)
    assert "training: 55/100 steps (0.4/s, 1.9 min left)  loss 2.31" in capsys.readouterr().err
    progress.expect(50)
    monkeypatch.setattr("time.monotonic", lambda: 99.0)
    progress.update(5)
    assert "training: 60/50 steps (0.1/s)  loss" in capsys.readouterr().err
