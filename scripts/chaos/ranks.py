"""Two ranks, one of which is killed or stopped: it is named, nothing is left, and the rerun ends in the same bits.

    python scripts/chaos/ranks.py --json ranks.json          # 10 kills and 10 stops, about 5 minutes
    python scripts/chaos/ranks.py --quick                    # 2 and 1

`seq2seq train --devices 2` starts two gloo ranks; at a random time one of them gets SIGKILL or SIGSTOP. A trial passes
where the command ends within 30 s with exit code 8 and one error that names the rank, no process and no file in shared
memory or the temporary folder is left, and the same command then ends with weights, optimizer and random states of the
run that nobody disturbed. (The time-out after which a stopped rank is given up is 5 s here, 30 minutes else: on a
machine that is very busy, it may also end a rank that is only slow.)

Rows: 10, 11
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from common import (
    SHORT,
    TINY,
    Child,
    Trial,
    arguments,
    conclude,
    corpus,
    descendants,
    hashes,
    logged_steps,
    until_interrupted,
    warm_up,
)

LIMIT_SECONDS, TIMEOUT_SECONDS = 30.0, 5.0
TIMES = ((signal.SIGKILL, 10), (signal.SIGSTOP, 10))
SETTINGS = [
    *SHORT,
    "training.max_steps=60",
    "training.validate_every=20",
    "training.accumulation_steps=2",
    "training.average_checkpoints=2",
    "training.metric=loss",
    "model.dropout=0.2",
    "devices=2",
]


def left_over(folder: Path) -> list[str]:
    """Files of ranks in shared memory and in the temporary folder."""
    return [str(path) for place in (Path("/dev/shm"), folder) for path in place.glob("seq2seq-*")]


class Ranks:
    """Runs of two ranks, one of which is lost."""

    def __init__(self, folder: Path, kind: str, dice: random.Random) -> None:
        self.kind, self.dice, self.folder = kind, dice, folder
        self.run, self.log, self.temporary = folder / "run", folder / "log", folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.command = ["train", *corpus(folder), "-o", self.run, *TINY[kind], *SETTINGS]
        self.environment = {
            "SEQ2SEQ_CACHE": str(folder / "cache"),
            "TMPDIR": str(self.temporary),
        }
        for _ in range(2):
            shutil.rmtree(self.run, ignore_errors=True)
            whole = self.child().end()
            assert whole.code == 0, whole.said
        self.seconds, self.expected, self.steps = whole.seconds, hashes(self.run), logged_steps(self.run)

    def child(self, **more: str) -> Child:
        """The command, started."""
        return Child(self.command, log=self.log, environment=self.environment | more)

    def lose(self, number: signal.Signals) -> Trial:
        """One rank gets the signal in the middle of training."""
        shutil.rmtree(self.run)
        rank = self.dice.randrange(2)
        # A killed rank is seen at once; on a busy machine, a short time-out would end runs that nobody disturbs.
        stopped = number == signal.SIGSTOP
        child = self.child(**({"SEQ2SEQ_RANK_TIMEOUT": str(TIMEOUT_SECONDS)} if stopped else {}))
        child.wait_until(lambda: len(descendants(child.pid)) == 2)
        ranks = sorted(descendants(child.pid))
        child.wait_until(lambda: bool(logged_steps(self.run)))
        time.sleep(self.dice.uniform(0.0, 0.5 * self.seconds))
        name = f"{number.name}: {self.kind} rank {rank}"
        try:
            os.kill(ranks[rank], number)
        except (ProcessLookupError, IndexError):
            child.end()
            return Trial(name, True, "the run had ended")
        sent = time.monotonic()
        end = child.end(LIMIT_SECONDS + 10.0)
        faults = []
        if end.code == 0:
            return Trial(name, True, "the run had ended")
        expected = "was killed by SIGKILL" if number == signal.SIGKILL else "does not answer"
        if end.code != 8 or end.said.count("error: ") != 1 or "Traceback" in end.said:
            faults.append(f"exit code {end.code}: {end.said[-1500:]}")
        if not re.search(rf"error: rank {rank} of 2 {expected}", end.said):
            faults.append(f"names another: {end.said[-500:]}")
        if time.monotonic() - sent > LIMIT_SECONDS:
            faults.append(f"took {time.monotonic() - sent:.1f} s")
        faults += [f"process {pid} is left" for pid in ranks if Path(f"/proc/{pid}").exists()]
        faults += [f"{path} is left" for path in left_over(self.temporary)]
        again = self.child().end()
        if again.code:
            faults.append(f"then exit code {again.code}: {again.said[-1500:]}")
        faults += [part for part, value in hashes(self.run).items() if value != self.expected[part]]
        if logged_steps(self.run) != self.steps:
            faults.append(f"logged {logged_steps(self.run)}")
        return Trial(name, not faults, "; ".join(faults) or f"ended after {end.seconds:.1f} s")


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    dice, trials = random.Random(options.seed), []
    kinds = ["gru"] if options.quick else list(TINY)
    with until_interrupted(), tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        series = [Ranks(Path(folder) / kind, kind, dice) for kind in kinds]
        for number, count in ((signal.SIGKILL, 2), (signal.SIGSTOP, 1)) if options.quick else TIMES:
            for turn in range(count):
                trials.append(series[turn % len(series)].lose(number))
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
