"""Launcher of the ranks of a run on this machine.

The parent does not train. It forwards signals; if a rank fails, it stops the others and raises the error of that rank
as its own. If the parent ends, even by SIGKILL, so do the ranks and their loader processes. Ranks are forked where that
is safe, so that torch is imported once: two ranks start 0.1 s later than one process, while torch's own launcher takes
2 s and 220 MB. For several machines use torchrun, which sets the same environment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from seq2seq import errors
from seq2seq.config import Config
from seq2seq.console import exit_now
from seq2seq.distributed.failures import RESUME_HINT, RankLostError
from seq2seq.distributed.placement import Placement, on_local_device
from seq2seq.distributed.rendezvous import RENDEZVOUS
from seq2seq.errors import UserError, WorkerError
from seq2seq.processes import end_children_with_parent, end_with_parent
from seq2seq.signals import STOPPING_SIGNALS, Interrupted, handled_signals
from seq2seq.system import available_cores

_SAVING_SECONDS, _LEAVING_SECONDS = 15.0, 2.0
_MOST_TEXT = 20_000
"""Characters of a traceback that a rank sends."""


Work = Callable[[Config, Placement], Any]


def launch(work: Work, config: Config, placement: Placement) -> None:
    """Run `work(config, placement)` in `placement.ranks` processes and return when all have succeeded.

    Raises:
        UserError: the first failure of a rank; `WorkerError` names a rank that was killed.
        Interrupted: a signal came, and the state was saved.
    """
    with _rendezvous() as file:
        forks = _may_fork()
        if forks:
            import torch._dynamo  # noqa: F401  DistributedDataParallel imports it; forked ranks share the import
        with _signals_blocked():
            ranks = [_Rank(number, placement, file, work, config, forks) for number in range(placement.ranks)]
            watch = _Watch(ranks)
            before = watch.take_signals()
        try:
            watch.run()
        finally:
            for rank in ranks:
                rank.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
    watch.conclude()


class _Rank:
    """One rank's process, and its report of how it ended."""

    def __init__(self, number: int, placement: Placement, file: Path, work: Work, config: Config, forks: bool) -> None:
        self.number = number
        self.report: dict[str, Any] = {}
        self.was_killed = False
        context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
        self.receiver, sender = context.Pipe(duplex=False)
        environment = {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(placement.ranks),
            "LOCAL_WORLD_SIZE": str(placement.ranks),
            RENDEZVOUS: file.as_uri(),
            "OMP_NUM_THREADS": str(placement.threads),
        }
        arguments = (work, config.model_dump_json(), placement, environment, os.getpid(), file, sender)
        process: BaseProcess = context.Process(target=_run_rank, args=arguments, name=f"rank {number}")
        with warnings.catch_warnings():
            # Python 3.12 warns about forking with threads, including the idle ones of numerical libraries.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        self.process = process

    @property
    def events(self) -> list[Connection | int]:
        """What to wait for: the end of the process, and its report, which may be larger than a pipe holds."""
        return [self.process.sentinel, *([] if self.receiver.closed else [self.receiver])]

    def collect(self) -> None:
        """Read the report, if there is one."""
        try:
            while not self.receiver.closed and self.receiver.poll():
                self.report = json.loads(self.receiver.recv_bytes())
        except (EOFError, OSError):
            self.receiver.close()

    def send(self, number: int) -> None:
        """Forward a signal."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill the process if it still runs, and join it."""
        if self.process.is_alive():
            self.was_killed = True
            self.process.kill()
        self.process.join()


class _Watch:
    """Supervision of all ranks until they have ended."""

    def __init__(self, ranks: list[_Rank]) -> None:
        self.ranks = ranks
        self.signal: int | None = None
        self._failed: list[_Rank] = []
        self._deadline: float | None = None

    def take_signals(self) -> dict[int, Any]:
        """Forward signals to the ranks from now on; returns the previous handlers."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._forward) for number in handled_signals()}

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            self._deadline = min(self._deadline or float("inf"), time.monotonic() + 2.0)
        self.signal = self.signal or number
        for rank in self.ranks:
            rank.send(number)

    def run(self) -> None:
        """Wait until every rank has ended; after the first failure the others are killed when their time is up."""
        running = list(self.ranks)
        while running:
            if self._deadline is not None and time.monotonic() > self._deadline:
                for rank in running:
                    rank.kill()
            wait([event for rank in running for event in rank.events], timeout=0.5)
            for rank in running:
                rank.collect()
            for rank in [rank for rank in running if not rank.process.is_alive()]:
                running.remove(rank)
                rank.process.join()
                rank.collect()
                if rank.process.exitcode:
                    self._failed.append(rank)
                    self._stop(rank, running)

    def _stop(self, failed: _Rank, running: list[_Rank]) -> None:
        """Stop the other ranks: those in preparation by a signal, those in training at their next exchange.

        Rank 0 may be saving, so it gets more time.
        """
        if self._deadline is None and self.signal is None:
            for rank in running:
                rank.send(signal.SIGTERM)
        grace = _SAVING_SECONDS if failed.number else _LEAVING_SECONDS
        self._deadline = min(self._deadline or float("inf"), time.monotonic() + grace)

    def conclude(self) -> None:
        """Raise the error of the rank that failed first, if any."""
        if not self._failed:
            return
        first = min(self._failed, key=_rank_of_cause)
        code, report = first.process.exitcode or 0, first.report
        if report.get("kind") == "Interrupted":
            raise Interrupted(code - 128, report["kept"])
        if self.signal is not None and code in (-self.signal, 128 + self.signal):
            raise Interrupted(self.signal)
        raise self._error(first)

    def _error(self, rank: _Rank) -> Exception:
        name, code, report = f"rank {rank.number}", rank.process.exitcode or 0, rank.report
        if report.get("user"):
            kind = getattr(errors, report["kind"], WorkerError)
            return kind(report["what"], where=report["where"], hint=report["hint"], code=report["code"])
        if code < 0 and not report:
            text = f"{name} of {len(self.ranks)} was killed by {signal.Signals(-code).name}"
            hint = "out of memory, perhaps; " if -code == signal.SIGKILL else ""
            return WorkerError(text, hint=hint + RESUME_HINT, code="worker.rank")
        if not report:
            hint = "run the same command again"
            return WorkerError(
                f"{name} of {len(self.ranks)} ended with exit code {code}", hint=hint, code="worker.rank"
            )
        error = RuntimeError(f"{name}: {report['what']}")
        error.__cause__ = RuntimeError("\n" + report["traceback"])
        return error


def _rank_of_cause(rank: _Rank) -> tuple[int, int]:
    """Sort key that puts causes before consequences: an error, a kill, an agreed stop, the loss of another rank."""
    code, report = rank.process.exitcode or 0, rank.report
    if report.get("kind") == "Interrupted":
        order = 2
    elif report:
        order = 5 if report["reported"] else 3 if report["lost"] else 0
    else:
        order = 4 if rank.was_killed or code in (-signal.SIGTERM, -signal.SIGINT, 130) else 1
    return order, rank.number


def _run_rank(
    work: Work,
    config: str,
    placement: Placement,
    environment: dict[str, str],
    parent: int,
    file: Path,
    sender: Connection,
) -> None:
    """Entry point of one rank."""
    end_with_parent(parent, lambda: shutil.rmtree(file.parent, ignore_errors=True))
    end_children_with_parent()
    os.environ.update(environment)
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which forwards it once
    for number in handled_signals():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    report: dict[str, Any] = {}
    code = 0
    try:
        work(Config.model_validate_json(config), on_local_device(placement))
    except Interrupted as end:
        code = end.exit_code
        report = {"kind": "Interrupted", "kept": end.kept}
    except KeyboardInterrupt:
        code = 130
    except UserError as error:
        code = error.exit_code
        report = {"user": True, "kind": type(error).__name__, "where": error.where, "hint": error.hint}
        report |= {"what": error.what, "code": error.code, "lost": isinstance(error, RankLostError)}
        report |= {"reported": getattr(error, "reported", False)}
    except Exception as error:
        code = 1
        report = {"what": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-_MOST_TEXT:]}
    with suppress(OSError):  # the parent is gone
        if report:
            sender.send_bytes(json.dumps({"lost": False, "reported": False, **report}).encode())
        sender.close()
    exit_now(code)


@contextmanager
def _rendezvous() -> Iterator[Path]:
    """File through which the ranks find each other, private to this user and without a port.

    It is anonymous memory where the system has that, so that nothing is left however this process ends.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seq2seq-rendezvous")
        try:
            # Not /proc/self: ranks that are not forked do not inherit it.
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="seq2seq-ranks-") as folder:
            yield Path(folder) / "rendezvous"


def _may_fork() -> bool:
    """Whether ranks can be forked: not with CUDA or busy threads, whose half-done work a child would inherit."""
    if not sys.platform.startswith("linux") or torch.cuda.is_available() or threading.active_count() > 1:
        return False
    # A fresh process has fork-safe threads of numpy's BLAS and of Arrow's allocator. There are more once torch or Arrow
    # have computed.
    native = len(list(Path("/proc/self/task").iterdir()))
    return native <= available_cores() + 1


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Context in which signals are blocked, until a handler can take them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
