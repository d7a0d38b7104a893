"""Rows 46 and 47: a reader or a terminal that leaves, and a translation that is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seq2seq.cli.main import main
from tests.cli.conftest import Runner, run_command, train_tiny

LINES = ["The old man drinks a cup of tea.", "", "I am here.", "The man is old. I am here!"]
WHOLE = 1024
"""Lines that are written at a time."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "streams"
    assert train_tiny(corpus, "transformer", folder, "training.max_steps=20").code == 0
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mostly blank lines, so that many windows take little time."""
    path = tmp_path_factory.mktemp("text") / "input.en"
    lines = [LINES[place % 4] if place % 256 < 3 else "" for place in range(16 * WHOLE + 7)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def expected(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "out.de"
    assert run_command("translate", model, text, "-o", output, "--max-length", 3, "-b", 1).code == 0
    return output.read_bytes()


@pytest.mark.fault(46)
def test_a_reader_that_leaves_ends_the_translation_quietly(model: Path, text: Path) -> None:
    """`translate | head` once ended in a traceback about a broken pipe; it must end at once and say nothing."""
    command = f"{sys.executable} -m seq2seq translate {model} {text} -q --max-length 3 --n-best 3 --scores"
    script = f"({command}; echo $? >&3) 3>&2 2>{text.parent}/said | head -n 2"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.strip() == "0", done.stderr
    assert (text.parent / "said").read_text() == ""


@pytest.mark.parametrize(
    ("number", "output", "left"),
    [(signal.SIGINT, None, " lines are written"), (signal.SIGTERM, "out.de", "nothing is written to {}")],
)
def test_a_signal_is_answered_in_one_line(
    number: signal.Signals, output: str | None, left: str, model: Path, tmp_path: Path
) -> None:
    """Ctrl-C ended a translation without a word, and SIGTERM left an empty partial file behind."""
    path = tmp_path / (output or "none")
    given = ["-o", str(path)] if output else []
    process = subprocess.Popen(
        [sys.executable, "-m", "seq2seq", "translate", str(model), "-q", "--max-length", "3", "-b", "1", *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if output:
        until = time.monotonic() + 60
        while not (tmp_path / f".partial-{output}").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)  # to the first line that it waits for
    else:
        process.stdin.write(b"I am here.\n" + b"\n" * 8 * WHOLE)
        process.stdin.flush()
        for _ in range(WHOLE):
            process.stdout.readline()
        time.sleep(0.5)  # they are counted once they are out
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.decode().startswith(f"stopped by {number.name}, ")
    assert said.decode().endswith(f"{left.format(path)}\n")
    assert said.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(5, 6)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_command_answers_signals(number: signal.Signals, model: Path) -> None:
    """Of the commands beside `train`, only `translate` told why it had ended, and only of SIGINT and SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seq2seq", "align", str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"I am here.\n" * 8 * WHOLE)
    process.stdin.flush()
    process.stdout.readline()  # it is at work, and waits for more
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.decode().splitlines()[-1].startswith(f"stopped by {number.name}")
    assert "Traceback" not in said.decode()


@pytest.mark.fault(8, 46)
@pytest.mark.parametrize("words", [["translate", "RUN", "RUN/test.source", "-q"], ["config", "reference"]])
def test_a_terminal_that_is_gone_is_no_fault(words: list[str], model: Path) -> None:
    """Results printed on a terminal that had been closed meanwhile ended as a bug of ours: exit code 1, a crash log.

    SIGHUP ends most commands; where it is ignored, as after `nohup` or `disown`, the terminal takes nothing any more.
    """
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from seq2seq.cli import main; main()"
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, *(word.replace("RUN", str(model)) for word in words)],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(its)
    os.close(ours)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")


@pytest.mark.parametrize(
    ("number", "name", "code"), [(errno.EIO, None, 7), (errno.ENOSPC, None, 7), (errno.EIO, "somewhere", 1)]
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
        assert "hint: " in outcome.err
    else:
        Path(outcome.err.split("its details are in ")[1].strip()).unlink()


@pytest.mark.fault(47)
def test_kills_cost_no_whole_line_and_never_the_old_output(
    model: Path, text: Path, expected: bytes, tmp_path: Path, seq2seq: Runner
) -> None:
    """A translation over night is killed, again and again, at any instant.

    The old output stands until the new one is whole; what is kept for `--resume` is a beginning of what an undisturbed
    translation writes, and the end is the same to the byte.
    """
    output, partial = tmp_path / "out.de", tmp_path / ".partial-out.de"
    output.write_text("the old one\n", encoding="utf-8")
    chance = random.Random(3)
    command = ("translate", model, text, "-o", output, "--max-length", 3, "-b", 1)
    begun = 0
    for number in range(8):
        process = os.fork()
        if process == 0:
            _translate([*map(str, command), *(["--resume"] if number else [])])
        time.sleep(0.2 + 0.6 * chance.random())
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if output.read_bytes() != b"the old one\n":
            assert output.read_bytes() == expected  # the kill came too late
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if (record := tmp_path / ".partial-out.de.json").exists():
            kept = partial.read_bytes()[: json.loads(record.read_text(encoding="utf-8"))["bytes"]]
            assert expected.startswith(kept)
            assert kept.endswith(b"\n")
            begun += 1
    assert begun
    output.unlink(missing_ok=True)
    outcome = seq2seq(*command, "--resume")
    assert outcome.code == 0, outcome.err
    assert output.read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out.de"]


def _translate(words: list[str]) -> None:
    """The command in a forked child, silent."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.argv = ["seq2seq", *words]
    try:
        main()
    finally:
        os._exit(0 if not sys.exc_info()[0] else 1)
