"""Start the ranks of a run on this machine, watch over them, and tell how they ended.

The parent does not train. It passes signals on, and where a rank fails it stops the others and raises that rank's error
as if it were its own. Ranks are forked where that is safe, so that torch is imported once: two ranks begin 0.1 s later
than one process would, where torch's own launcher takes 2 s and 220 MB. Several machines are torchrun's affair; its
environment is the same.
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
from seq2seq.console import leave
from seq2seq.distributed.failures import RankLostError
from seq2seq.distributed.placement import Layout
from seq2seq.distributed.rendezvous import RENDEZVOUS
from seq2seq.errors import UserError, WorkerError
from seq2seq.signals import STOPPING_SIGNALS, Interrupted, heeded_signals
from seq2seq.system import available_cores

_SAVING_SECONDS, _LEAVING_SECONDS = 15.0, 2.0
_MOST_TEXT = 20_000
"""Characters of a traceback that a rank passes on: a pipe holds more, so that nobody waits for a reader."""


def launch(work: Callable[[Config], Any], config: Config, plan: Layout) -> None:
    """Run `work(config)` in `plan.ranks` processes and return when all have ended well.

    Raises:
        UserError: the first failure of a rank; `WorkerError` names a rank that was killed.
        Interrupted: a signal came, and the state was saved.
    """
    with tempfile.TemporaryDirectory(prefix="seq2seq-ranks-") as folder:
        forks = _may_fork()
        if forks:
            import torch._dynamo  # noqa: F401  every optimizer imports it: once for all here
        with _signals_held():
            ranks = [_Rank(number, plan, folder, work, config, forks) for number in range(plan.ranks)]
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
    """One process, and what it has told about its end."""

    def __init__(
        self, number: int, plan: Layout, folder: str, work: Callable[[Config], Any], config: Config, forks: bool
    ) -> None:
        self.number = number
        self.report: dict[str, Any] = {}
        self.put_down = False
        context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
        self.receiver, sender = context.Pipe(duplex=False)
        environment = {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(plan.ranks),
            "LOCAL_WORLD_SIZE": str(plan.ranks),
            RENDEZVOUS: (Path(folder) / "rendezvous").as_uri(),
            **({"OMP_NUM_THREADS": str(plan.threads)} if plan.threads else {}),
        }
        arguments = (work, config.model_dump_json(), environment, folder, sender)
        process: BaseProcess = context.Process(target=_run_rank, args=arguments, name=f"rank {number}")
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads, those of numerical libraries included, which stand idle.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        self.process = process

    def collect(self) -> None:
        """Read the report, where there is one."""
        try:
            while self.receiver.poll():
                self.report = json.loads(self.receiver.recv_bytes())
        except (EOFError, OSError):
            pass

    def send(self, number: int) -> None:
        """Pass a signal on."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Make sure that the process is gone."""
        if self.process.is_alive():
            self.put_down = True
            self.process.kill()
        self.process.join()


class _Watch:
    """Waits for all ranks."""

    def __init__(self, ranks: list[_Rank]) -> None:
        self.ranks = ranks
        self.signal: int | None = None
        self._failed: list[_Rank] = []
        self._deadline: float | None = None

    def take_signals(self) -> dict[int, Any]:
        """Pass signals on to the ranks from now on; the handlers before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._pass_on) for number in heeded_signals()}

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            self._deadline = min(self._deadline or float("inf"), time.monotonic() + 2.0)
        self.signal = self.signal or number
        for rank in self.ranks:
            rank.send(number)

    def run(self) -> None:
        """Until every rank has ended; the others get a while after the first failure, then they are killed."""
        running = list(self.ranks)
        while running:
            if self._deadline is not None and time.monotonic() > self._deadline:
                for rank in running:
                    rank.kill()
            wait([rank.process.sentinel for rank in running], timeout=0.5)
            for rank in [rank for rank in running if not rank.process.is_alive()]:
                running.remove(rank)
                rank.process.join()
                rank.collect()
                if rank.process.exitcode:
                    self._failed.append(rank)
                    self._stop(rank, running)

    def _stop(self, failed: _Rank, running: list[_Rank]) -> None:
        """After a failure: who still prepares dies of the signal, who trains finds out at the next exchange.

        Rank 0 may be saving, and is given the time.
        """
        if self._deadline is None and self.signal is None:
            for rank in running:
                rank.send(signal.SIGTERM)
        grace = _SAVING_SECONDS if failed.number else _LEAVING_SECONDS
        self._deadline = min(self._deadline or float("inf"), time.monotonic() + grace)

    def conclude(self) -> None:
        """Raise what the ranks' end amounts to."""
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
            hint = "the last checkpoint is kept; run the same command again"
            if -code == signal.SIGKILL:
                hint = "out of memory, perhaps; " + hint
            return WorkerError(text, hint=hint, code="worker.rank")
        if not report:
            hint = "run the same command again"
            return WorkerError(
                f"{name} of {len(self.ranks)} ended with exit code {code}", hint=hint, code="worker.rank"
            )
        error = RuntimeError(f"{name}: {report['what']}")
        error.__cause__ = RuntimeError("\n" + report["traceback"])
        return error


def _rank_of_cause(rank: _Rank) -> tuple[int, int]:
    """Causes before consequences: a rank's own error, a kill, an agreed stop, then the loss of another rank."""
    code, report = rank.process.exitcode or 0, rank.report
    if report.get("kind") == "Interrupted":
        order = 2
    elif report:
        order = 5 if report["told"] else 3 if report["lost"] else 0
    else:
        order = 4 if rank.put_down or code in (-signal.SIGTERM, -signal.SIGINT, 130) else 1
    return order, rank.number


def _run_rank(
    work: Callable[[Config], Any], config: str, environment: dict[str, str], folder: str, sender: Connection
) -> None:
    """The life of one rank."""
    os.environ.update(environment)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on once
    for number in heeded_signals():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    report: dict[str, Any] = {}
    code, parent = 0, os.getppid()
    try:
        work(Config.model_validate_json(config))
    except Interrupted as end:
        code = end.exit_code
        report = {"kind": "Interrupted", "kept": end.kept}
    except KeyboardInterrupt:
        code = 130
    except UserError as error:
        code = error.exit_code
        report = {"user": True, "kind": type(error).__name__, "where": error.where, "hint": error.hint}
        report |= {"what": error.what, "code": error.code, "lost": isinstance(error, RankLostError)}
        report |= {"told": getattr(error, "told", False)}
    except Exception as error:
        code = 1
        report = {"what": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-_MOST_TEXT:]}
    with suppress(OSError):  # nobody listens any more
        if report:
            sender.send_bytes(json.dumps({"lost": False, "told": False, **report}).encode())
        sender.close()
    if os.getppid() != parent:
        # Who started the ranks was killed and cannot clear away the place where they met.
        shutil.rmtree(folder, ignore_errors=True)
    leave(code)


def _may_fork() -> bool:
    """Forking is cheap, but not to be had beside a GPU or busy threads: a child keeps what they had half done."""
    if not sys.platform.startswith("linux") or torch.cuda.is_available() or threading.active_count() > 1:
        return False
    # A fresh process has those that numpy's algebra starts when imported, which know about forks, and one of Arrow's
    # allocator, which does too. Where torch or Arrow have computed there are more.
    native = len(list(Path("/proc/self/task").iterdir()))
    return native <= available_cores() + 1


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until there is someone to take them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
