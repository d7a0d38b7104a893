"""Several ranks train as one process does, end as one process does, and leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq.data.demo import builtin_pairs

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
    "decoding.max_length_ratio=1.0",
    "decoding.max_length_offset=5",
    "decoding.beam_size=1",
    "data.holdout=4",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.en and corpus.de, 47 pairs, so that the last batch of an epoch is a small one."""
    folder = tmp_path_factory.mktemp("ranks")
    for side, name in enumerate(("corpus.en", "corpus.de")):
        lines = [pair[side] + "\n" for pair in builtin_pairs("demo", "train")[:55]]
        (folder / name).write_text("".join(lines), encoding="utf-8", newline="\n")
    return folder


def start(place: Path, run: str, *settings: str, **environment: str) -> subprocess.Popen[str]:
    """`seq2seq train` on the corpus as the user calls it."""
    files = ["--source", str(place / "corpus.en"), "--target", str(place / "corpus.de"), "-o", str(place / run)]
    command = [sys.executable, "-m", "seq2seq", "train", *files, *TINY, *settings]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "SEQ2SEQ_CACHE": str(place / "cache"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src"),
        **environment,
    }
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], seconds: float = 60.0) -> tuple[int, str]:
    """Exit code and what was said."""
    _, said = process.communicate(timeout=seconds)
    return process.returncode, said


def children(parent: int) -> list[int]:
    """Processes that `parent` has started, in their order."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def lines(folder: Path, kind: str = "train") -> list[dict[str, float]]:
    """The log of a run."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in map(json.loads, text.split("\n")[:-1]) if line["kind"] == kind]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds; fails with what was said where the process ends before."""
    deadline = time.monotonic() + 60.0
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tensors(checkpoint: Path) -> dict[str, bytes]:
    return {name: (checkpoint / name).read_bytes() for name in ("model.safetensors", "training.safetensors")}


SMALL = [
    "model.dropout=0",
    "model.attention_dropout=0",
    "training.batch_type=sentences",
    "training.batch_size=3",
    "training.validate_every=5",
]


@pytest.fixture(scope="module")
def curves(place: Path) -> dict[int, Path]:
    """The same run with 1, 2 and 4 ranks, dropout off; a batch has 3 pairs, fewer than 4 ranks."""
    runs = {}
    for count in (1, 2, 4):
        process = start(place, f"with{count}", *SMALL, "training.max_steps=10", "--devices", str(count))
        code, said = finish(process)
        assert code == 0, said
        runs[count] = place / f"with{count}"
    return runs


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_ranks(curves: dict[int, Path]) -> None:
    """Averaging the ranks' means would weigh the tokens of short rows more; a rank without a row would divide by 0."""
    for kind, names in (("train", ("loss", "perplexity", "gradient_norm", "epoch")), ("validation", ("loss",))):
        alone = lines(curves[1], kind)
        assert len(alone) == (10 if kind == "train" else 2)
        for count in (2, 4):
            together = lines(curves[count], kind)
            assert [line["step"] for line in together] == [line["step"] for line in alone]
            for mine, other in zip(alone, together, strict=True):
                for name in names:
                    assert other[name] == pytest.approx(mine[name], rel=1e-5), (count, mine["step"], name)
    results = [json.loads((curves[count] / "results.json").read_text())["test"]["sentences"] for count in (1, 2, 4)]
    assert results == [4, 4, 4]


@pytest.mark.slow
@pytest.mark.fault(30)
def test_ranks_are_resumed_by_another_number_with_a_warning(place: Path, curves: dict[int, Path]) -> None:
    """The machine with two GPUs is taken: on with one, the same batches. Without dropout the losses agree."""
    for before, after, warning in (
        (2, 1, "saved by 2 ranks and goes on with 1 rank"),
        (1, 2, "saved by 1 rank .* 2 ranks"),
    ):
        (curves[before] / "results.json").unlink()
        settings = (*SMALL, "training.max_steps=13", "--devices", str(after))
        code, said = finish(start(place, f"with{before}", *settings))
        assert code == 0, said
        assert re.search(f"warning: this run was {warning}.*dropout", said), said
    one, two = (lines(curves[count]) for count in (1, 2))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [*range(1, 14)]
    for mine, other in zip(one[10:], two[10:], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-6)


STOPPED = ["model.dropout=0.3", "training.batch_size=256", "training.max_steps=60", "training.validate_every=30"]


@pytest.mark.slow
@pytest.mark.fault(5)
def test_a_stopped_run_of_two_ranks_ends_in_the_same_bits(place: Path) -> None:
    """Dropout on: each rank has random numbers of its own, which the checkpoint of rank 0 must hold as well."""
    code, said = finish(start(place, "whole", *STOPPED, "--devices", "2"))
    assert code == 0, said
    process = start(place, "stopped", *STOPPED, "--devices", "2")
    wait_for(lambda: len(lines(place / "stopped")) >= 7, process)
    process.terminate()
    code, said = finish(process)
    assert code == 128 + signal.SIGTERM, said
    assert said.count("stopped by SIGTERM, saved step") == 1, said
    assert "Traceback" not in said
    before = len(lines(place / "stopped"))
    assert 7 <= before < 60
    in_a_look = {"SEQ2SEQ_FAILPOINTS": "validation.begin=term"}
    code, said = finish(start(place, "stopped", *STOPPED, "--devices", "2", **in_a_look))
    assert code == 128 + signal.SIGTERM, said
    assert f"resuming from step {before}" in said
    assert "stopped by SIGTERM, saved step 30" in said
    assert "validation" not in said
    code, said = finish(start(place, "stopped", *STOPPED, "--devices", "2"))
    assert code == 0, said
    assert "resuming from step 30" in said
    assert len(lines(place / "stopped", "validation")) == 2
    ends = [place / name / "checkpoints" / "last" for name in ("whole", "stopped")]
    assert tensors(ends[0]) == tensors(ends[1])
    curves = [[(line["step"], line["loss"]) for line in lines(place / name)] for name in ("whole", "stopped")]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.fault(10)
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_is_named_and_takes_the_others_along(place: Path, number: int) -> None:
    endless = ["model.dropout=0.3", "training.max_steps=100000", "training.validate_every=100000"]
    process = start(place, f"killed{number}", *endless, "--devices", "2")
    wait_for(lambda: bool(lines(place / f"killed{number}")), process)
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[number], signal.SIGKILL)
    code, said = finish(process, 30.0)
    assert code == 8, said
    assert said.count("error: ") == 1
    assert f"rank {number} of 2 was killed by SIGKILL" in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


@pytest.mark.slow
def test_the_ranks_end_with_the_process_that_started_them(place: Path) -> None:
    """Nor do they leave anything: each kill of a launcher left a folder for good."""
    (place / "tmp").mkdir()
    endless = ["model.dropout=0.3", "training.max_steps=100000", "training.validate_every=100000"]
    process = start(place, "orphans", *endless, "--devices", "2", TMPDIR=str(place / "tmp"))
    wait_for(lambda: bool(lines(place / "orphans")), process)
    ranks = children(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20.0
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list((place / "orphans" / "checkpoints").glob("step-*/manifest.json"))) == 1
    assert list((place / "tmp").glob("seq2seq-*")) == []


@pytest.mark.slow
def test_ranks_that_disagree_end_with_one_line(place: Path) -> None:
    """As torchrun would start them, each with settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        start(place, "differ", f"seed={1 + rank}", **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in (0, 1)
    ]
    ends = [finish(process) for process in processes]
    assert [code for code, _ in ends] == [2, 2], ends
    said = "".join(said for _, said in ends)
    assert said.count("error: ") == 1, said
    assert re.search(r"error: rank 1 on \S+ has another config than rank 0: .*seed", said), said
    assert "hint: start every rank with the same command" in said
    assert "Traceback" not in said
    assert not (place / "differ").exists()
