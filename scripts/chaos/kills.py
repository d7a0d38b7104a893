"""SIGKILL at any instant: the same command goes on from the last checkpoint and ends in the same bits.

    python scripts/chaos/kills.py --json kills.json          # 80 kills, failpoints three times, every write
    python scripts/chaos/kills.py --quick                    # 4 kills

Kills come at random times, at failpoints (in the middle of a write, before and after every rename, in pruning), and
before each single rename of a run. In a run whose averaged model is the best, they come at every failpoint of the end:
averaging, test scoring, results. Tiny runs of both architectures with dropout, accumulation over two batches, subword
sampling and the mean of checkpoints, with 0 and 2 loader processes. Of runs of two ranks the parent is killed, half the
times before the first step and with an empty cache; all other processes must end within 5 s. A trial passes where the
run goes on from the newest checkpoint that was complete at the kill, ends with exit code 0 and has weights, optimizer
and random state, best model, test output and logged steps of the run that nobody disturbed.

Rows: 1, 2, 3, 51, 52
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
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
    failpoint_names,
    hashes,
    is_running,
    logged_steps,
    until_interrupted,
    warm_up,
)

STEPS, LOOK = 10, 2
ENDING_SECONDS = 5.0
SETTINGS = [
    *SHORT,
    f"training.max_steps={STEPS}",
    f"training.validate_every={LOOK}",
    "training.accumulation_steps=2",
    "training.average_checkpoints=3",
    "training.metric=loss",
    "model.dropout=0.2",
    "tokenizer.sampling=0.2",
]


# Steps that overshoot, so that the average of the last checkpoints is better than each of them.
AVERAGED = [
    "model.dropout=0.4",
    "tokenizer.sampling=0",
    "training.optimizer.learning_rate=0.08",
    "training.schedule.kind=constant",
    "training.schedule.warmup_steps=1",
    "training.max_steps=40",
    "training.validate_every=4",
    "training.average_checkpoints=4",
]
END_FAILPOINTS = ("save.before_manifest", "save.before_rename", "save.after_rename", "save.before_best", "write.half")
END_FAILPOINTS += ("write.before_rename", "write.after_rename", "folder.after_rename")


def command(files: list[str], kind: str, workers: int, devices: int, run: Path) -> list[str]:
    """The training that is disturbed."""
    counts = [f"training.num_workers={workers}", f"devices={devices}"]
    return ["train", *files, "-o", str(run), *TINY[kind], *SETTINGS, *counts]


def complete_steps(run: Path) -> list[int]:
    """Checkpoints that a killed process has left complete (half-removed and moved ones are called otherwise)."""
    found = (run / "checkpoints").glob("*step-*/manifest.json")
    names = (re.fullmatch(r"(?:\.replaced-)?step-(\d+)", path.parent.name) for path in found)
    return sorted(int(name[1]) for name in names if name)


class Disturbed:
    """One kind of run that is disturbed again and again, and what it is when nobody disturbs it."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        workers: int,
        dice: random.Random,
        *,
        devices: int = 1,
        quick: bool,
        more: Sequence[str] = (),
    ) -> None:
        self.kind, self.dice, self.folder = kind, dice, folder
        self.run, self.log = folder / "run", folder / "log"
        self.command = [*command(corpus(folder), kind, workers, devices, self.run), *more]
        self.environment = {"SEQ2SEQ_CACHE": str(folder.parent / "cache")}
        for _ in range(1 if quick else 2):  # the first fills the cache, the second takes the time of a run
            shutil.rmtree(self.run, ignore_errors=True)
            whole = self.child().end()
            assert whole.code == 0, whole.said
        self.seconds, self.expected, self.steps = whole.seconds, hashes(self.run), logged_steps(self.run)

    def child(self, **planned: str) -> Child:
        """The command, started."""
        return Child(self.command, log=self.log, environment=self.environment | planned)

    def differences(self) -> list[str]:
        """What is not as in the run that nobody disturbed."""
        faults = [name for name, value in hashes(self.run).items() if value != self.expected[name]]
        if logged_steps(self.run) != self.steps:
            faults.append(f"logged {logged_steps(self.run)}")
        return faults + [f"left {path}" for path in self.run.rglob(".*-*")]


class Kills(Disturbed):
    """Kills of one kind of run."""

    def at_a_time(self) -> Trial:
        """One kill at a random time."""
        shutil.rmtree(self.run)
        moment = self.dice.uniform(0.0, self.seconds)
        child = self.child()
        time.sleep(moment)
        child.send(signal.SIGKILL)
        child.end()
        return self.conclude(f"{self.kind} at a random time: {moment:.3f} s")

    def of_the_parent(self, *, early: bool) -> Trial:
        """One kill of the parent of two ranks, or a kill before the first step."""
        shutil.rmtree(self.run)
        planned = {"SEQ2SEQ_CACHE": str(self.folder / "cold")} if early else {}
        shutil.rmtree(self.folder / "cold", ignore_errors=True)
        started = time.monotonic()
        child = self.child(**planned)
        if early:
            time.sleep(self.dice.uniform(0.0, 0.3 * self.seconds))
        else:
            child.wait_until(lambda: bool(logged_steps(self.run)))
            time.sleep(self.dice.uniform(0.0, 0.6 * self.seconds))
        moment, processes = time.monotonic() - started, descendants(child.pid)
        child.send(signal.SIGKILL)
        child.end()
        deadline = time.monotonic() + ENDING_SECONDS
        while (left := [pid for pid in processes if is_running(pid)]) and time.monotonic() < deadline:
            time.sleep(0.005)
        name = f"{self.kind}, two ranks, parent {'before step 1' if early else 'in training'}: {moment:.3f} s"
        trial = self.conclude(name)
        return trial._replace(passed=False, detail=f"processes {left} stay; {trial.detail}") if left else trial

    def at_a_failpoint(self, name: str, highest: int = 24) -> Trial:
        """One kill at a failpoint, the N-th time that the run comes there."""
        number = self.dice.randint(1, highest)
        while True:
            shutil.rmtree(self.run)
            if name == "folder.replaced":  # a step is saved again only where a signal came in the last one
                self.child(SEQ2SEQ_FAILPOINTS=f"step.begin=term@{STEPS}").end()
            end = self.child(SEQ2SEQ_FAILPOINTS=f"{name}=kill@{number}").end()
            if end.code == -signal.SIGKILL:
                return self.conclude(f"{self.kind} at a failpoint: {name} {number}")
            if number == 1 or end.code != 0:
                return Trial(f"not reached: {name}", end.code == 0, end.said[-1500:] if end.code else "")
            number //= 2

    def at_every(self, name: str) -> list[Trial]:
        """One kill each time that the run comes to a failpoint."""
        trials: list[Trial] = []
        while True:
            shutil.rmtree(self.run)
            number = len(trials) + 1
            end = self.child(SEQ2SEQ_FAILPOINTS=f"{name}=kill@{number}").end()
            if end.code != -signal.SIGKILL:
                return trials
            trials.append(self.conclude(f"{self.kind}, every {name}: {number}"))

    def conclude(self, name: str) -> Trial:
        """Run the command again, and compare."""
        kept = complete_steps(self.run)
        end = self.child().end()
        faults = [] if end.code == 0 else [f"exit code {end.code}: {end.said[-1500:]}"]
        resumed = re.search(r"resuming from step ([\d,]+)", end.said)
        began = int(resumed[1].replace(",", "")) if resumed else 0
        finished = "is finished" in end.said
        if began != max(kept, default=0) and not finished:
            faults.append(f"began at step {began}, though {kept} were complete")
        faults += self.differences()
        return Trial(name, not faults, "; ".join(faults))


class Ends(Disturbed):
    """Kills in the end of a run that has done all its steps."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        super().__init__(folder, "gru", 0, dice, quick=True, more=AVERAGED)
        shutil.rmtree(self.run)
        self.child(SEQ2SEQ_FAILPOINTS="average.begin=kill").end()
        self.stepped = Path(shutil.copytree(self.run, folder / "stepped", symlinks=True))
        whole = self.child().end()
        assert whole.code == 0, whole.said
        self.results = (self.run / "results.json").read_bytes()
        assert self.run.joinpath("checkpoints/averaged").exists(), whole.said

    def at_every(self, name: str) -> list[Trial]:
        """One kill each time that the end of the run comes to a failpoint."""
        trials: list[Trial] = []
        while True:
            shutil.rmtree(self.run)
            shutil.copytree(self.stepped, self.run, symlinks=True)
            number = len(trials) + 1
            end = self.child(SEQ2SEQ_FAILPOINTS=f"{name}=kill@{number}").end()
            if end.code != -signal.SIGKILL:
                return trials
            again = self.child().end()
            faults = [] if again.code == 0 else [f"exit code {again.code}: {again.said[-1500:]}"]
            faults += self.differences()
            if (self.run / "results.json").read_bytes() != self.results:
                faults.append("other results")
            trials.append(Trial(f"end of a run, every {name}: {number}", not faults, "; ".join(faults)))


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    dice, trials, started = random.Random(options.seed), [], time.monotonic()
    names = failpoint_names()
    with until_interrupted(), tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        kinds = [(kind, workers) for kind in TINY for workers in (0, 2)]
        if options.quick:
            kinds, names = [("gru", 2)], ["folder.half_removed"]
        series = [Kills(Path(folder) / f"{kind}{n}", kind, n, dice, quick=options.quick) for kind, n in kinds]
        points = [name for name in names for _ in range(1 if options.quick else 3)]
        for number in range(1 if options.quick else 50):
            trials.append(series[number % len(series)].at_a_time())
        for number, name in enumerate(points):
            trials.append(series[number % len(series)].at_a_failpoint(name))
        pairs = [
            Kills(Path(folder) / f"{kind}ranks", kind, n, dice, devices=2, quick=options.quick)
            for kind, n in (("gru", 1), ("transformer", 0))[: 1 if options.quick else 2]
        ]
        for number in range(2 if options.quick else 30):
            trials.append(pairs[number // 2 % len(pairs)].of_the_parent(early=number % 2 == 0))
        if not options.quick:
            trials += series[0].at_every("write.before_rename")
            ends = Ends(Path(folder) / "ends", dice)
            for name in END_FAILPOINTS:
                trials += ends.at_every(name)
    return conclude(options, trials, {"seconds": round(time.monotonic() - started)})


if __name__ == "__main__":
    sys.exit(main())
