"""Several ranks train as one process does, end as one process does, and leave nothing behind."""

from __future__ import annotations

import json
import multiprocessing
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
import torch
from torch import nn

from seq2seq.config import Config, load_config
from seq2seq.data.builtin import builtin_pairs
from seq2seq.errors import ConfigError, DataError, WorkerError
from seq2seq.experiment.launch import launch
from seq2seq.experiment.layout import Layout, layout
from seq2seq.training import gradient_sum
from seq2seq.training.distributed import Ranks

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
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"),
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


# -- ranks alone -------------------------------------------------------------------------------------------------------


def exchange(config: Config) -> None:
    """What every rank does in `test_ranks_exchange_sums_texts_and_gradients`; failures end the rank."""
    torch.set_num_threads(1)
    ranks = Ranks.start("cpu")
    with ranks.joined():
        assert ranks.sum_host([1.0, 2.0**52 * ranks.rank]) == [ranks.size, 2.0**52 * sum(range(ranks.size))]
        for count in (0, 1, ranks.size, 2 * ranks.size + 1):
            texts = ["", "Käse \u2028", "x" * 300, "\n", "日本"] * 3
            texts = texts[:count]
            assert ranks.gather_texts(texts[ranks.rank :: ranks.size]) == texts
        assert [int(part) for part in ranks.gather(torch.tensor(ranks.rank))] == list(range(ranks.size))
        ranks.agree("seed", "1")
        order: list[int] = []
        with ranks.first_alone("place"):
            order.append(ranks.rank)
        made: list[str] = []
        new_file = gradient_sum._new_file
        gradient_sum._new_file = lambda size: made.append(new_file(size)) or made[-1]
        for memory in (gradient_sum._MEMORY, Path("/nowhere")):
            gradient_sum._MEMORY = memory
            check_gradients(ranks)
        assert len(made) == (2 if ranks.is_first else 0)
        assert not [name for name in made if name and Path(name).exists()]


def check_gradients(ranks: Ranks) -> None:
    """Gradients are sums over ranks, equal on all of them, frozen parameters left out."""
    torch.manual_seed(1 + ranks.rank)  # `wrap` gives all the weights of rank 0
    module = nn.Sequential(nn.Linear(5, 33), nn.Linear(33, 3), nn.Linear(3, 2))
    module[1].weight.requires_grad_(False)
    wrapped = ranks.wrap(module)
    torch.manual_seed(0)
    for _ in range(3):
        rows = torch.randn(8, 5)
        module.zero_grad(set_to_none=True)
        wrapped(rows[ranks.rank :: ranks.size]).square().sum().backward()
        found = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
        assert len(found) == 5
        for gradient in found:
            assert all(torch.equal(gradient, other) for other in ranks.gather(gradient))
        module.zero_grad(set_to_none=True)
        module(rows).square().sum().backward()
        whole = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        for gradient, expected in zip(found, whole, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_exchange_sums_texts_and_gradients(count: int) -> None:
    launch(exchange, Config(), Layout(count, 1))


def test_one_process_exchanges_nothing() -> None:
    ranks = Ranks.single()
    assert (ranks.sum_host([1, 2.5]), ranks.gather_texts(["a", "b"]), ranks.share) == ([1.0, 2.5], ["a", "b"], (0, 1))
    module = nn.Linear(2, 2)
    assert ranks.wrap(module) is module
    with ranks.joined(), ranks.first_alone("place"):
        ranks.agree("seed", "1")
        ranks.barrier()


def fail(config: Config) -> None:
    """Rank 1 fails as the config's name says while the others wait for it."""
    ranks = Ranks.start("cpu")
    with ranks.joined():
        if ranks.rank == 1:
            match config.name:
                case "user":
                    raise DataError("a bad line", where="corpus.en:7", hint="mend it")
                case "bug":
                    raise ValueError("oops")
                case "exit":
                    os._exit(3)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    os.kill(os.getpid(), signal.SIGSTOP)
        ranks.agree("data", str(ranks.rank) if config.name == "differ" else "same")
        ranks.barrier()


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("user", DataError, r"^a bad line\n  --> corpus.en:7\n  hint: mend it$"),
        ("bug", RuntimeError, "^rank 1: ValueError: oops$"),
        ("exit", WorkerError, "rank 1 of 2 ended with exit code 3"),
        ("kill", WorkerError, "rank 1 of 2 was killed by SIGKILL"),
        pytest.param("hang", WorkerError, "rank 1 of 2 does not answer", marks=pytest.mark.fault(11)),
        ("differ", ConfigError, "rank 1 on .* has another data than rank 0: 1, not 0"),
    ],
)
def test_the_failure_of_a_rank_is_raised_here_once(
    how: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's launcher shows a table and a traceback, and names whichever rank it saw first."""
    monkeypatch.setenv("SEQ2SEQ_RANK_TIMEOUT", "2" if how == "hang" else "60")
    started = time.monotonic()
    with pytest.raises(kind, match=message) as caught:
        launch(fail, Config(name=how), Layout(2, 1))
    assert type(caught.value) is kind
    assert time.monotonic() - started < 30.0
    assert not multiprocessing.active_children()


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cpu = ["device=cpu"]
    assert layout(load_config([], [*cpu, "devices=4"])) == Layout(4, 1)
    assert layout(load_config([], [*cpu, "devices=2", "threads=3"])) == Layout(2, 3)
    assert layout(load_config([], [*cpu, "devices=1"])) == Layout(1, 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert layout(load_config([], ["device=cuda"])).ranks == 2
    assert layout(load_config([], ["device=cuda:1"])).ranks == 1
    for wrong in (["devices=3"], ["device=cuda:1", "devices=2"]):
        with pytest.raises(ConfigError, match="devices: "):
            layout(load_config([], wrong))


# -- whole runs --------------------------------------------------------------------------------------------------------


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
    endless = ["model.dropout=0.3", "training.max_steps=100000", "training.validate_every=100000"]
    process = start(place, "orphans", *endless, "--devices", "2")
    wait_for(lambda: bool(lines(place / "orphans")), process)
    ranks = children(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20.0
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list((place / "orphans" / "checkpoints").glob("step-*/manifest.json"))) == 1


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
