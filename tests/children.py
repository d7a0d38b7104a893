"""Commands in child processes, forked from a server that has imported torch once.

A fresh interpreter takes seconds to import torch, a forked one starts in milliseconds. Every child begins with the
default handling of signals, whatever the tests have inherited: `nohup` ignores SIGHUP, a shell lets a job in the
background ignore SIGINT.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

LIMIT_SECONDS = 300.0
"""The longest that a test waits for an event; a machine that needs longer is taken for one that hangs."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "torch._dynamo", "torch.utils.tensorboard", "datasets", "seq2seq.cli.main", "seq2seq.runs.train"]
)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """Exit code; -N if signal N ended it."""
    out: str
    err: str


class Child:
    """`seq2seq ARGUMENTS`, started in a process and a process group of its own.

    Args:
        folder: receives the files `stdout` and `stderr`.
        environment: variables in addition to those of the tests.
        stdin: the reading end of a pipe; nothing can be read by default.
        stdout: the writing end of a pipe, or a terminal, in place of the file.
        terminal: a terminal that takes stdout and stderr and that the child leads, as in a window.
        ignored: a signal that the child ignores from its start, as `nohup` makes it ignore SIGHUP.
    """

    def __init__(
        self,
        *arguments: object,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        stdin: Connection | None = None,
        stdout: Connection | None = None,
        terminal: Connection | None = None,
        ignored: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / "stdout", folder / "stderr"]
        for path in self._files:
            path.write_bytes(b"")
        streams = [stdin, stdout or terminal or str(self._files[0]), terminal or str(self._files[1])]
        variables = {**os.environ, **(environment or {})}
        words = [str(argument) for argument in arguments]
        self._process = _CONTEXT.Process(
            target=_command, args=(words, streams, str(Path.cwd()), variables, terminal is not None, ignored)
        )
        self._process.start()
        for stream in {id(stream): stream for stream in streams if isinstance(stream, Connection)}.values():
            stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process identifier."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return self._files[0].read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._files[1].read_text(encoding="utf-8", errors="replace")

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Return when the condition holds; fail if the child ends before, or hangs."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            if not self._process.is_alive():
                assert condition(), f"ended with {self._process.exitcode}: {self.err}"
                return
            assert time.monotonic() < deadline, f"waited too long: {self.err}"
            time.sleep(0.005)

    def wait_until_stopped(self) -> None:
        """Return when the child has got SIGSTOP, as of a failpoint."""
        self.wait_for(lambda: is_stopped(self.pid))

    def send(self, number: int, *, group: bool = False) -> None:
        """Send a signal, to the whole group as a terminal does or to this process alone."""
        (os.killpg if group else os.kill)(self.pid, number)

    def children(self) -> list[int]:
        """Processes that it has started, oldest first."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(child) for child in path.read_text().split()] if path.exists() else []

    def end(self) -> Outcome:
        """Wait for the end."""
        self._process.join(LIMIT_SECONDS)
        assert self._process.exitcode is not None, f"does not end: {self.err}"
        return Outcome(self._process.exitcode, self.out, self.err)

    def kill(self) -> None:
        """End it, and all processes of its group, by SIGKILL."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.join(LIMIT_SECONDS)


def command(*arguments: object, folder: Path, **options: Any) -> Outcome:
    """A `Child` to its end."""
    with Child(*arguments, folder=folder, **options) as child:
        return child.end()


def pipe() -> tuple[Connection, Connection]:
    """The reading and the writing end of a pipe whose ends can be handed to a child."""
    return _CONTEXT.Pipe(duplex=False)


def terminal() -> tuple[int, Connection]:
    """Both ends of a new terminal; the second can be handed to a child."""
    ours, its = os.openpty()
    return ours, Connection(its, readable=False)


def called(function: Callable[..., object], *arguments: object) -> Any:
    """Result of a function that is called in a child: one without the threads of the process that runs the tests."""
    reader, writer = pipe()
    with reader:
        process = _CONTEXT.Process(target=_call, args=(writer, dict(os.environ), function, arguments))
        process.start()
        writer.close()
        try:
            result, failure = reader.recv()
        except EOFError:
            result, failure = None, "ended without a result"
        process.join(LIMIT_SECONDS)
    assert not failure, failure
    return result


def default_signals() -> None:
    """Handle signals as a program that a shell starts in the foreground."""
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped by SIGSTOP."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though its parent may not know yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _call(
    writer: Connection, variables: dict[str, str], function: Callable[..., object], arguments: Sequence[object]
) -> None:
    default_signals()
    multiprocessing.set_start_method(None, force=True)
    os.environ.clear()
    os.environ.update(variables)
    try:
        result, failure = function(*arguments), ""
    except Exception:
        result, failure = None, traceback.format_exc()
    writer.send((result, failure))


def _command(
    words: list[str],
    streams: list[Connection | str | None],
    folder: str,
    variables: dict[str, str],
    leads_terminal: bool,
    ignored: int | None,
) -> None:
    default_signals()
    if ignored is not None:
        signal.signal(ignored, signal.SIG_IGN)
    # Loader processes are started as elsewhere, not by another server.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # TMPDIR may be another
    for number, stream in enumerate(streams):
        if isinstance(stream, Connection):
            os.dup2(stream.fileno(), number)
        else:
            opened = os.open(stream or os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            os.close(opened)
    for stream in {id(stream): stream for stream in streams if isinstance(stream, Connection)}.values():
        stream.close()
    if leads_terminal:
        os.setsid()
        ioctl(1, termios.TIOCSCTTY, 0)
    else:
        os.setpgid(0, 0)
    # The objects of the server may know of other files.
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in enumerate(("r", "w", "w"))
    )
    sys.argv = ["seq2seq", *words]
    from seq2seq.__main__ import run
    from seq2seq.training import trainer

    trainer._TIMED_STEPS = 1  # as in the process of the tests
    run()
