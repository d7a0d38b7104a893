"""A command runner in this process, and small trained runs that the commands are tried on."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
from filelock import FileLock

from seq2seq import console
from seq2seq.cli import main
from seq2seq.console import set_quiet
from seq2seq.data.demo import builtin_pairs
from tests.conftest import shared_between_processes
from tests.parallel_text import write_pairs

TINY = {
    "transformer": [
        "model.hidden_size=32",
        "model.ff_size=64",
        "model.encoder_layers=1",
        "model.decoder_layers=1",
    ],
    "gru": ["model.kind=gru", "model.hidden_size=32", "model.embedding_size=32"],
}
SHORT = [
    "tokenizer.vocabulary_size=400",
    "training.max_steps=60",
    "training.validate_every=30",
    "training.log_every=10",
    "training.batch_size=512",
    "training.schedule.warmup_steps=10",
    "training.optimizer.learning_rate=0.005",
    "data.holdout=20",
    # A model that has learned little does not stop by itself.
    "decoding.max_length_ratio=1.2",
    "decoding.max_length_offset=5",
    "decoding.max_source_tokens=64",
]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Runner = Callable[..., Outcome]

commands = cache(typer.main.get_command)
"""The parsers of all commands, which every process of the tests builds once: that takes longer than many commands."""


def run_command(*arguments: object, stdin: bytes = b"") -> Outcome:
    """Run `seq2seq ARGUMENTS` in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    patch = pytest.MonkeyPatch()
    patch.setattr(typer.main, "get_command", commands)
    patch.setattr(sys, "argv", ["seq2seq", *map(str, arguments)])
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
    patch.setattr(sys, "stdout", out)
    patch.setattr(sys, "stderr", err)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        patch.undo()
        set_quiet(False)
        console._shown.clear()
    texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    return Outcome(int(end.value.code or 0), *texts)


@pytest.fixture(scope="session")
def seq2seq() -> Runner:
    """`seq2seq("translate", run, stdin=b"...")` -> Outcome(code, out, err)."""
    return run_command


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.en and corpus.de, 600 built-in pairs; the same for all processes, as the runs are."""
    folder = shared_between_processes(tmp_path_factory, "corpus")
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            write_pairs(folder, builtin_pairs("demo", "train")[:600])
    return folder


def train_tiny(corpus: Path, kind: str, folder: Path, *settings: str) -> Outcome:
    """Train a tiny model on the corpus for a few steps."""
    files = ("--source", corpus / "corpus.en", "--target", corpus / "corpus.de")
    return run_command("train", *files, "-o", folder, *TINY[kind], *SHORT, *settings)


@pytest.fixture(scope="session")
def transformer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a Transformer, which no test may change."""
    return shared_run(tmp_path_factory, "transformer", lambda folder: train_tiny(corpus, "transformer", folder))


@pytest.fixture(scope="session")
def gru(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a recurrent model, which no test may change."""
    return shared_run(tmp_path_factory, "gru", lambda folder: train_tiny(corpus, "gru", folder))


@pytest.fixture(params=list(TINY))
def run(request: pytest.FixtureRequest) -> Path:
    """A run directory of each architecture, which no test may change."""
    return Path(request.getfixturevalue(str(request.param)))


def checkpoint_of(run: Path, mark: str) -> Path:
    """The checkpoint that is `best` or `last`."""
    folder = run / "checkpoints"
    return folder / (folder / mark).read_text(encoding="utf-8").strip()


def shared_run(factory: pytest.TempPathFactory, name: str, train: Callable[[Path], Outcome]) -> Path:
    """A run directory, trained by the first process of this call of pytest that needs it and copied by the others."""
    folder, shared = factory.mktemp("runs") / name, shared_between_processes(factory, f"run-{name}")
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            outcome = train(folder)
            assert outcome.code == 0, outcome.err
            shutil.copytree(folder, shared, symlinks=True)
            return folder
    shutil.copytree(shared, folder, symlinks=True)
    return folder
