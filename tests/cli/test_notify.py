"""`--notify`: told of every end of a run, and never in its way."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from seq2seq.cli import notify
from seq2seq.cli.notify import notifying
from seq2seq.errors import DataError
from seq2seq.signals import Interrupted
from tests.cli.conftest import Runner

TELL = 'printf "%s|" "$SEQ2SEQ_STATE" "$SEQ2SEQ_RUN" "$SEQ2SEQ_SCORE" "$SEQ2SEQ_MESSAGE" > told; echo noise'


def told() -> list[str]:
    return Path("told").read_text(encoding="utf-8").split("|")[:-1]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_end_is_told_with_its_score(capfd: pytest.CaptureFixture[str]) -> None:
    with notifying(TELL, Path("runs/x")) as outcome:
        outcome.score = "BLEU 12.34"
    assert told() == ["finished", str(Path.cwd() / "runs/x"), "BLEU 12.34", "runs/x finished: BLEU 12.34"]
    assert capfd.readouterr().out == "", "results of the run are alone on stdout"


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (DataError("no file a.en", hint="b.en"), "failed", "runs/x failed: no file a.en"),
        (RuntimeError("odd\nmore"), "failed", "runs/x failed: RuntimeError: odd"),
        (Interrupted(signal.SIGTERM, "saved step 3"), "stopped", "runs/x stopped: stopped by SIGTERM, saved step 3"),
    ],
)
def test_failures_and_signals_are_told_and_go_on(error: Exception, state: str, message: str) -> None:
    with pytest.raises(type(error)), notifying(TELL, Path("runs/x")):
        raise error
    assert (told()[0], told()[3]) == (state, message)


@pytest.mark.parametrize(
    ("command", "warning"),
    [("exit 3", "exit code 3"), ("absent-command", "exit code 127"), ("sleep 60", "was ended"), ("a\0b", "null")],
)
def test_a_command_that_fails_or_hangs_is_a_warning(
    command: str, warning: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notify, "_SECONDS", 0.3 if command.startswith("sleep") else 20.0)
    with notifying(command, Path("runs/x")):
        pass
    assert warning in capsys.readouterr().err


def test_train_tells(transformer: Path, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run ends at once; the variable stands for the option, and no run can name a command."""
    monkeypatch.setenv("SEQ2SEQ_NOTIFY", TELL)
    outcome = seq2seq("train", transformer / "config.yaml", "-o", transformer)
    assert outcome.code == 0, outcome.err
    assert told()[0] == "finished"
    assert told()[2].startswith("BLEU ")
