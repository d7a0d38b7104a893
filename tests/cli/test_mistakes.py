"""Bad input to every command: one error with a remedy and its exit code, never a traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Runner

HELPS = [
    (),
    ("demo",),
    ("init",),
    ("train",),
    ("translate",),
    ("evaluate",),
    ("score",),
    ("data",),
    ("data", "download"),
    ("data", "prepare"),
    ("tokenizer",),
    ("tokenizer", "train"),
    ("tokenizer", "encode"),
    ("tokenizer", "decode"),
    ("config",),
    ("config", "show"),
    ("config", "reference"),
    ("config", "schema"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with some wrong files."""
    monkeypatch.chdir(tmp_path)
    Path("three.txt").write_text("a\nb\nc\n")
    Path("threb.txt").write_text("a\nb\nc\n")
    Path("four.txt").write_text("a\nb\nc\nd\n")
    Path("latin1.txt").write_bytes(b"a\nb\nM\xe4dchen\n")
    Path("blank.txt").write_text("\n" * 30)
    Path("text30.txt").write_text("some words\n" * 30)
    Path("text31.txt").write_text("some words\n" * 30)
    Path("bad.yaml").write_text("training:\n  batch_sise: 3\n")
    Path("broken.yaml").write_text("a: [1\n")
    Path("nodata.yaml").write_text("seed: 1\n")
    Path("folder").mkdir()
    return tmp_path


MISTAKES = [
    (2, "nothing to train on", ("train",)),
    (2, "no config file", ("train", "missing.yaml")),
    (2, "unknown key `training.batch_sise`", ("train", "bad.yaml")),
    (2, "bad.yaml:2", ("train", "bad.yaml")),
    (2, "not valid YAML", ("train", "broken.yaml")),
    (2, "no training data", ("train", "nodata.yaml")),
    (2, "belong together", ("train", "--source", "three.txt")),
    (2, "not a setting", ("train", "nodata.yaml", "=3")),
    (2, "folder", ("train", "folder")),
    (3, "four.txt", ("train", "--source", "three.txt", "--target", "four.txt")),
    (3, "missing.txt", ("train", "--source", "missing.txt", "--target", "four.txt")),
    (
        3,
        "latin1.txt:3",
        ("data", "prepare", "nodata.yaml", "data.train=[{source: three.txt, target: latin1.txt}]"),
    ),
    (3, "empty", ("data", "prepare", "nodata.yaml", "data.train=[{source: blank.txt, target: text30.txt}]")),
    (2, "device", ("train", "nodata.yaml", "device=tpu", "data.train=[{builtin: demo}]", "-o", "r")),
    (2, "cuda:9", ("train", "nodata.yaml", "device=cuda:9", "data.train=[{builtin: demo}]", "-o", "r")),
    (
        2,
        "fp16",
        (
            "train",
            "nodata.yaml",
            "training.precision=fp16",
            "device=cpu",
            "data.train=[{builtin: demo}]",
            "-o",
            "r",
        ),
    ),
    (2, "cannot write", ("train", "nodata.yaml", "data.train=[{builtin: demo}]", "-o", "three.txt/run")),
    (5, "no run directory", ("translate", "missing")),
    (5, "not a run directory", ("translate", "folder")),
    (2, "--errors", ("translate", "folder", "--errors", "ignore")),
    (5, "no run directory", ("evaluate", "missing")),
    (2, "nothing to evaluate", ("evaluate",)),
    (2, "needs --references", ("evaluate", "--hypotheses", "three.txt")),
    (3, "4", ("evaluate", "--hypotheses", "three.txt", "--references", "four.txt")),
    (5, "no run directory", ("score", "missing", "--source", "three.txt", "--target", "three.txt")),
    (5, "folder", ("tokenizer", "encode", "folder")),
    (2, "--side", ("tokenizer", "encode", "folder", "--side", "left")),
    (3, "missing.txt", ("tokenizer", "train", "-s", "missing.txt", "-t", "three.txt", "-o", "out")),
    (
        2,
        "unknown key `tokenizer.size`",
        ("tokenizer", "train", "-s", "three.txt", "-t", "three.txt", "-o", "t", "size=3"),
    ),
    (2, "no training data", ("data", "prepare", "seed=1")),
    (2, "Missing argument", ("data", "prepare")),
    (2, "--model", ("demo", "--model", "lstm")),
    (2, "--model", ("init", "--model", "lstm", "--source", "three.txt", "--target", "three.txt")),
    (3, "only 3 lines", ("init", "--source", "three.txt", "--target", "threb.txt")),
    (2, "same file", ("init", "--source", "three.txt", "--target", "three.txt")),
    (3, "latin1.txt:3", ("init", "--source", "three.txt", "--target", "latin1.txt")),
    (2, "cannot write", ("init", "--source", "text30.txt", "--target", "text31.txt", "missing/x.yaml")),
    (2, "without a config", ("train", "nodata.yaml", "--source", "text30.txt", "--target", "text31.txt")),
    (2, "belong to --sample", ("translate", "folder", "--temperature", "0.5")),
    (2, "no key begins with", ("config", "reference", "trainin")),
    (2, "keys there: batch_size", ("config", "reference", "training.foo")),
    (2, """quote it: 'training.freeze=["*"]'""", ("train", "nodata.yaml", "training.freeze=[*]")),
    (2, "did you mean training.freeze?", ("train", "nodata.yaml", "training.frezee=1")),
    (
        5,
        # The folder that is just being made is no run to begin with.
        "hint: train one first",
        (
            "train",
            "nodata.yaml",
            "data.train=[{builtin: demo}]",
            "data.holdout=9",
            "training.init_from=nowhere",
            "device=cpu",
            "devices=1",
            "-o",
            "r",
        ),
    ),
    (2, "No such command", ("trian",)),
    (2, "No such option", ("train", "--sorce", "x")),
    (2, "Invalid value", ("translate", "folder", "--beam-size", "0")),
    (2, "Missing argument", ("translate",)),
]


@pytest.mark.parametrize(("code", "text", "arguments"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistakes(code: int, text: str, arguments: tuple[str, ...], place: Path, seq2seq: Runner) -> None:
    outcome = seq2seq(*arguments)
    assert outcome.code == code, outcome.err
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    errors = [line for line in outcome.err.split("\n") if line.startswith(("error: ", "Error: "))]
    assert len(errors) == 1


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_shows_runnable_examples(command: tuple[str, ...], seq2seq: Runner) -> None:
    long, short = seq2seq(*command, "--help"), seq2seq(*command, "-h")
    assert long == short
    assert long.code == 0
    assert "Usage: " in long.out
    if command and command not in (("data",), ("tokenizer",), ("config",), ("config", "schema")):
        assert "  seq2seq " in long.out or "| seq2seq" in long.out


def test_bare_command_prints_help(seq2seq: Runner) -> None:
    outcome = seq2seq()
    assert "Usage: " in outcome.out + outcome.err


def test_help_does_not_import_torch() -> None:
    code = "import sys; sys.argv = ['seq2seq', '--help']\nfrom seq2seq.cli import main\n"
    code += "try: main()\nfinally: print(sorted({'torch', 'datasets', 'sacrebleu', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_bytes_that_are_not_utf8_are_named(run: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("translate", run, stdin=b"fine\nM\xe4dchen\n")
    assert outcome.code == 3
    assert "stdin:2" in outcome.err
    replaced = seq2seq("translate", run, "--errors", "replace", stdin=b"fine\nM\xe4dchen\n")
    assert replaced.code == 0
    assert replaced.out.count("\n") == 2


def test_a_failed_translation_leaves_the_old_output(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("old\n")
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    assert seq2seq("translate", run, tmp_path / "bad.txt", "-o", output).code == 3
    assert output.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "out.txt"]


def test_a_damaged_run_is_told(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    import shutil

    for damaged in ("checkpoints/best/model.safetensors", "tokenizer/tokenizer.json", "config.yaml"):
        copy = tmp_path / damaged.replace("/", "-")
        shutil.copytree(run, copy, symlinks=True)
        (copy / damaged).write_bytes((copy / damaged).read_bytes()[:-20])
        outcome = seq2seq("translate", copy, stdin=b"a\n")
        assert outcome.code in (2, 5)
        assert outcome.err.startswith("error: ")
        assert "Traceback" not in outcome.err


def test_two_runs_in_one_directory(corpus: Path, tmp_path: Path) -> None:
    from seq2seq.experiment import RunDirectory
    from tests.cli.conftest import train_tiny

    directory = RunDirectory(tmp_path / "run")
    directory.create()
    with directory.locked():
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
def test_output_that_nobody_takes(command: str, redirection: str, code: int, error: str) -> None:
    line = f"{sys.executable} -m seq2seq {command} {redirection}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.split("\n")[0] == error


def test_a_refused_training_leaves_no_run(place: Path, seq2seq: Runner) -> None:
    assert seq2seq("train", "--source", "three.txt", "--target", "four.txt", "-o", "run").code == 3
    assert seq2seq("train", "nodata.yaml", "data.train=[{builtin: demo}]", "device=cuda:9", "-o", "run").code == 2
    assert not (place / "run").exists()
