"""Bad input to every command: one error with a remedy and its exit code, never a traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from seq2seq.cli.main import app
from tests.cli.conftest import Outcome, Runner, checkpoint_of
from tests.cli.mistakes import MISTAKES, WITH_A_RUN, lay_out


def commands() -> list[tuple[str, ...]]:
    """Every command and group of the command line."""
    found: list[tuple[str, ...]] = [()]
    for name, command in getattr(typer.main.get_command(app), "commands", {}).items():
        found += [(name,), *((name, inner) for inner in getattr(command, "commands", ()))]
    return found


HELPS = commands()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with some wrong files."""
    monkeypatch.chdir(tmp_path)
    lay_out()
    return tmp_path


@pytest.fixture
def width_80(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(("code", "text", "arguments"), MISTAKES, ids=lambda value: str(value)[:60])
@pytest.mark.fault(15, 31, 37, 48)
def test_mistakes(code: int, text: str, arguments: tuple[str, ...], place: Path, seq2seq: Runner) -> None:
    before = content(place)
    check(seq2seq(*arguments), code, text)
    assert content(place) == before


@pytest.mark.parametrize(("code", "text", "arguments"), WITH_A_RUN, ids=lambda value: str(value)[:60])
@pytest.mark.fault(21)
def test_mistakes_with_a_run(
    code: int, text: str, arguments: tuple[str, ...], place: Path, transformer: Path, seq2seq: Runner
) -> None:
    before = content(transformer)
    outcome = seq2seq(*(argument.replace("RUN", str(transformer)) for argument in arguments))
    check(outcome, code, text.replace("RUN", str(transformer)))
    assert content(transformer) == before


def check(outcome: Outcome, code: int, text: str) -> None:
    """One error with its code, a remedy, and nothing else."""
    assert outcome.code == code, outcome.err
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    (error,) = [line for line in outcome.err.split("\n") if line.startswith("error: ")]
    assert error.endswith("]")
    assert outcome.err.count("\n  hint: ") == 1


def content(folder: Path) -> dict[str, bytes]:
    """Every file with what it holds, but for the log, where the mistake may be noted, and the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log" and path.name != ".lock")
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_shows_runnable_examples(command: tuple[str, ...], seq2seq: Runner, width_80: None) -> None:
    long, short = seq2seq(*command, "--help"), seq2seq(*command, "-h")
    assert long == short
    assert long.code == 0
    assert "Usage: " in long.out
    assert [line for line in long.out.splitlines() if len(line) > 80] == []
    if command and command not in (("data",), ("tokenizer",), ("config",), ("config", "schema"), ("help",)):
        assert "  seq2seq " in long.out or "| seq2seq" in long.out


@pytest.mark.parametrize("group", [(), ("data",), ("tokenizer",), ("config",), ("help",)], ids=" ".join)
def test_a_list_of_commands_has_whole_sentences(group: tuple[str, ...], seq2seq: Runner, width_80: None) -> None:
    """Twelve of twenty summaries ended in the middle of a word list, with three dots."""
    listed = seq2seq(*group, "--help").out.partition("Commands:\n")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...") or not line.endswith(".")] == []


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("translate", "RUN [FILE]"),
        ("compare", "RUN..."),
        ("evaluate", "[RUN...]"),
        ("tune", "[CONFIG...] [KEY=VALUE...]"),
        ("backtranslate", "RUN FILE..."),
    ],
)
def test_help_speaks_no_python(command: str, usage: str, seq2seq: Runner, width_80: None) -> None:
    """The usage line was `{RUN...}...`, and the type of an option `<list[Path]>`."""
    help_text = seq2seq(command, "--help").out
    assert help_text.startswith(f"Usage: seq2seq {command} [OPTIONS] {usage}\n")
    assert "list[" not in help_text
    assert " range>" not in help_text


def test_bare_command_prints_help(seq2seq: Runner) -> None:
    outcome = seq2seq()
    assert "Usage: " in outcome.out + outcome.err


def test_help_imports_nothing_heavy() -> None:
    """`--help` took half a second, most of which was the import of pydantic and the settings built with it."""
    code = """
import contextlib, io, sys
from seq2seq.cli import main
for command in sys.argv[1].split(","):
    sys.argv = ["seq2seq", *command.split()]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        main()
    heavy = {"torch", "numpy", "pydantic", "tqdm", "yaml", "ruamel.yaml", "datasets", "sacrebleu"} & sys.modules.keys()
    assert "seq2seq" in shown.getvalue() or not command, command
    assert not heavy, (command, heavy)
"""
    commands = ["", "--version", *(" ".join([*command, "--help"]) for command in HELPS)]
    subprocess.run([sys.executable, "-c", code, ",".join(commands)], check=True)


@pytest.mark.fault(47)
def test_a_failed_translation_leaves_the_old_output(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("old\n")
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    assert seq2seq("translate", transformer, tmp_path / "bad.txt", "-o", output).code == 3
    assert output.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "out.txt"]


@pytest.mark.fault(17, 23)
def test_a_damaged_run_is_told(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    import shutil

    model = checkpoint_of(transformer, "best").relative_to(transformer) / "model.safetensors"
    for damaged in (str(model), "tokenizer/tokenizer.json", "config.yaml"):
        copy = tmp_path / damaged.replace("/", "-")
        shutil.copytree(transformer, copy, symlinks=True)
        (copy / damaged).write_bytes((copy / damaged).read_bytes()[:-20])
        outcome = seq2seq("translate", copy, stdin=b"a\n")
        assert outcome.code in (2, 5)
        assert outcome.err.startswith("error: ")
        assert "Traceback" not in outcome.err


@pytest.mark.fault(9)
def test_two_runs_in_one_directory(corpus: Path, tmp_path: Path) -> None:
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.runs.lock import locked
    from tests.cli.conftest import train_tiny

    directory = RunDirectory(tmp_path / "run")
    directory.create()
    with locked(directory.path):
        outcome = train_tiny(corpus, "gru", directory.path)
    assert outcome.code == 2
    assert "in use by PID" in outcome.err


def test_an_unexpected_error_points_to_a_log(seq2seq: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("the cat sat on the keyboard")

    monkeypatch.setattr("seq2seq.config.reference.reference_lines", broken)
    outcome = seq2seq("config", "reference")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    log = Path(outcome.err.split("its details are in ")[1].strip())
    assert "the cat sat" in log.read_text()
    log.unlink()


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [("| head -n 1", 0, ""), (">&-", 0, ""), ("> /dev/full", 7, "error: cannot write the output: the disk is full")],
)
@pytest.mark.parametrize("command", ["config reference", "--help"])
@pytest.mark.fault(46)
def test_output_that_nobody_takes(command: str, redirection: str, code: int, error: str) -> None:
    line = f"{sys.executable} -m seq2seq {command} {redirection}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.split("\n")[0].partition("  [")[0] == error


@pytest.mark.fault(15)
def test_a_refused_training_leaves_no_run(place: Path, seq2seq: Runner) -> None:
    assert seq2seq("train", "--source", "three.txt", "--target", "four.txt", "-o", "run").code == 3
    assert seq2seq("train", "nodata.yaml", "data.train=[{builtin: demo}]", "device=cuda:9", "-o", "run").code == 2
    assert not (place / "run").exists()


@pytest.mark.fault(15)
def test_a_failed_training_leaves_no_folder(place: Path, seq2seq: Runner) -> None:
    """An empty ./runs was left, which the hint for the missing file then named: `. holds runs`."""
    for data in ("{source: s.ja, target: three.txt}", "{source: three.txt, target: four.txt}"):
        outcome = seq2seq("train", "nodata.yaml", f"data.train=[{data}]", "device=cpu", "devices=1", "-o", "a/b/run")
        assert outcome.code == 3
        assert not (place / "a").exists()
    (place / "a").mkdir()
    assert seq2seq("train", "nodata.yaml", "data.train=[{source: s.ja, target: three.txt}]", "-o", "a/b").code == 3
    assert list((place / "a").iterdir()) == []


@pytest.mark.fault(46)
def test_translations_are_not_lost_in_a_closed_stdout(transformer: Path) -> None:
    """They were, with exit code 0."""
    for command in (f"translate {transformer}", f"score {transformer} -s /dev/null -t /dev/null"):
        line = f"echo a cat | {sys.executable} -m seq2seq {command} >&-"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: standard output is closed  [usage.unwritable]")
