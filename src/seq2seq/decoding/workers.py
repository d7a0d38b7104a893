"""Worker pools: the batches of a text are computed by processes, by threads, or by the caller itself.

On a CPU small operators gain little from threads and nearly everything from processes: two processes of one thread
translate two to three times as much as one process of two threads. The processes are forked after the model is loaded,
so they share its memory and start at once. A function that computes outside Python (on a GPU, in another library) is
called from threads. Text is read and written while the workers compute.

`concurrent.futures.ProcessPoolExecutor` is not used for the processes: its threads make a later fork unsafe, it does
not say which worker was killed by which signal, and its workers outlive a killed parent.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain, islice
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, NamedTuple, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import torch
from tqdm import TMonitor

from seq2seq import console
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.errors import UserError, WorkerError

Arguments = ParamSpec("Arguments")
Part = TypeVar("Part")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

Context = Callable[[], AbstractContextManager[None]]
"""Opened around all calls of a function in a process, see `Engine.unchanged`."""

_MIN_CHARACTERS = 4000
"""Shortest text for processes: they cost 0.1 s (to fork, to warm up, to end), which 45 captions with beam 5 win back,
or 90 with greedy search."""
_SHORT_CHARACTERS = 1000
"""Longest text for `Parallelism.short_text_threads`."""
_MANY_CHARACTERS = 1_000_000
"""Length of all texts of `Parallelism.many_texts` together."""
_JOBS_OF_A_WORKER = 2
"""Batches that a worker process holds: the one that it searches, and the next one."""


class Parallelism(NamedTuple):
    """Number of batches that are searched at the same time, by processes or threads."""

    processes: int = 1
    """Forked worker processes of one thread; 1 is this process alone, with torch's threads."""
    always_fork: bool = False
    """Fork for short texts too."""
    threads: int = 0
    """Threads of this process that call the engine; 0 is the caller's thread alone."""
    short_text_threads: int = 0
    """Threads of torch for a few sentences, without processes; 0 is torch's own setting. Threads wait for each other at
    every operator, which takes seconds on a busy machine."""
    call_sentences: int = 0
    """Maximum sentences of a call, for an engine that makes its own batches; 0 follows the decoding settings."""
    many_texts: bool = False
    """True if short texts come without end, as to a server. The engine then prepares as for a long text, whose compiled
    loops run in one or two threads."""

    def prepare(self, engine: Engine, characters: int) -> None:
        """Prepare an engine for a text of this length."""
        engine.prepare(max(characters, _MANY_CHARACTERS) if self.many_texts else characters)

    @property
    def chunk_lines(self) -> int:
        """Lines read before work on them begins: enough for every worker to have batches of similar lengths."""
        return 4096 if self.threads else 512 * max(2, self.processes)

    @property
    def scored_pairs(self) -> int:
        """Pairs that are scored or aligned in one call: a second of work for a process, enough to fill a GPU."""
        return 4096 if self.threads else 512


class Job(Protocol[Result_co]):
    """A submitted batch."""

    def result(self) -> Result_co:
        """Wait for the result and return it. Raises what the function raised."""


class WorkerPool(Protocol[Arguments, Result_co]):
    """Calls a function with submitted batches."""

    chunks_ahead: int
    """Chunks of text to submit before the oldest one is finished; 0 if nothing runs in the background."""
    size: int
    """Number of batches that are computed at the same time."""

    def submit(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Job[Result_co]:
        """Submit a batch, the arguments of the function."""

    def close(self) -> None:
        """Drop the jobs that have not started, and end all processes and threads."""


SearchPool = WorkerPool[[Sequence[Sentence], SearchOptions], list[list[Hypothesis]]]
"""A pool for `Engine.search`."""


@contextmanager
def open_pool(engine: Engine, parallelism: Parallelism, characters: int) -> Iterator[SearchPool]:
    """A pool for one text of `characters` characters, closed at the end of the block."""
    parallelism.prepare(engine, characters)
    with closing(_search_pool(engine, parallelism, characters)) as pool:
        yield pool


def map_parts(compute: Callable[[Part], Result], parts: Iterable[Part], parallelism: Parallelism) -> Iterator[Result]:
    """The result of each part of a text, in order; further parts are read and computed meanwhile.

    Processes are forked for more than one part; without processes a part is read when its result is asked for. Raises
    what `compute` raises, and `WorkerError` if a process died.
    """
    remaining = iter(parts)
    first = list(islice(remaining, 2)) if parallelism.processes > 1 else []
    if len(first) == 1:
        parallelism = parallelism._replace(processes=1)
    # A single part is a short text; otherwise a process alone takes all threads.
    pool = _new_pool(compute, nullcontext, parallelism, 0 if len(first) == 1 else _MIN_CHARACTERS, "--threads")
    with closing(pool):
        jobs: deque[Job[Result]] = deque()
        for part in chain(first, remaining):
            jobs.append(pool.submit(part))
            if len(jobs) > pool.chunks_ahead * pool.size * _JOBS_OF_A_WORKER:
                yield jobs.popleft().result()
        while jobs:
            yield jobs.popleft().result()


def _search_pool(engine: Engine, parallelism: Parallelism, characters: int) -> SearchPool:
    return _new_pool(engine.search, engine.unchanged, parallelism, characters, "--workers")


def _new_pool(
    compute: Callable[Arguments, Result], context: Context, parallelism: Parallelism, characters: int, option: str
) -> WorkerPool[Arguments, Result]:
    if parallelism.threads:
        return ThreadPool(compute, parallelism.threads)
    worthwhile = can_fork() if parallelism.always_fork else characters >= _MIN_CHARACTERS and _is_fork_safe()
    if parallelism.processes > 1 and worthwhile:
        return ProcessPool(compute, parallelism.processes, context, option)
    return SerialPool(compute, parallelism.short_text_threads if characters <= _SHORT_CHARACTERS else 0, context)


def can_fork() -> bool:
    """True if processes can be forked: on Linux, until a GPU has been used, and not by a daemon."""
    if not sys.platform.startswith("linux") or current_process().daemon:  # a daemon may have no children
        return False
    return not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _is_fork_safe() -> bool:
    """Whether no other thread may hold a lock, which would stay locked in a child for ever."""
    here = threading.current_thread()
    return can_fork() and all(isinstance(thread, TMonitor) or thread is here for thread in threading.enumerate())


_SearchProcesses: TypeAlias = "ProcessPool[[Sequence[Sentence], SearchOptions], list[list[Hypothesis]]]"


class PoolCache:
    """Keeps worker processes for the next text, which saves the fork and the warm-up of their memory.

    Processes are kept after a text was translated to its end, and reused if all are alive and the engine is unchanged.
    """

    def __init__(self, engine: Engine, parallelism: Parallelism) -> None:
        self.engine, self.parallelism = engine, parallelism
        self._idle: list[tuple[_SearchProcesses, tuple[int, ...]]] = []

    @contextmanager
    def open(self, characters: int) -> Iterator[SearchPool]:
        """As `open_pool`. Texts that are translated at the same time get a pool each."""
        self.parallelism.prepare(self.engine, characters)
        version = self.engine.version()
        pool = self._take(version) or _search_pool(self.engine, self.parallelism, characters)
        try:
            yield pool
        except BaseException:  # its workers may be busy with batches that are no longer wanted
            pool.close()
            raise
        if isinstance(pool, ProcessPool) and not self._idle:
            self._idle.append((pool, version))
        else:
            pool.close()

    def close(self) -> None:
        """End the idle processes."""
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self, version: tuple[int, ...]) -> _SearchProcesses | None:
        try:
            pool, its_version = self._idle.pop()
        except IndexError:
            return None
        if its_version == version and pool.is_alive():
            return pool
        pool.close()
        return None


class SerialPool(Generic[Arguments, Result]):
    """No workers: a batch is computed when its result is asked for, with a number of torch's threads; 0 is its own."""

    chunks_ahead = 0
    size = 1

    def __init__(self, compute: Callable[Arguments, Result], threads: int = 0, context: Context = nullcontext) -> None:
        self.compute, self.threads = compute, threads
        self._context = ExitStack()
        self._context.enter_context(context())

    def submit(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Job[Result]:
        """See `WorkerPool`."""
        return _SerialJob(partial(self.compute, *args, **kwargs), self.threads)

    def close(self) -> None:
        """See `WorkerPool`."""
        self._context.close()


class _SerialJob(Generic[Result]):
    def __init__(self, compute: Callable[[], Result], threads: int) -> None:
        self.compute, self.threads = compute, threads

    def result(self) -> Result:
        """See `Job`."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            return self.compute()
        finally:
            torch.set_num_threads(before)


class ThreadPool(Generic[Arguments, Result]):
    """Threads that call one function."""

    chunks_ahead = 1

    def __init__(self, compute: Callable[Arguments, Result], size: int) -> None:
        self.compute, self.size = compute, size
        self._executor = ThreadPoolExecutor(size, "translate")

    def submit(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Job[Result]:
        """See `WorkerPool`."""
        return self._executor.submit(self.compute, *args, **kwargs)

    def close(self) -> None:
        """See `WorkerPool`. Waits for running calls."""
        self._executor.shutdown(cancel_futures=True)


class _Answer(NamedTuple):
    """Answer of a worker to a job."""

    result: Any
    error: UserError | str | None
    """The error of the job; a bug is the text of its traceback."""
    messages: list[console.Message]


class _ProcessJob(Generic[Result]):
    """A batch for a worker process."""

    def __init__(self, pool: ProcessPool[..., Result], args: Any, kwargs: Any) -> None:
        self.message = (args, kwargs)
        self.answer: _Answer | None = None
        self._pool = pool

    def result(self) -> Result:
        """See `Job`."""
        while self.answer is None:
            self._pool.dispatch(block=True)
        console.tell(self.answer.messages)
        result: Result = self.answer.result
        return result


class _Worker(NamedTuple):
    number: int
    process: BaseProcess
    connection: Connection
    jobs: deque[_ProcessJob[Any]]
    """Jobs sent but not answered yet, oldest first."""


class ProcessPool(Generic[Arguments, Result]):
    """Forked worker processes of one thread, each with the function, and its model, as they were at the fork.

    The pool has no thread: `submit` and `result` send the jobs and receive the answers. The workers ignore Ctrl-C,
    which reaches the parent too, and end with the parent, however it ends.
    """

    chunks_ahead = 1

    def __init__(
        self,
        compute: Callable[Arguments, Result],
        size: int,
        context: Context = nullcontext,
        option: str = "--workers",
    ) -> None:
        """Args:
        compute: the function.
        size: number of processes.
        context: opened in each process around all calls.
        option: option for the number of processes, for hints.
        """
        self.size, self._option = size, option
        self._parent = os.getpid()
        self._queue: deque[_ProcessJob[Result]] = deque()
        self._workers: list[_Worker] = []
        with _sigint_blocked():
            for number in range(1, size + 1):
                self._workers.append(self._fork(compute, context, number))

    def _fork(self, compute: Callable[Arguments, Result], context: Context, number: int) -> _Worker:
        forking = get_context("fork")
        ours, theirs = forking.Pipe()
        inherited = [ours, *(worker.connection for worker in self._workers)]
        process = forking.Process(target=_run_worker, args=(compute, context, theirs, inherited), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside other threads, the idle ones of numerical libraries included.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return _Worker(number, process, ours, deque())

    def submit(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Job[Result]:
        """See `WorkerPool`. Raises as `dispatch`."""
        job: _ProcessJob[Result] = _ProcessJob(self, args, kwargs)
        self._queue.append(job)
        self.dispatch(block=False)
        return job

    def dispatch(self, *, block: bool) -> None:
        """Receive answers (with `block`, wait for at least one), and send queued jobs to free workers.

        Raises:
            WorkerError: a worker died.
            UserError: the function raised it.
        """
        busy = {worker.connection: worker for worker in self._workers if worker.jobs}
        while ready := wait(list(busy), timeout=None if block else 0) if busy else []:
            for connection in ready:
                worker = busy[connection]  # type: ignore[index]
                worker.jobs[0].answer = self._receive(worker)
                worker.jobs.popleft()
                if not worker.jobs:
                    del busy[worker.connection]
            block = False
        while self._queue:
            worker = min(self._workers, key=lambda worker: len(worker.jobs))
            if len(worker.jobs) >= _JOBS_OF_A_WORKER:
                return
            job = self._queue.popleft()
            try:
                worker.connection.send(job.message)  # hardly blocks, as a thread of the worker always reads
            except OSError:
                raise self._death(worker) from None
            worker.jobs.append(job)

    def _receive(self, worker: _Worker) -> _Answer:
        try:
            answer: _Answer = worker.connection.recv()
        except (EOFError, OSError):
            raise self._death(worker) from None
        if isinstance(answer.error, UserError):
            raise answer.error
        if answer.error is not None:
            raise RuntimeError(f"worker {worker.number} failed") from RuntimeError("\n" + answer.error)
        return answer

    def _death(self, worker: _Worker) -> WorkerError:
        worker.process.join(timeout=5)
        code = worker.process.exitcode
        if code is None or code >= 0:
            what, hint = f"ended (exit code {code})", f"{self._option} 1"
        else:
            what, hint = f"was killed by {signal.Signals(-code).name}", f"{self._option} 1 shows more"
            if -code == signal.SIGKILL:
                smaller = "a smaller --batch-size or " if self._option == "--workers" else ""
                hint = f"it may have run out of memory: use {smaller}fewer {self._option}"
        return WorkerError(f"worker {worker.number} {what}", hint=hint, code="worker.translation")

    def is_alive(self) -> bool:
        """Whether all workers run, as children of this process and not of the one that it was forked from."""
        return os.getpid() == self._parent and all(worker.process.is_alive() for worker in self._workers)

    def close(self) -> None:
        """See `WorkerPool`. Does nothing in a fork of the parent."""
        if os.getpid() != self._parent:
            return
        for worker in self._workers:
            worker.process.kill()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers.clear()
        self._queue.clear()


def _run_worker(
    compute: Callable[..., Any], context: Context, connection: Connection, inherited: list[Connection]
) -> None:
    """Main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for other in inherited:
        other.close()  # else no worker would see the end of its connection when the parent dies
    torch.set_num_threads(1)
    gc.freeze()  # objects from before the fork stay: collecting them would take time and copy their pages
    ForkingPickler.register(torch.Tensor, _pickled)
    console.keep_messages()
    with context():
        _serve(compute, connection)


def _serve(compute: Callable[..., Any], connection: Connection) -> NoReturn:
    """Call the function with the batches of a connection, and send each result or its error."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, messages), daemon=True).start()
    while True:
        args, kwargs = messages.get()
        result, fault = None, cast("UserError | str | None", None)
        try:
            result = compute(*args, **kwargs)
        except UserError as error:
            fault = error
        except Exception:
            fault = traceback.format_exc()
        with suppress(OSError):
            connection.send(_Answer(result, fault, console.kept_messages()))


def _read(connection: Connection, messages: queue.SimpleQueue[Any]) -> None:
    """Queue the messages of the parent; end the process, even during a search, when the parent has ended."""
    try:
        while True:
            messages.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _pickled(tensor: torch.Tensor) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A tensor, pickled as an array: torch pickles small tensors slowly."""
    return torch.from_numpy, (tensor.cpu().numpy(),)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Ctrl-C waits until every worker ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
