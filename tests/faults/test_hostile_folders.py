"""Run directories from elsewhere: links, FIFOs and sockets in them are refused, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq.atomic_files import new_files, new_folder, remove_folder, write_bytes
from seq2seq.checkpoints.folder import MARKS, CheckpointFolder
from seq2seq.config import load_config
from seq2seq.console import logging_to, say
from seq2seq.errors import CheckpointError, ConfigError, UsageError
from seq2seq.resumable_output import open_output
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.lock import locked
from seq2seq.runs.run_config import load_run_config
from tests.cli.conftest import Runner
from tests.run_reports import bare_report

OLD_RUNS = Path(__file__).parents[1] / "runs" / "old_runs"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder of the user, which nothing may touch."""
    folder = tmp_path / "host"
    (folder / "step-00000001").mkdir(parents=True)
    for file in ("config.yaml", "notes.txt", "step-00000001/manifest.json"):
        (folder / file).write_text("{}\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of an earlier version."""
    return Path(shutil.copytree(OLD_RUNS / "runs" / "transformer", tmp_path / "run", symlinks=True))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(path: Path, make: Callable[[], object]) -> None:
    """Put something in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make()


def bind_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    try:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is at most 108 bytes long
        server.bind(path.name)
        os.chdir(here)
    finally:
        server.close()


FILES = ["config.yaml", "data.json", ".lock", "train.log", "metrics.jsonl", "results.json", "test.hyp", "valid.source"]
FILES += [".partial-results.json", "tokenizer/tokenizer.json", "checkpoints/step-00000401/model.safetensors"]
FOLDERS = ["checkpoints", "tokenizer", "validation", "tensorboard", "checkpoints/step-00000401", "export/ctranslate2"]
COMMANDS: list[tuple[str, ...]] = [
    ("translate", "RUN"),
    ("translate", "RUN", "--engine", "ctranslate2"),
    ("evaluate", "RUN"),
    ("score", "RUN", "--source", "TEXT.en", "--target", "TEXT.de"),
    ("align", "RUN"),
    ("export", "RUN", "--format", "ctranslate2"),
    ("doctor", "RUN"),
    ("tokenizer", "encode", "RUN"),
    ("train", "--source", "TEXT.en", "--target", "TEXT.de", "-o", "RUN"),
    ("train", "RUN/config.yaml", "-o", "RUN"),
    ("train", "--source", "TEXT.en", "--target", "TEXT.de", "-o", "OTHER", "training.init_from=RUN"),
]


@pytest.mark.fault(59)
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "socket"])
def test_what_a_run_cannot_hold_is_refused(name: str, kind: str, run: Path, host: Path) -> None:
    """`.lock -> FILE` emptied FILE, `checkpoints -> DIR` had its folders deleted, a FIFO was waited for."""
    path, before = run / name, content(host)
    match kind:
        case "link":
            put(path, lambda: path.symlink_to(host if name in FOLDERS else host / "notes.txt"))
        case "dangling link":
            put(path, lambda: path.symlink_to(host / "new"))
        case "FIFO":
            put(path, lambda: os.mkfifo(path))
        case "socket":
            put(path, lambda: bind_socket(path))
    with pytest.raises(CheckpointError) as error:
        RunDirectory(run)
    assert (error.value.exit_code, error.value.code) == (5, "run.unsafe")
    assert str(path) in error.value.what
    assert error.value.hint
    assert content(host) == before


@pytest.mark.fault(59)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", ["config.yaml", "train.log"])
def test_every_command_refuses_them(
    arguments: tuple[str, ...], name: str, run: Path, tmp_path: Path, seq2seq: Runner
) -> None:
    """Before it reads a file of the run, or writes one."""
    put(run / name, lambda: os.mkfifo(run / name))
    words = {"RUN": run, "TEXT": OLD_RUNS / "corpus", "OTHER": tmp_path / "other"}
    given = list(arguments)
    for word, path in words.items():
        given = [argument.replace(word, str(path)) for argument in given]
    outcome = seq2seq(*given, stdin=b"a\n")
    assert outcome.code == 5, outcome.err
    assert f"error: {run / name} is neither a file nor a folder" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.fault(59)
@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("target", ["step-00000250", "..", "../../host", "../../host/name", "HOST"])
def test_best_and_last_are_no_links(mark: str, target: str, run: Path, host: Path) -> None:
    """Nor is one followed where the run itself was not looked at."""
    (host / "name").write_text("step-00000250")
    path = run / "checkpoints" / mark
    path.unlink()
    path.symlink_to(target.replace("HOST", str(host)))
    with pytest.raises(CheckpointError, match="a symbolic link to") as error:
        RunDirectory(run)
    assert error.value.code == "run.unsafe"
    assert CheckpointFolder(path.parent).name_of(mark) is None


@pytest.mark.fault(59)
def test_a_folder_in_place_of_a_name_is_kept(run: Path) -> None:
    """It may hold the only copy of a checkpoint."""
    folder = CheckpointFolder(run / "checkpoints")
    (folder.path / "best").unlink()
    (folder.path / "best" / "inside").mkdir(parents=True)
    assert folder.name_of("best") is None
    with pytest.raises(UsageError, match=r"cannot write .*best: Is a directory"):
        folder.mark_best(folder.path / "step-00000401")
    assert (folder.path / "best" / "inside").is_dir()


def test_what_a_user_links_is_allowed(run: Path, tmp_path: Path, host: Path) -> None:
    """The run itself reached through a link, and files that are no part of a run."""
    (tmp_path / "latest").symlink_to(run)
    (run / "corpus.en").symlink_to(host / "notes.txt")
    assert load_run_config(RunDirectory(tmp_path / "latest")).model.kind == "transformer"


@pytest.mark.fault(59)
def test_nothing_is_written_through_a_link(tmp_path: Path, host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second defence: whatever the first look at a run directory misses."""
    before, run = content(host), tmp_path / "new"
    directory = RunDirectory(run)
    directory.create()
    partial = (".partial-data.json", ".partial-out", ".partial-c.en")
    for name in (".lock", "train.log", "metrics.jsonl", "data.json", *partial):
        (run / name).symlink_to(host / "notes.txt")
    for name in (".partial-step", ".replaced-step", ".removed-step", "step"):
        (run / name).symlink_to(host)
    with pytest.raises(UsageError, match="cannot write"), locked(directory.path):
        pass
    with logging_to(run / "train.log"):
        say("one")
    report = bare_report(run, 9)
    report.close()
    write_bytes(run / "data.json", b"ours")
    with pytest.raises(UsageError, match="cannot write"), open_output(run / "out", None):
        pass
    with new_folder(run / "step") as folder:
        (folder / "file").write_bytes(b"ours")
    with new_files([run / "c.en"]) as (text,):
        text.write("ours\n")
    remove_folder(run / "step")
    assert content(host) == before
    assert (run / "data.json").read_bytes() == b"ours"
    assert capsys.readouterr().err.count("cannot write the log") == 1


@pytest.mark.fault(59)
def test_a_config_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """`seq2seq train RUN/config.yaml` hung."""
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="named pipe"):
        load_config([tmp_path / "config.yaml"])
