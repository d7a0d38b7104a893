"""The prompt of `seq2seq translate RUN` on a terminal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import seq2seq
from seq2seq.cli.prompt import Prompt
from seq2seq.cli.translate_options import OutputFormat
from seq2seq.decoding.translator import translation_options
from seq2seq.runs.loaded_run import LoadedRun
from tests.children import LIMIT_SECONDS, Child, terminal

RUN = Path(__file__).parents[1] / "runs" / "old_runs" / "runs" / "transformer"
LINE = "A man is riding a bicycle."


@pytest.fixture(scope="module")
def loaded() -> LoadedRun:
    return seq2seq.load(RUN, threads=1, workers=1)


def talk(loaded: LoadedRun, lines: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed for lines that are typed."""
    typed = iter(lines)

    def read(prompt: str) -> str:
        assert prompt == "> "
        line = next(typed, None)
        if line is None:
            raise EOFError
        return line

    options = translation_options(loaded.translator.settings)
    Prompt(loaded, options, OutputFormat(1, False, False, False, False), None, read).run()
    return capsys.readouterr().out.splitlines()


def test_lines_are_translated(loaded: LoadedRun, capsys: pytest.CaptureFixture[str]) -> None:
    expected = loaded.translate(LINE)
    assert talk(loaded, [LINE, "", f" {LINE}"], capsys) == [expected, loaded.translate(f" {LINE}"), ""]


def test_commands(loaded: LoadedRun, capsys: pytest.CaptureFixture[str]) -> None:
    said, *rows = talk(loaded, [":n-best 3", LINE], capsys)
    assert said == "3 translations of each line"
    assert [row.partition("\t")[2] for row in rows[:3]] == loaded.translate(LINE, n_best=3)
    rows = talk(loaded, [":n-best 3", ":n-best 1", LINE], capsys)
    assert rows[1:3] == ["one translation of each line", loaded.translate(LINE)]
    rows = talk(loaded, [":scores", LINE, ":scores"], capsys)
    assert rows[::2] == ["scores: on", "scores: off"]
    assert rows[1].endswith(f"\t{loaded.translate(LINE)}")
    said, best, *picture = talk(loaded, [":attention", LINE], capsys)
    assert (said, best) == ("attention: on", loaded.translate(LINE))
    words = [row.split()[0] for row in picture if row.strip()]
    assert words[-len(best.split()) - 1 :] == [*(word[:24] for word in best.split()), "</s>"]


def test_odd_commands(loaded: LoadedRun, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [":n-best", ":n-best 0", ":n-best many", ":beams", ":help", ":quit", LINE]
    rows = talk(loaded, lines, capsys)
    assert rows[:3] == ["a number from 1 to 100 is missing, as in :n-best 3"] * 3
    assert rows[3] == "there is no command :beams; :help lists them, and a space before it makes it text"
    assert [row.split()[0] for row in rows[4:]] == [":n-best", ":scores", ":attention", ":help", ":quit"]


def test_a_terminal_has_a_prompt_with_a_history(tmp_path: Path, loaded: LoadedRun) -> None:
    """The arrow upward brings the line back; Ctrl-C ends as everywhere."""
    ours, its = terminal()
    with Child("translate", RUN, "--threads", "1", folder=tmp_path, stdin=its, terminal=its) as child:
        seen = b""

        def wait_for(text: str, count: int) -> None:
            nonlocal seen
            deadline = time.monotonic() + LIMIT_SECONDS
            while seen.decode("utf-8", "replace").count(text) < count:
                assert time.monotonic() < deadline
                seen += os.read(ours, 4096)

        wait_for("> ", 1)
        os.write(ours, LINE.encode() + b"\n")
        wait_for(loaded.translate(LINE), 1)
        os.write(ours, b"\x1b[A\n")
        wait_for(loaded.translate(LINE), 2)
        child.send(signal.SIGINT, group=True)
        os.write(ours, b"\n")  # Python's readline sees a signal that came just before it waits at the next key
        assert child.end().code == 128 + signal.SIGINT
    os.close(ours)
