"""Processes side by side, each with an engine of one thread.

On a CPU small operators gain little from threads inside and nearly everything from processes side by side: two
processes of one thread translate two to three times as much as one of two threads. They are forked after the model is
loaded, so they share its memory and begin at once.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, NoReturn

import torch

from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.errors import UserError, WorkerError

Found = list[list[Hypothesis]]

_AT_HAND = 2
"""Batches that a worker holds: one at work, one to go on with."""


class _Task:
    """A batch on its way through the workers."""

    def __init__(self, pool: Workers, sentences: Sequence[Sentence], options: SearchOptions) -> None:
        self.message = (list(sentences), options)
        self.found: Found | None = None
        self._pool = pool

    def result(self) -> Found:
        """What the engine answered, in the order of the batch; waits for it. Raises what the engine raised."""
        while self.found is None:
            self._pool.attend(wait_for_news=True)
        return self.found


class _Worker(NamedTuple):
    number: int
    process: BaseProcess
    connection: Connection
    tasks: deque[_Task]
    """Sent and not yet answered, in order."""


class Workers:
    """Forked processes of one thread, each with the engine as it was when they began.

    Nobody watches them but the caller: news is taken in `submit` and `result`. They ignore Ctrl-C, which reaches the
    caller too, and end with it, however it ends.
    """

    ahead = 1
    """Windows of text that may wait here while an earlier one is finished."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.parallel = count
        """Batches that are searched at the same time."""
        self._owner = os.getpid()
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        with _interruptions_held():
            for number in range(1, count + 1):
                self._workers.append(self._fork(engine, number))

    def _fork(self, engine: Engine, number: int) -> _Worker:
        context = get_context("fork")
        ours, theirs = context.Pipe()
        others = [worker.connection for worker in self._workers]
        process = context.Process(target=_work, args=(engine, theirs, [ours, *others]), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads, those of numerical libraries included, which stand idle.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return _Worker(number, process, ours, deque())

    def submit(self, sentences: Sequence[Sentence], options: SearchOptions) -> _Task:
        """Have these searched for, as `Engine.search` would.

        Raises:
            WorkerError: a worker died.
        """
        task = _Task(self, sentences, options)
        self._waiting.append(task)
        self.attend()
        return task

    def attend(self, *, wait_for_news: bool = False) -> None:
        """Take the answers that have come, and give those who have made room something to do.

        Raises:
            WorkerError: a worker died.
            UserError: an engine raised it.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.tasks}
        while ready := wait(list(busy), timeout=None if wait_for_news else 0) if busy else []:
            for connection in ready:
                worker = busy[connection]  # type: ignore[index]
                worker.tasks[0].found = self._answer(worker)
                worker.tasks.popleft()
                if not worker.tasks:
                    del busy[worker.connection]
            wait_for_news = False
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) >= _AT_HAND:
                return
            task = self._waiting.popleft()
            try:
                # Does not block for long: the worker has a thread that does nothing but read.
                worker.connection.send(task.message)
            except OSError:
                raise _loss(worker) from None
            worker.tasks.append(task)

    def _answer(self, worker: _Worker) -> Found:
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            raise _loss(worker) from None
        if isinstance(answer, UserError):
            raise answer
        if isinstance(answer, str):
            raise RuntimeError(f"translation worker {worker.number} failed") from RuntimeError("\n" + answer)
        return _unpacked(*answer)

    def alive(self) -> bool:
        """Whether all are there and answer to this process, which is not so after it has been forked."""
        return os.getpid() == self._owner and all(worker.process.is_alive() for worker in self._workers)

    def close(self) -> None:
        """Drop what has not begun and end all processes; not in a fork of the one that they answer to."""
        if os.getpid() != self._owner:
            return
        for worker in self._workers:
            worker.process.kill()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers.clear()
        self._waiting.clear()


def _loss(worker: _Worker) -> WorkerError:
    process = worker.process
    process.join(timeout=5)
    code = process.exitcode
    if code is None or code >= 0:
        return WorkerError(
            f"translation worker {worker.number} ended (exit code {code})",
            hint="--workers 1",
            code="worker.translation",
        )
    hint = "out of memory, perhaps: a smaller --batch-size or fewer --workers" if -code == signal.SIGKILL else None
    name = signal.Signals(-code).name
    return WorkerError(
        f"translation worker {worker.number} was killed by {name}",
        hint=hint or "--workers 1 shows more",
        code="worker.translation",
    )


def _work(engine: Engine, connection: Connection, inherited: list[Connection]) -> None:
    """The life of a worker: searches until there is nobody left to answer to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for other in inherited:
        other.close()  # or nobody would notice that the parent is gone
    torch.set_num_threads(1)
    gc.freeze()  # what was there before the fork stays: collecting it would cost time and copy its pages
    with engine.unchanged():
        _serve(engine, connection)


def _serve(engine: Engine, connection: Connection) -> NoReturn:
    """Search for what comes."""
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, tasks), daemon=True).start()
    while True:
        sentences, options = tasks.get()
        answer: object
        try:
            answer = _packed(engine.search(sentences, options))
        except UserError as error:
            answer = error
        except Exception:
            answer = traceback.format_exc()
        with suppress(OSError):
            connection.send(answer)


def _packed(found: Found) -> tuple[Found, list[Any]]:
    """Hypotheses without attention, and that as arrays: torch pickles small tensors slowly."""
    if all(item.attention is None for row in found for item in row):
        return found, []
    attention = [None if item.attention is None else item.attention.cpu().numpy() for row in found for item in row]
    return [[item._replace(attention=None) for item in row] for row in found], attention


def _unpacked(found: Found, attention: list[Any]) -> Found:
    if not attention:
        return found
    weights = iter([None if array is None else torch.from_numpy(array) for array in attention])
    return [[item._replace(attention=next(weights)) for item in row] for row in found]


def _read(connection: Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Take tasks as they come, and end the process, whatever it is doing, when the parent is gone."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


@contextmanager
def _interruptions_held() -> Iterator[None]:
    """Ctrl-C waits until every worker knows that it is not meant."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
