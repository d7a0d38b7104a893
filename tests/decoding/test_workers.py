"""Processes side by side give what one gives, and end whatever happens to them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from seq2seq import console
from seq2seq.config import DecodingSettings
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.translator import TranslationOptions, Translator
from seq2seq.decoding.workers import (
    Parallelism,
    PoolCache,
    ProcessPool,
    SerialPool,
    ThreadPool,
    can_fork,
    map_parts,
    open_pool,
)
from seq2seq.errors import DivergenceError, WorkerError
from tests.decoding.tiny_models import RecurrentModel, letters

pytestmark = pytest.mark.skipif(not can_fork(), reason="forks on Linux only")
GREEDY = SearchOptions(beam_size=1)
TWO = Parallelism(2, always_fork=True)


class Echo(Engine):
    """Answers with the source; some first tokens make it misbehave."""

    max_source_length = max_target_length = None
    FAIL, BUG, DIE, SLEEP, SLOW = 91, 92, 93, 94, 95

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        match sentences[0].ids[0]:
            case self.FAIL:
                raise DivergenceError("not a number", where="here", hint="there")
            case self.BUG:
                raise RuntimeError("the cat sat on the keyboard")
            case self.DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            case self.SLEEP:
                os.write(1, b"asleep\n")
                time.sleep(600)
            case self.SLOW:
                time.sleep(0.03)
        process = float(os.getpid())
        weights = torch.ones(2, 3) if options.with_attention else None
        return [[Hypothesis(sentence.ids, process, torch.get_num_threads(), weights)] for sentence in sentences]


def sentences(*firsts: int) -> list[Sentence]:
    return [Sentence([first, 5, 6]) for first in firsts]


def engine() -> NativeEngine:
    return NativeEngine(RecurrentModel(14, seed=1), torch.device("cpu"), "fp32")


@pytest.mark.parametrize(
    "parallelism", [Parallelism(), TWO, Parallelism(3, always_fork=True), Parallelism(threads=2)], ids=str
)
def test_every_pool_gives_the_same(parallelism: Parallelism) -> None:
    lines = ["abc" * (n % 7) for n in range(300)]
    settings = DecodingSettings(batch_sentences=16, max_length_offset=4)
    options = TranslationOptions(SearchOptions(beam_size=3, n_best=2, max_length_offset=4))
    made = Translator(engine(), letters(), settings, parallelism=parallelism)
    expected = list(Translator(engine(), letters(), settings).stream(lines, options))
    assert list(made.stream(lines, options)) == expected
    assert made.translate(lines[:3]) == [found[0].text for found in expected[:3]]


def test_batches_are_shared_and_come_back_in_order() -> None:
    pool = ProcessPool(Echo().search, 3)
    try:
        jobs = [pool.submit(sentences(Echo.SLOW, number, 7), GREEDY) for number in range(40)]
        found = [job.result() for job in jobs]
    finally:
        pool.close()
    expected = [[sentence.ids for sentence in sentences(Echo.SLOW, number, 7)] for number in range(40)]
    assert [[row[0].tokens for row in answer] for answer in found] == expected
    processes = {answer[0][0].score for answer in found}
    assert len(processes) == 3
    assert os.getpid() not in processes
    assert {answer[0][0].log_probability for answer in found} == {1}  # threads
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


def test_large_messages_both_ways_do_not_block() -> None:
    """A pipe holds some 64 kB: a parent that writes while nobody reads waits for ever."""
    long = Sentence(list(range(100_000)))
    pool = ProcessPool(Echo().search, 2)
    try:
        jobs = [pool.submit([long] * 10, GREEDY) for _ in range(8)]
        assert all(job.result()[9][0].tokens == long.ids for job in jobs)
    finally:
        pool.close()


def test_attention_travels() -> None:
    pool = ProcessPool(Echo().search, 1)
    try:
        found = pool.submit(sentences(4), GREEDY._replace(with_attention=True)).result()
    finally:
        pool.close()
    torch.testing.assert_close(found[0][0].attention, torch.ones(2, 3))


def test_errors_of_the_engine_arrive_as_they_were() -> None:
    for first, kind, text in (
        (Echo.FAIL, DivergenceError, "here"),
        (Echo.BUG, RuntimeError, "worker"),
    ):
        with open_pool(Echo(), TWO, 0) as pool, pytest.raises(kind) as caught:
            pool.submit(sentences(first), GREEDY).result()
        assert text in str(caught.value)
    assert "the cat sat" in str(caught.value.__cause__)


def test_a_worker_that_dies_is_named() -> None:
    with open_pool(Echo(), TWO, 0) as pool, pytest.raises(WorkerError, match="SIGKILL") as caught:
        _ = [job.result() for job in [pool.submit(sentences(first), GREEDY) for first in (4, 5, Echo.DIE, 6)]]
    assert caught.value.exit_code == 8
    assert "memory" in str(caught.value.hint)


def test_workers_end_with_the_parent_in_the_middle_of_a_search(tmp_path: Path) -> None:
    """A killed parent must leave no process behind that computes for nobody."""
    code = f"""
import sys, time
sys.path[:] = {[str(Path(__file__).parents[2]), *sys.path]!r}
from tests.decoding.test_workers import *
pool = ProcessPool(Echo().search, 2)
print(*[worker.process.pid for worker in pool._workers], flush=True)
input()
[job.result() for job in [pool.submit(sentences(4), GREEDY) for _ in range(4)]]
[pool.submit(sentences(Echo.SLEEP), GREEDY) for _ in range(4)]
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        workers = [int(number) for number in parent.stdout.readline().split()]
        assert len(workers) == 2
        for worker in workers:  # Ctrl-C at a terminal reaches them too, and is not theirs
            os.kill(worker, signal.SIGINT)
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert [parent.stdout.readline() for _ in workers] == ["asleep\n"] * 2
        parent.kill()
        assert parent.stdout.read() == ""  # the end of the pipe, which the last worker closes when it ends


def test_a_stream_that_is_given_up_ends_its_workers() -> None:
    made = Translator(engine(), letters(), DecodingSettings(max_length_offset=2), parallelism=TWO)
    stream = made.stream_chunks(["ab"] * 2100)
    assert len(next(stream)) == 1024
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = len(children.read_text().split())
    stream.close()  # type: ignore[attr-defined]
    assert len(children.read_text().split()) == before - 2


def test_short_texts_are_not_worth_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [threading.current_thread()]  # other tests may have left a thread behind
    monkeypatch.setattr(threading, "enumerate", lambda: alone)
    with open_pool(Echo(), Parallelism(2), 10) as pool:
        assert isinstance(pool, SerialPool)
    with open_pool(Echo(), Parallelism(2), 100_000) as pool:
        assert isinstance(pool, ProcessPool)
    alone.append(threading.Thread())  # it may hold a lock, which would stay held in a fork for ever
    with open_pool(Echo(), Parallelism(2), 100_000) as pool:
        assert isinstance(pool, SerialPool)
    with open_pool(Echo(), Parallelism(1, always_fork=True), 100_000) as pool:
        assert isinstance(pool, SerialPool)
    with open_pool(Echo(), Parallelism(threads=1), 10) as pool:
        assert isinstance(pool, ThreadPool)
        assert pool.submit(sentences(7), GREEDY).result()[0][0].tokens == [7, 5, 6]


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_workers_are_kept_from_text_to_text_as_long_as_they_are_good_for_it() -> None:
    """Each text forked its own, whose memory had to grow again: a fifth of the time of 1,000 lines."""
    before, made = (
        children(),
        Translator(engine(), letters(), DecodingSettings(max_length_offset=2), parallelism=TWO),
    )
    first = made.translate(["ab"] * 9)
    workers = children() - before
    assert len(workers) == 2
    assert made.translate(["ab"] * 9) == first
    assert children() - before == workers
    os.kill(int(min(workers)), signal.SIGKILL)  # one dies while there is nothing to do
    os.waitid(os.P_PID, int(min(workers)), os.WEXITED | os.WNOWAIT)
    assert made.translate(["ab"] * 9) == first
    assert len(children() - before - workers) == 2
    workers = children() - before
    with torch.no_grad():
        for parameter in made.engine.model.parameters():  # type: ignore[attr-defined]
            parameter.mul_(-1.0)
    assert (
        made.translate(["ab"] * 9) == Translator(made.engine, letters(), made.settings).translate(["ab"] * 9) != first
    )
    assert children() - before
    assert not children() & workers
    made.close()
    assert children() == before


def test_two_texts_at_a_time_have_workers_of_their_own() -> None:
    before, made = (
        children(),
        Translator(engine(), letters(), DecodingSettings(max_length_offset=2), parallelism=TWO),
    )
    one, other = made.stream_chunks(["ab"] * 1200), made.stream_chunks(["ab"] * 1200)
    assert next(one) == next(other)
    assert len(children() - before) == 4
    assert list(one) == list(other)
    assert len(children() - before) == 2
    del made, one, other
    assert children() == before


def test_many_short_texts_are_prepared_for_as_a_long_one_but_searched_in_this_process() -> None:
    prepared: list[int] = []

    class Noted(Echo):
        def prepare(self, characters: int) -> None:
            prepared.append(characters)

    for parallelism in (Parallelism(2), Parallelism(2, many_texts=True)):
        with PoolCache(Noted(), parallelism).open(20) as pool:
            assert isinstance(pool, SerialPool)
        with open_pool(Noted(), parallelism, 20) as pool:
            assert isinstance(pool, SerialPool)
    assert prepared[:2] == [20, 20]
    assert min(prepared[2:]) >= 1_000_000


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have left a thread behind, beside which no process is forked."""
    here = [threading.current_thread()]
    monkeypatch.setattr(threading, "enumerate", lambda: here)


@pytest.mark.parametrize("parallelism", [Parallelism(), Parallelism(2), Parallelism(threads=1)], ids=str)
def test_parts_come_back_in_order(parallelism: Parallelism, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)

    def square(number: int) -> tuple[int, int]:
        time.sleep(0.01 * (number % 2))
        return number * number, os.getpid()

    for always_fork in (False, True):
        for count in (0, 1, 30):
            found = list(map_parts(square, range(count), parallelism._replace(always_fork=always_fork)))
            assert [result for result, _ in found] == [number * number for number in range(count)]
            processes = {process for _, process in found} - {os.getpid()}
            assert bool(processes) == (parallelism.processes > 1 and count > 1)
    with pytest.raises(ZeroDivisionError if parallelism.processes == 1 else RuntimeError):
        list(map_parts(lambda number: 1 // number, [2, 1, 0, 1], parallelism))


def test_parts_are_not_read_ahead_without_workers() -> None:
    """A pipe that waits for its answers would wait for ever."""
    read: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(3):
            read.append(number)
            yield number

    results = map_parts(lambda number: number, parts(), Parallelism())
    assert next(results) == 0
    assert read == [0]


def test_scores_of_the_workers_are_those_of_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(monkeypatch)
    monkeypatch.setattr(Parallelism, "scored_pairs", 16)
    made = engine()
    scorer = Scorer(made.model, letters(), DecodingSettings(), torch.device("cpu"))
    pairs = [("abc" * (n % 5), "ba" * (n % 7)) for n in range(100)]
    with_workers, without = (
        Translator(made, letters(), DecodingSettings(), scorer=scorer, parallelism=parallelism)
        for parallelism in (Parallelism(2), Parallelism())
    )
    before = children()
    scores = with_workers.score(iter(pairs))
    found = [next(scores)]
    assert len(children() - before) == 2
    found += scores
    assert children() == before
    assert [score._replace(log_probability=0.0, token_scores=()) for score in found] == [
        score._replace(log_probability=0.0, token_scores=()) for score in scorer.score(pairs)
    ]
    expected = list(without.score(pairs))
    assert [score.log_probability for score in found] == pytest.approx([score.log_probability for score in expected])


def test_a_single_process_takes_all_threads_for_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for parallelism, parts, threads in (
        (Parallelism(1, short_text_threads=1), 3, 7),
        (Parallelism(2, short_text_threads=1), 1, 1),
    ):
        list(map_parts(lambda number: number, range(parts), parallelism))
        assert chosen[::2] == [threads] * parts
        chosen.clear()


def test_a_daemon_computes_itself() -> None:
    """Python refuses children to it."""
    here = multiprocessing.get_context("fork").SimpleQueue()

    def compute() -> None:
        here.put(list(map_parts(lambda number: 2 * number, range(3), TWO)))

    process = multiprocessing.get_context("fork").Process(target=compute, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0  # else nothing was put there, and `get` would wait for ever
    assert here.get() == [0, 2, 4]


def test_messages_of_workers_are_printed_by_the_parent_in_the_order_of_the_parts(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker that is killed while it prints would keep the lock of the parent's bars for ever."""
    alone(monkeypatch)

    def warned(number: int) -> int:
        console.warn(f"part {number} is odd")
        return number

    results = map_parts(warned, range(9), Parallelism(2))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert capfd.readouterr().err.splitlines() == [f"warning: part {number} is odd" for number in range(3)]
