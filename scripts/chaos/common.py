"""What the chaos scripts share: arguments, children that run `seq2seq` and may be killed, hashes of runs, the table.

A child is forked from this process, in which torch is imported already, so that hundreds of them start in no time; what
it runs is the command line itself.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import signal
import sys
import termios
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
sys.path.insert(0, str(SOURCE))
os.environ["PYTHONPATH"] = str(SOURCE)
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = {
    "transformer": ["model.hidden_size=32", "model.ff_size=64", "model.encoder_layers=1", "model.decoder_layers=1"],
    "gru": ["model.kind=gru", "model.hidden_size=32", "model.embedding_size=32"],
}
"""Settings of models that train in a second or two."""
SHORT = [
    "devices=1",
    "tokenizer.vocabulary_size=400",
    "training.batch_size=512",
    "training.log_every=3",
    "training.optimizer.learning_rate=0.005",
    "training.schedule.warmup_steps=5",
    "data.holdout=12",
    "decoding.max_length_ratio=1.2",
    "decoding.max_length_offset=5",
    "decoding.max_source_tokens=64",
    "decoding.beam_size=2",
    "decoding.workers=1",
    "training.precision=fp32",
]
"""Settings of runs of a few steps on `corpus`."""


LONGEST_SECONDS = 900.0
"""A child that takes longer hangs, on however busy a machine."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """Exit code; -N where signal N ended it."""
    said: str
    """Its stdout and stderr."""
    seconds: float


class Trial(NamedTuple):
    """One thing tried: what, whether it ended as promised, and what was seen."""

    name: str
    passed: bool
    detail: str = ""


def arguments(
    description: str | None, add: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """The options that every script has (`--quick`, `--seed`, `--json`), and those that `add` adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short look")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial and the sums there")
    if add is not None:
        add(parser)
    return parser.parse_args()


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Context that Ctrl-C or SIGTERM ends without an exception: the table then shows the trials so far."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: these are the trials so far")


def conclude(options: argparse.Namespace, trials: Sequence[Trial], facts: Mapping[str, Any] | None = None) -> int:
    """Print a table of the trials by kind (the name up to the first `:`), write the JSON; the exit code."""
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(trial.name.split(":")[0], []).append(trial)
    width = max((len(kind) for kind in kinds), default=4)
    for kind, tried in kinds.items():
        print(f"{kind:<{width}}  {sum(trial.passed for trial in tried):>5} of {len(tried)}")
    failed = [trial for trial in trials if not trial.passed]
    for trial in failed[:20]:
        print(f"FAILED  {trial.name}\n    {trial.detail.strip()}")
    facts = {"trials": len(trials), "failed": len(failed), **(facts or {})}
    print("  ".join(f"{name} {value}" for name, value in facts.items()))
    if options.json:
        data = {"script": Path(sys.argv[0]).name, "seed": options.seed, "quick": options.quick, **facts}
        text = json.dumps({**data, "all": [trial._asdict() for trial in trials]}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if failed or not trials else 0


def corpus(folder: Path, pairs: int = 120) -> list[str]:
    """`corpus.en` and `corpus.de` in a folder; the options that name them to `seq2seq train`."""
    from seq2seq.data.demo import builtin_pairs

    folder.mkdir(parents=True, exist_ok=True)
    for side, name in enumerate(("corpus.en", "corpus.de")):
        text = "".join(pair[side] + "\n" for pair in builtin_pairs("demo", "train")[:pairs])
        (folder / name).write_bytes(text.encode())
    return ["--source", str(folder / "corpus.en"), "--target", str(folder / "corpus.de")]


class Child:
    """`seq2seq ARGUMENTS` in a process group of its own.

    `fresh` starts a new interpreter instead of forking; `prepare` runs in the child before the command; `terminal` is
    the descriptor of one that becomes the child's (it then leads a session, and the log stays empty).
    """

    def __init__(
        self,
        command: Sequence[object],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
        prepare: Callable[[], object] | None = None,
        terminal: int | None = None,
    ) -> None:
        self.started, self._log = time.monotonic(), log
        self._code: int | None = None
        words = [str(word) for word in command]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._take_streams(terminal)
                os.environ.update(environment or {})
                self._live(words, fresh, prepare)
            except BaseException:
                log.write_text(traceback.format_exc(), encoding="utf-8")
            finally:
                os._exit(99)

    def _take_streams(self, terminal: int | None) -> None:
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        if terminal is None:
            os.setpgid(0, 0)
            streams = [os.open(os.devnull, os.O_RDONLY), output, output]
        else:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            streams = [terminal] * 3
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # The old objects know of other files, and may hold text of the parent's.
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))
        )

    def _live(self, words: list[str], fresh: bool, prepare: Callable[[], object] | None) -> None:
        default_signals()
        if prepare is not None:
            prepare()
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "seq2seq", *words])
        sys.argv = ["seq2seq", *words]
        from seq2seq.__main__ import run as start

        code: object = 1
        try:
            start()
        except SystemExit as end:
            code = end.code
        with suppress(OSError):  # a terminal that is gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send(self, number: int) -> bool:
        """Send a signal to this process alone; False where it has ended."""
        if self.poll() is not None:
            return False
        os.kill(self.pid, number)
        return True

    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def wait_until(self, condition: Callable[[], bool], seconds: float = LONGEST_SECONDS) -> bool:
        """Until the condition holds (True) or the process has ended or time is up (False)."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.poll() is not None or time.monotonic() > deadline:
                return condition()
            time.sleep(0.002)
        return True

    def end(self, seconds: float = LONGEST_SECONDS) -> Outcome:
        """Wait for the end; whoever takes longer is killed, and has the code -9."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill_group()
            time.sleep(0.002)
        return Outcome(self._code or 0, self.said(), time.monotonic() - self.started)

    def kill_group(self) -> None:
        """SIGKILL to it and all that it has started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.send(signal.SIGKILL)


def default_signals() -> None:
    """Handle signals as a program that a shell starts in the foreground, whatever this process has inherited."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def run(command: Sequence[object], *, log: Path, seconds: float = LONGEST_SECONDS, **options: Any) -> Outcome:
    """A `Child` to its end."""
    return Child(command, log=log, **options).end(seconds)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for parent in found:  # it grows
        found += children.get(parent, [])
    return found[1:]


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def warm_up() -> None:
    """Import what every child needs, once, before they are forked; no thread may be started by it."""
    import datasets  # noqa: F401
    import torch
    import torch._dynamo
    import torch.utils.tensorboard

    import seq2seq.cli
    import seq2seq.runs.train  # noqa: F401

    torch.set_num_threads(1)


def hashes(run_folder: Path) -> dict[str, str]:
    """SHA-256 of what a run ends with: weights, optimizer and random state of `last`, weights of `best`, test.hyp."""
    last, best = (marked(run_folder, mark) for mark in ("last", "best"))
    places = {
        "weights": last / "model.safetensors",
        "optimizer": last / "training.safetensors",
        "best": best / "model.safetensors",
        "test": run_folder / "test.hyp",
    }
    return {
        name: hashlib.sha256(place.read_bytes()).hexdigest() if place.exists() else "" for name, place in places.items()
    }


def marked(run_folder: Path, mark: str) -> Path:
    """The checkpoint that `checkpoints/best` or `checkpoints/last` names."""
    path = run_folder / "checkpoints" / mark
    return path.parent / (path.read_text(encoding="utf-8").strip() if path.is_file() else mark)


def failpoint_names(prefix: str = "") -> list[str]:
    """The failpoints that the source has, those that begin with `prefix`."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        found |= set(re.findall(r"\breach\(\"([\w.]+)\"\)", path.read_text(encoding="utf-8")))
    return sorted(name for name in found if name.startswith(prefix))


def logged_steps(run_folder: Path) -> list[int]:
    """The steps of the training lines in metrics.jsonl, in their order."""
    path = run_folder / "metrics.jsonl"
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [line["step"] for line in map(json.loads, whole) if line["kind"] == "train"]
