"""Shell completion: the script for each shell, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from seq2seq.cli.options import complete_configs, complete_runs
from tests.cli.conftest import Runner


@pytest.fixture(autouse=True)
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one/config.yaml", "runs/two/config.yaml", "mine.yaml", "my/own.yml", "notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def ask(seq2seq: Runner, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    monkeypatch.setenv("_SEQ2SEQ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("seq2seq", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    outcome = seq2seq()
    assert outcome.code == 0, outcome.err
    return outcome.out.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("tra",), ["train", "translate"]),
        (("evaluate", "--basel"), ["--baseline"]),
        (("translate", "--precision", "fp"), ["fp32", "fp16"]),
        (("translate", "ru"), ["runs/one", "runs/two"]),
        (("compare", "runs/one", "runs/t"), ["runs/two"]),
        (("train", "mi"), ["mine.yaml"]),
        (("train", "my"), ["my/own.yml"]),
        (("data", "pre"), ["prepare"]),
    ],
)
def test_commands_options_runs_and_configs(
    words: tuple[str, ...], found: list[str], seq2seq: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(seq2seq, monkeypatch, *words) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_this_command(shell: str, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SEQ2SEQ_COMPLETE", f"source_{shell}")
    outcome = seq2seq()
    assert outcome.code == 0, outcome.err
    assert f"_SEQ2SEQ_COMPLETE=complete_{shell}" in outcome.out
    assert "seq2seq" in outcome.out


def test_a_choice_between_folders_is_left_to_the_shell() -> None:
    assert complete_configs("m") == []
    assert complete_runs("absent/x") == []
    assert complete_runs("/absent") == []


def test_a_home_that_cannot_be_written_is_said(
    seq2seq: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ended as a bug of seq2seq, with a crash log."""
    monkeypatch.setenv("HOME", str(tmp_path / "notes.txt"))
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: "bash")
    outcome = seq2seq("--install-completion")
    assert outcome.code == 2
    assert f"cannot install the completion: {tmp_path / 'notes.txt'}" in outcome.err
    assert "--show-completion" in outcome.err


def test_an_unknown_shell_is_said(seq2seq: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code was 1, which is that of a bug."""
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: None)
    outcome = seq2seq("--install-completion")
    assert outcome.code == 2
    assert "completion is for bash, zsh, fish and PowerShell" in outcome.err
