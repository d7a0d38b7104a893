"""Who runs an engine: this process alone, threads of it, or processes of one thread side by side.

Text is read and written while they compute. A CPU is best used by processes (see `workers.py`); an engine that
computes outside Python (a GPU, another library) is called from threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

import torch
from tqdm import TMonitor

from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.workers import Workers

Found = list[list[Hypothesis]]

_WORTHWHILE_CHARACTERS = 4000
"""Two processes cost 0.1 s (to fork, to warm up, to end), which 45 captions with beam 5 win back, or 90 greedily."""


class Crew(NamedTuple):
    """How many run an engine at the same time."""

    processes: int = 1
    """Forked processes of one thread; 1 means this process, with the threads that torch has."""
    always: bool = False
    """Fork however short the text is."""
    threads: int = 0
    """Calls of the engine from threads of this process at the same time; 0: none but the caller's own."""
    sentences: int = 0
    """Most sentences of a call, for an engine that makes its own batches; 0: what the settings say."""

    @property
    def lines(self) -> int:
        """Lines that are read before work on them begins: enough for batches of equal lengths for everyone."""
        return 4096 if self.threads else 512 * max(2, self.processes)


class Job(Protocol):
    """A batch that has been asked for."""

    def result(self) -> Found:
        """What the engine answered, in the order of the batch; waits for it. Raises what the engine raised."""


class Pool(Protocol):
    """Takes batches."""

    ahead: int
    """Windows of text that may wait here while an earlier one is finished; 0 where nothing runs meanwhile."""
    parallel: int
    """Batches that are searched at the same time."""

    def submit(self, sentences: Sequence[Sentence], options: SearchOptions) -> Job:
        """Have these searched for, as `Engine.search` would."""

    def close(self) -> None:
        """Drop what has not begun and end all processes and threads."""


@contextmanager
def open_pool(engine: Engine, crew: Crew, characters: int) -> Iterator[Pool]:
    """The engine as `crew` says, for as long as the block runs; `characters` is the length of the text."""
    engine.prepare(characters)
    pool = _started(engine, crew, characters)
    try:
        yield pool
    finally:
        pool.close()


def _started(engine: Engine, crew: Crew, characters: int) -> Pool:
    if crew.threads:
        return Threads(engine, crew.threads)
    if crew.processes > 1 and (crew.always or (characters >= _WORTHWHILE_CHARACTERS and _alone())):
        return Workers(engine, crew.processes)
    return Direct(engine)


class Kept:
    """Keeps an engine's worker processes from one text to the next: there is nothing to fork, and their memory is warm.

    They are kept where a text has been worked on to its end, and used as long as they live and the engine is the same.
    """

    def __init__(self, engine: Engine, crew: Crew) -> None:
        self.engine, self.crew = engine, crew
        self._idle: list[tuple[Workers, tuple[int, ...]]] = []

    @contextmanager
    def open(self, characters: int) -> Iterator[Pool]:
        """As `open_pool`; texts that are worked on at the same time have a pool each."""
        self.engine.prepare(characters)
        version = self.engine.version()
        pool = self._take(version) or _started(self.engine, self.crew, characters)
        try:
            yield pool
        except BaseException:  # It may be at work on what nobody will ask for.
            pool.close()
            raise
        if isinstance(pool, Workers) and not self._idle:
            self._idle.append((pool, version))
        else:
            pool.close()

    def close(self) -> None:
        """End the processes, if there are any."""
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self, version: tuple[int, ...]) -> Workers | None:
        try:
            workers, theirs = self._idle.pop()
        except IndexError:
            return None
        if theirs == version and workers.alive():
            return workers
        workers.close()
        return None


def can_fork() -> bool:
    """Whether processes may be forked: on Linux, and as long as no GPU has been used."""
    return sys.platform.startswith("linux") and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _alone() -> bool:
    """Whether no other thread may be in the middle of something that a child would inherit half done."""
    here = threading.current_thread()
    return can_fork() and all(isinstance(thread, TMonitor) or thread is here for thread in threading.enumerate())


class Direct:
    """No pool at all: a batch is searched for when its result is asked for."""

    ahead = 0
    parallel = 1

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._held = ExitStack()
        self._held.enter_context(engine.unchanged())

    def submit(self, sentences: Sequence[Sentence], options: SearchOptions) -> Job:
        """See `Pool`."""
        return _Later(self.engine, sentences, options)

    def close(self) -> None:
        """See `Pool`."""
        self._held.close()


class _Later(NamedTuple):
    engine: Engine
    sentences: Sequence[Sentence]
    options: SearchOptions

    def result(self) -> Found:
        return self.engine.search(self.sentences, self.options)


class Threads:
    """An engine that takes calls from several threads."""

    ahead = 1

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.parallel = count
        self._executor = ThreadPoolExecutor(count, "translate")

    def submit(self, sentences: Sequence[Sentence], options: SearchOptions) -> Job:
        """See `Pool`."""
        return self._executor.submit(self.engine.search, sentences, options)

    def close(self) -> None:
        """See `Pool`; a search that has begun is waited for."""
        self._executor.shutdown(cancel_futures=True)
