"""Several ranks train as one process does, end as one process does, and leave nothing behind."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from seq2seq.config import Config, load_config
from seq2seq.data.demo import builtin_pairs
from seq2seq.distributed.launch import launch
from seq2seq.distributed.placement import Placement
from seq2seq.errors import ConfigError
from seq2seq.resumable_output import open_output
from seq2seq.runs.lock import locked
from tests.children import LIMIT_SECONDS, Child, Outcome, is_gone, is_stopped
from tests.cli.conftest import checkpoint_of
from tests.parallel_text import write_pairs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tests look into /proc")

TINY = [
    "tokenizer.vocabulary_size=400",
    "model.hidden_size=32",
    "model.ff_size=64",
    "model.num_heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "training.precision=fp32",
    "training.accumulation_steps=2",
    "training.log_every=1",
    "training.average_checkpoints=1",
    "training.metric=loss",
    "decoding.max_length_ratio=0.2",
    "decoding.max_length_offset=3",
    "decoding.beam_size=1",
    "data.holdout=4",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.en and corpus.de, 47 pairs, so that the last batch of an epoch is a small one."""
    folder = tmp_path_factory.mktemp("ranks")
    write_pairs(folder, builtin_pairs("demo", "train")[:55])
    return folder


def training(place: Path, run: str, *settings: str) -> list[object]:
    """Arguments of `seq2seq train` on the corpus."""
    files = ("--source", place / "corpus.en", "--target", place / "corpus.de", "-o", place / run)
    return ["train", *files, *TINY, *settings]


def start(place: Path, run: str, *settings: str, **environment: str) -> Child:
    """`seq2seq train` on the corpus, started."""
    variables = {"SEQ2SEQ_CACHE": str(place / "cache"), **environment}
    name = f"{run}-{environment.get('RANK', '')}.log"
    return Child(*training(place, run, *settings), folder=place / name, environment=variables)


def train(place: Path, run: str, *settings: str, **environment: str) -> Outcome:
    """The same to its end."""
    with start(place, run, *settings, **environment) as child:
        return child.end()


def lines(folder: Path, kind: str = "train") -> list[dict[str, float]]:
    """The log of a run."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in map(json.loads, text.split("\n")[:-1]) if line["kind"] == kind]


def tensors(checkpoint: Path) -> dict[str, bytes]:
    return {name: (checkpoint / name).read_bytes() for name in ("model.safetensors", "training.safetensors")}


SMALL = [
    "model.dropout=0",
    "model.attention_dropout=0",
    "training.batch_type=sentences",
    "training.batch_size=3",
    "training.validate_every=3",
]


@pytest.mark.slow
@pytest.mark.fault(30)
def test_losses_do_not_depend_on_the_number_of_ranks(place: Path) -> None:
    """Averaging the ranks' means would weigh the tokens of short rows more; a rank without a row would divide by 0.

    A batch has 3 pairs, fewer than 4 ranks. Another number of ranks resumes a run with a warning and the same batches.
    """
    runs = {count: place / f"with{count}" for count in (1, 2, 4)}
    for count, run in runs.items():
        outcome = train(place, run.name, *SMALL, "training.max_steps=6", "--devices", str(count))
        assert outcome.code == 0, outcome.err
    for kind, names in (("train", ("loss", "perplexity", "gradient_norm", "epoch")), ("validation", ("loss",))):
        alone = lines(runs[1], kind)
        assert len(alone) == (6 if kind == "train" else 2)
        for count in (2, 4):
            together = lines(runs[count], kind)
            assert [line["step"] for line in together] == [line["step"] for line in alone]
            for mine, other in zip(alone, together, strict=True):
                for name in names:
                    assert other[name] == pytest.approx(mine[name], rel=1e-5), (count, mine["step"], name)
    for run in runs.values():
        assert json.loads((run / "results.json").read_text())["test"]["sentences"] == 4

    for before, after, warning in (
        (2, 1, "saved by 2 ranks and goes on with 1 rank"),
        (1, 2, "saved by 1 rank .* 2 ranks"),
    ):
        (runs[before] / "results.json").unlink()
        outcome = train(place, runs[before].name, *SMALL, "training.max_steps=8", "--devices", str(after))
        assert outcome.code == 0, outcome.err
        assert re.search(f"warning: this run was {warning}.*dropout", outcome.err), outcome.err
    one, two = (lines(runs[count]) for count in (1, 2))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [*range(1, 9)]
    for mine, other in zip(one[6:], two[6:], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-6)


@pytest.mark.slow
def test_a_fine_tuning_does_not_depend_on_the_number_of_ranks(place: Path) -> None:
    """Old pairs among the new ones, new entries in the vocabulary, and scores before and after."""
    assert train(place, "base", *SMALL, "training.max_steps=2").code == 0
    (place / "new.ru").write_text("Кошка спит.\nСобака ест.\n" * 27 + "Кошка.\n", encoding="utf-8", newline="\n")
    sources = f"data.train=[{{source: {place / 'corpus.en'}, target: {place / 'new.ru'}}}]"
    more = [*SMALL, sources, "tokenizer.extend=true", "training.max_steps=4"]
    for count in (1, 2):
        start = f"training.init_from={place / 'base'}"
        outcome = train(place, f"tuned{count}", *more, start, "--devices", str(count))
        assert outcome.code == 0, outcome.err
        assert "earlier pairs in each epoch" in outcome.err
    one, two = (place / f"tuned{count}" for count in (1, 2))
    for mine, other in zip(lines(one), lines(two), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
    first, second = (json.loads((run / "results.json").read_text()) for run in (one, two))
    assert first["start"] == second["start"]
    assert first["start"]["old_test"]["sentences"] == 4


STOPPED = [
    "model.dropout=0.3",
    "training.batch_size=256",
    "training.max_steps=16",
    "training.validate_every=8",
    "training.schedule.warmup_steps=2",
    "--devices",
    "2",
]


@pytest.mark.slow
@pytest.mark.fault(5)
def test_a_stopped_run_of_two_ranks_ends_in_the_same_bits(place: Path) -> None:
    """Dropout on: each rank has random numbers of its own, which the checkpoint of rank 0 must hold as well."""
    whole = train(place, "whole", *STOPPED)
    assert whole.code == 0, whole.err

    with start(place, "stopped", *STOPPED, SEQ2SEQ_FAILPOINTS="step.begin=stop@5") as child:
        child.wait_for(lambda: len(child.children()) == 2 and all(is_stopped(rank) for rank in child.children()))
        ranks = child.children()
        child.send(signal.SIGTERM)  # the ranks get it once they go on
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
        outcome = child.end()
    assert outcome.code == 128 + signal.SIGTERM, outcome.err
    assert outcome.err.count("stopped by SIGTERM, saved step") == 1, outcome.err
    assert "Traceback" not in outcome.err
    before = len(lines(place / "stopped"))
    assert 4 <= before < 8

    outcome = train(place, "stopped", *STOPPED, SEQ2SEQ_FAILPOINTS="validation.begin=term")
    assert outcome.code == 128 + signal.SIGTERM, outcome.err
    assert f"resuming from step {before}" in outcome.err
    assert "stopped by SIGTERM, saved step 8" in outcome.err
    assert "validation" not in outcome.err

    outcome = train(place, "stopped", *STOPPED)
    assert outcome.code == 0, outcome.err
    assert "resuming from step 8" in outcome.err
    assert len(lines(place / "stopped", "validation")) == 2
    ends = [checkpoint_of(place / name, "last") for name in ("whole", "stopped")]
    assert tensors(ends[0]) == tensors(ends[1])
    curves = [[(line["step"], line["loss"]) for line in lines(place / name)] for name in ("whole", "stopped")]
    assert curves[0] == curves[1]


ENDLESS = [
    "model.dropout=0.3",
    "training.max_steps=100000",
    "training.validate_every=100000",
    "--devices",
    "2",
]


@pytest.mark.slow
@pytest.mark.fault(10)
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_is_named_and_takes_the_others_along(place: Path, number: int) -> None:
    with start(place, f"killed{number}", *ENDLESS) as child:
        child.wait_for(lambda: lines(place / f"killed{number}"))
        ranks = child.children()
        assert len(ranks) == 2
        os.kill(ranks[number], signal.SIGKILL)
        outcome = child.end()
    assert outcome.code == 8, outcome.err
    assert outcome.err.count("error: ") == 1
    assert f"rank {number} of 2 was killed by SIGKILL" in outcome.err
    assert "Traceback" not in outcome.err
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in path.read_text().split()] if path.exists() else []
    return [*children, *(each for child in children for each in descendants(child))]


@pytest.mark.slow
@pytest.mark.fault(52)
def test_ranks_and_their_loaders_end_with_the_process_that_started_them(place: Path) -> None:
    """A rank that waited for the other, which had ended already, stayed for good: the same command found the run in use
    by a process that did nothing. Each kill of a launcher left a folder, too."""
    (place / "tmp").mkdir()
    with start(place, "orphans", *ENDLESS, "training.num_workers=1", TMPDIR=str(place / "tmp")) as child:
        child.wait_for(lambda: lines(place / "orphans"))
        child.wait_for(lambda: len(descendants(child.pid)) == 4)  # each rank has a loader, and a new one each epoch
        started = descendants(child.pid)
        child.send(signal.SIGKILL)
        child.end()
    deadline = time.monotonic() + LIMIT_SECONDS
    while not all(map(is_gone, started)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with locked(place / "orphans"):
        pass
    assert list((place / "tmp").glob("seq2seq-*")) == []


@pytest.mark.slow
def test_ranks_that_disagree_end_with_one_line(place: Path) -> None:
    """As torchrun would start them, each with settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (
        start(place, "differ", "seed=1", **shared, RANK="0", LOCAL_RANK="0") as first,
        start(place, "differ", "seed=2", **shared, RANK="1", LOCAL_RANK="1") as second,
    ):
        ends = [first.end(), second.end()]
    assert [outcome.code for outcome in ends] == [2, 2], ends
    said = "".join(outcome.err for outcome in ends)
    assert said.count("error: ") == 1, said
    assert re.search(r"error: rank 1 on \S+ has another config than rank 0: .*seed", said), said
    assert "hint: start every rank with the same command" in said
    assert "Traceback" not in said
    assert not (place / "differ").exists()


def fail_at_length(config: Config, placement: Placement) -> None:
    """Work of a rank, which raises an error with a long text."""
    raise ConfigError("x" * 200_000)


def test_an_error_with_a_long_text_reaches_the_parent() -> None:
    """A report that was larger than a pipe holds kept its rank, and the training, waiting without end."""
    config = load_config([], ["data.train=[{builtin: demo}]"])
    with pytest.raises(ConfigError) as caught:
        launch(fail_at_length, config, Placement(torch.device("cpu"), 2, 1))
    assert caught.value.what == "x" * 200_000


def test_a_file_system_without_locks_is_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        assert "cannot be locked" in capsys.readouterr().err
    with open_output(tmp_path / "out", {}) as output:
        output.write("line\n", [], {})
    assert (tmp_path / "out").read_text() == "line\n"
