"""Rows 46 and 47: a reader or a terminal that leaves, and a translation that is stopped."""

from __future__ import annotations

import errno
import os
import signal
import sys
import termios
from array import array
from fcntl import ioctl
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.children import Child, command, pipe, terminal
from tests.cli.conftest import Runner

WINDOW = 1024 + 8192
"""Lines that are written at a time."""
QUICK = ("-q", "--max-length", 3, "-b", 1)


@pytest.mark.fault(46)
def test_a_reader_that_leaves_ends_the_translation_quietly(transformer: Path, tmp_path: Path) -> None:
    """`translate | head` once ended in a traceback about a broken pipe; it must end at once and say nothing."""
    text = tmp_path / "input.en"
    text.write_text(("I am here.\n" + "\n" * 1023) * 16)  # more output than a pipe holds
    reader, writer = pipe()
    arguments = ("-q", "--max-length", 3, "--n-best", 3, "--scores")
    with Child("translate", transformer, text, *arguments, folder=tmp_path / "log", stdout=writer) as child:
        assert read_lines(reader, 2)
        reader.close()
        outcome = child.end()
    assert (outcome.code, outcome.err) == (0, "")


def read_lines(reader: Connection, count: int) -> bytes:
    """The first lines from a pipe, and what follows them."""
    text = b""
    while text.count(b"\n") < count:
        some = os.read(reader.fileno(), 1 << 16)
        assert some, "the pipe was closed"
        text += some
    return text


def unread(stream: Connection) -> int:
    """Bytes in a pipe."""
    count = array("i", [0])
    ioctl(stream.fileno(), termios.FIONREAD, count)
    return count[0]


def test_a_program_at_the_other_end_of_a_pipe_gets_its_answer(transformer: Path, tmp_path: Path) -> None:
    """Nothing was translated before 1,024 lines or the end of the input: a program that waited for an answer hung."""
    (stdin, typed), (printed, stdout) = pipe(), pipe()
    with Child("translate", transformer, *QUICK, folder=tmp_path, stdin=stdin, stdout=stdout) as child:
        for text in (b"I am here.\n", b"\nThe man is old.\n"):
            os.write(typed.fileno(), text)
            assert read_lines(printed, text.count(b"\n")).count(b"\n") == text.count(b"\n")
        typed.close()
        assert child.end().code == 0
    printed.close()


def test_ctrl_c_while_lines_are_printed_says_how_many(transformer: Path, tmp_path: Path) -> None:
    """Ctrl-C ended a translation without a word."""
    (stdin, typed), (printed, stdout) = pipe(), pipe()
    with Child("translate", transformer, *QUICK, folder=tmp_path, stdin=stdin, stdout=stdout) as child:
        os.write(typed.fileno(), b"I am here.\n" + b"\n" * 4 * WINDOW)
        read_lines(printed, 1 + 2 * WINDOW)  # the first window is counted before the second one is written
        child.send(signal.SIGINT)
        outcome = child.end()
    typed.close()
    printed.close()
    assert outcome.code == 130
    assert outcome.err.startswith("stopped by SIGINT, ")
    assert outcome.err.endswith(" lines are written\n")
    assert outcome.err.count("\n") == 1


def test_a_signal_before_the_first_line_leaves_no_file(transformer: Path, tmp_path: Path) -> None:
    """SIGTERM left an empty partial file behind."""
    stdin, typed = pipe()
    folder = tmp_path / "output"
    folder.mkdir()
    arguments = (*QUICK, "-o", folder / "out.de")
    with Child("translate", transformer, *arguments, folder=tmp_path / "log", stdin=stdin) as child:
        os.write(typed.fileno(), b"I am")
        child.wait_for(lambda: unread(typed) == 0)  # it waits for the rest of the line
        assert [path.name for path in folder.iterdir()] == [".partial-out.de"]
        child.send(signal.SIGTERM)
        outcome = child.end()
    typed.close()
    assert outcome.code == 143
    assert outcome.err == f"stopped by SIGTERM, nothing is written to {folder / 'out.de'}\n"
    assert list(folder.iterdir()) == []


@pytest.mark.fault(5, 6, 8)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_command_answers_signals(number: signal.Signals, transformer: Path, tmp_path: Path) -> None:
    """Of the commands beside `train`, only `translate` told why it had ended, and only of SIGINT and SIGTERM."""
    stdin, typed = pipe()
    with Child("align", transformer, folder=tmp_path, stdin=stdin) as child:
        os.write(typed.fileno(), b"I am here.\n")
        child.wait_for(lambda: unread(typed) == 0)  # it waits for more
        child.send(number)
        outcome = child.end()
    typed.close()
    assert outcome.code == 128 + number
    assert outcome.err.splitlines()[-1].startswith(f"stopped by {number.name}")
    assert "Traceback" not in outcome.err


@pytest.mark.fault(8, 46)
@pytest.mark.parametrize("words", [["translate", "RUN", "RUN/test.source", "-q"], ["config", "reference"]])
def test_a_terminal_that_is_gone_is_no_fault(words: list[str], transformer: Path, tmp_path: Path) -> None:
    """Results printed on a terminal that had been closed meanwhile ended as a bug of ours: exit code 1, a crash log.

    SIGHUP ends most commands; where it is ignored, as after `nohup` or `disown`, the terminal takes nothing any more.
    """
    ours, its = terminal()
    arguments = [word.replace("RUN", str(transformer)) for word in words]
    os.close(ours)
    outcome = command(*arguments, folder=tmp_path, stdout=its, ignored=signal.SIGHUP)
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(errno.EIO, None, 7), (errno.ENOSPC, None, 7), (errno.ENOSPC, "somewhere", 7), (errno.EIO, "somewhere", 1)],
)
def test_a_disk_that_fails_below_the_output_is_one(
    number: int, name: str | None, code: int, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a terminal may be gone: of a file the same error number means that the disk is broken."""

    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number), *([name] if name else []))

    monkeypatch.setattr("seq2seq.config.reference.reference_lines", broken)
    monkeypatch.setattr(sys.modules["seq2seq.cli.main"], "_silence_stdout", lambda: None)
    outcome = seq2seq("config", "reference")
    assert outcome.code == code
    if code == 7:
        assert "disk" in outcome.err.splitlines()[0]
        assert (name or "") in outcome.err.splitlines()[0]
        assert "hint: " in outcome.err
    else:
        Path(outcome.err.split("its details are in ")[1].strip()).unlink()
