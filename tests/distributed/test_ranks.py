"""What ranks exchange, and how the failure of one is told."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import _set_pg_timeout as set_timeout

from seq2seq.config import Config, load_config
from seq2seq.distributed import failures
from seq2seq.distributed import gradients as gradient_sum
from seq2seq.distributed import launch as launcher
from seq2seq.distributed.launch import launch
from seq2seq.distributed.placement import Placement, place
from seq2seq.distributed.ranks import Ranks
from seq2seq.distributed.rendezvous import _interface_to, agree_on_attempt
from seq2seq.errors import ConfigError, DataError, UsageError, WorkerError
from tests.children import LIMIT_SECONDS, called

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tests look into /proc")


def exchange(config: Config, placement: Placement) -> None:
    """What every rank does in `test_ranks_exchange_sums_texts_and_gradients`; failures end the rank."""
    torch.set_num_threads(1)
    ranks = Ranks.start("cpu")
    with ranks.membership():
        assert ranks.sum_host([1.0, 2.0**52 * ranks.rank]) == [ranks.size, 2.0**52 * sum(range(ranks.size))]
        for count in (0, 1, ranks.size, 2 * ranks.size + 1):
            texts = ["", "Käse \u2028 \udce4", "x" * 300, "\n", "日本"] * 3
            texts = texts[:count]
            assert ranks.gather_texts(texts[ranks.rank :: ranks.size]) == texts
        assert ranks.from_first(f"rank {ranks.rank}") == "rank 0"
        assert [int(part) for part in ranks.gather(torch.tensor(ranks.rank))] == list(range(ranks.size))
        ranks.require_equal("seed", "1")
        order: list[int] = []
        with ranks.first_then_others("place"):
            order.append(ranks.rank)
        check_memory_of_gradients(ranks)


def check_memory_of_gradients(ranks: Ranks) -> None:
    """It has no name, so that nothing is left of a killed run: a file in /dev/shm could stay, and the machine had that
    much less memory until somebody looked. Where a rank may not open it, or there is none, messages do."""
    check_gradients(ranks, "/memfd:seq2seq-gradients (deleted)")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(os, "memfd_create")  # a Python built for an old system
        check_gradients(ranks, "/dev/shm/#")
    with pytest.MonkeyPatch.context() as patch:
        mapped = gradient_sum._map_memory
        patch.setattr(gradient_sum, "_map_memory", lambda *all_: None if ranks.rank == 1 else mapped(*all_))
        check_gradients(ranks, None)
        patch.setattr(gradient_sum, "free_memory", lambda device: 0)
        check_gradients(ranks, None)
    assert not [place for place in Path("/proc/self/fd").glob("*") if "seq2seq-gradients" in os.path.realpath(place)]


def check_gradients(ranks: Ranks, memory: str | None) -> None:
    """Gradients are sums over ranks, equal on all of them, frozen parameters left out; they met in this `memory`."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while shared_mappings():  # those of the module before go with it, once the threads of gloo have let go of it
        assert time.monotonic() < deadline
        gc.collect()
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
    shared = shared_mappings()
    assert [memory in line for line in shared] == ([] if memory is None else [True]), shared


def shared_mappings() -> list[str]:
    """Memory that this process shares with others, semaphores aside."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if " rw-s " in line and "/sem." not in line]


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_exchange_sums_texts_and_gradients(count: int) -> None:
    called(launch, exchange, Config(), Placement(torch.device("cpu"), count, 1))


@pytest.mark.parametrize("text", ["soon", "0", "nan"])
def test_a_time_out_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback of every rank, or a run that gave itself up at once."""
    monkeypatch.setenv("SEQ2SEQ_RANK_TIMEOUT", text)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UsageError, match=f"^SEQ2SEQ_RANK_TIMEOUT={text} is not a number of seconds"):
        Ranks.start("cpu")


def test_a_restart_does_not_meet_the_attempt_before() -> None:
    """After `torchrun --max-restarts` keys of the dead ranks answered, and the new ones waited for each other."""
    store = dist.HashStore()
    names: list[set[str]] = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(agree_on_attempt, store, rank, 3, LIMIT_SECONDS) for rank in order]
            names.append({call.result() for call in calls})
    assert [len(each) for each in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3
    with pytest.raises(RuntimeError, match="did not meet within"):
        agree_on_attempt(store, 1, 3, 0.1)


def test_one_process_exchanges_nothing() -> None:
    ranks = Ranks.single()
    assert (ranks.sum_host([1, 2.5]), ranks.gather_texts(["a", "b"]), ranks.share) == ([1.0, 2.5], ["a", "b"], (0, 1))
    module = nn.Linear(2, 2)
    assert ranks.wrap(module) is module
    with ranks.membership(), ranks.first_then_others("place"):
        ranks.require_equal("seed", "1")
        ranks.barrier()


def fail(config: Config, placement: Placement) -> None:
    """Rank 1 fails as the config's name says while the others wait for it."""
    ranks = Ranks.start("cpu")
    if config.name == "hang":  # rank 1 answers nothing at all, however short the others wait
        set_timeout(timedelta(seconds=0.2), dist.group.WORLD)
        failures._ROLL_CALL_SECONDS = 0.2
    with ranks.membership():
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
        ranks.require_equal("data", str(ranks.rank) if config.name == "differ" else "same")
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
    monkeypatch.setenv("SEQ2SEQ_RANK_TIMEOUT", "300")
    raised, said, left = called(failure, how)
    assert raised == kind.__name__
    assert re.search(message, said), said
    assert left == 0


def failure(how: str) -> tuple[str, str, int]:
    """What `launch` raises when rank 1 fails, and the number of processes that are left."""
    launcher._LEAVING_SECONDS = 2.0 if how != "hang" else 0.2
    try:
        launch(fail, Config(name=how), Placement(torch.device("cpu"), 2, 1))
    except Exception as error:
        return type(error).__name__, str(error), len(multiprocessing.active_children())
    return "", "nothing was raised", 0


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cpu = ["device=cpu"]
    assert place(load_config([], [*cpu, "devices=4"]))[1:] == (4, 1)
    assert place(load_config([], [*cpu, "devices=2", "threads=3"]))[1:] == (2, 3)
    assert place(load_config([], [*cpu, "devices=1"]))[1:] == (1, 3)
    monkeypatch.setattr("seq2seq.distributed.placement.available_cores", lambda: 2)
    assert place(load_config([], [*cpu, "devices=8"])).ranks == 8
    with pytest.raises(ConfigError, match="devices: 9, and this process may use 2 cores"):
        place(load_config([], [*cpu, "devices=9"]))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert place(load_config([], ["device=cuda"])).ranks == 2
    assert place(load_config([], ["device=cuda:1"])).ranks == 1
    for wrong in (["devices=3"], ["device=cuda:1", "devices=2"]):
        with pytest.raises(ConfigError, match="devices: "):
            place(load_config([], wrong))


def test_the_interface_of_a_machine_with_several() -> None:
    """Debian resolves a machine's own name to its loopback interface, by which gloo cannot reach another machine."""
    names = {name for _, name in socket.if_nameindex()}
    assert _interface_to("127.0.0.1") == _interface_to("localhost") == "lo"
    assert _interface_to("::1") is None  # IPv6
    # By the way out where there is one, and never by the loopback interface.
    assert _interface_to("192.0.2.7") in (names - {"lo"}) | {None}
    assert _interface_to("127.0.1.1") in (names - {"lo"}) | {None}


class SilentStore:
    """A store behind a cable that was cut: no call returns before the end of the test."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def _wait(self, *_: object) -> bool:
        self.is_over.wait()
        return False

    set = check = add = compare_set = _wait


def test_a_store_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank at the other end of a cut cable waited for the store of rank 0 without end."""
    monkeypatch.setattr(failures, "_STORE_SECONDS", 0.05)
    store = SilentStore()
    lost = failures.Failures(1, 2, store)  # type: ignore[arg-type]
    try:
        with pytest.raises(failures.RankLostError, match="rank 0 of 2 does not answer"):
            lost.wait_for("data")
        with pytest.raises(failures.RankLostError, match="rank 0 of 2 does not answer"), lost.watched():
            raise RuntimeError("gloo: Timed out waiting 60000ms for recv operation to complete")
        assert lost.claim_report()
    finally:
        store.is_over.set()
