"""SIGTERM, Ctrl-C, SIGUSR1, SIGHUP and a terminal that goes away: the step is saved, the same bits come out.

    python scripts/chaos/signals.py --json signals.json      # 100 SIGTERMs, 20 of each other, about 8 minutes
    python scripts/chaos/signals.py --quick                  # 3 signals

A signal comes at a random time of a tiny run, preparation, validation and scoring included. A trial passes where the
process ends within 10 s with 128 + N and says what was saved, the same command goes on from just there, so that no step
is repeated, and it ends with weights, optimizer, best model, test output and logged steps of the undisturbed run.
The second Ctrl-C need not save, and on a closed terminal nothing can be said.

A signal may come before the command has made its run folder, and so before it answers signals: then it may simply die
of it. Such trials have lines of their own in the table ("before anything began"), and another one takes their place.

Rows: 5, 6, 7, 8
"""

from __future__ import annotations

import os
import pty
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from common import TINY, Child, Outcome, Trial, arguments, conclude, until_interrupted, warm_up
from kills import Disturbed

LIMIT_SECONDS = 10.0
EARLY = ", before anything began"
MOST_EARLY = 5
"""Trials in a row that may come too early."""


class Signals(Disturbed):
    """Signals to one kind of run."""

    def send(self, number: signal.Signals, *, twice: bool = False) -> Trial:
        """One signal at a random time; the second follows after a moment."""
        shutil.rmtree(self.run)
        moment = self.dice.uniform(0.2, 0.95) * self.seconds
        child = Child(self.command, log=self.log, environment=self.environment)
        time.sleep(moment)
        sent = time.monotonic()
        child.send(number)
        if twice:
            time.sleep(self.dice.uniform(0.001, 0.1))
            child.send(number)
        end = child.end(30.0)
        name = f"{number.name}{' twice' if twice else ''}"
        return self.conclude(name, moment, end, number, time.monotonic() - sent, silent=twice)

    def close_the_terminal(self) -> Trial:
        """The window is closed at a random time: SIGHUP comes, and stderr takes nothing any more."""
        shutil.rmtree(self.run)
        moment = self.dice.uniform(0.2, 0.95) * self.seconds
        ours, its = pty.openpty()

        def prepare() -> None:
            os.close(ours)
            os.close(its)

        child = Child(self.command, log=self.log, environment=self.environment, prepare=prepare, terminal=its)
        os.close(its)
        os.set_blocking(ours, False)
        until = time.monotonic() + moment
        while time.monotonic() < until:
            time.sleep(0.01)
            with suppress(OSError):
                os.read(ours, 1 << 16)  # a full terminal would stop the child
        sent = time.monotonic()
        os.close(ours)
        end = child.end(30.0)
        return self.conclude("closed terminal", moment, end, signal.SIGHUP, time.monotonic() - sent, silent=True)

    def conclude(
        self, name: str, moment: float, end: Outcome, number: signal.Signals, seconds: float, *, silent: bool
    ) -> Trial:
        """Look at how it ended, run the command again, and compare."""
        faults = []
        # The handlers are there before the run folder is. At the very end, nobody is there any more who would answer.
        early = not self.run.exists()
        finished = (self.run / "results.json").exists() and end.code in (0, -number, 128 + number)
        allowed = (128 + number, -number) if early else (128 + number,)
        if end.code not in allowed and not finished:
            faults.append(f"exit code {end.code}, not {allowed[0]}: {end.said[-1500:]}")
        if seconds > LIMIT_SECONDS:
            faults.append(f"took {seconds:.1f} s")
        if "Traceback" in end.said:
            faults.append(f"a traceback: {end.said[-1500:]}")
        if not (silent or finished or early or "; run the same command to continue" in end.said):
            faults.append(f"does not say what was saved: {end.said[-500:]}")
        saved = re.search(r"saved step ([\d,]+); run the same command", end.said)
        again = self.child().end()
        resumed = re.search(r"resuming from step ([\d,]+)", again.said)
        if early and resumed:
            faults.append(f"no run folder, and yet {resumed[0]}")
        if saved and (resumed is None or resumed[1] != saved[1]):
            faults.append(f"saved step {saved[1]}, but the next run: {again.said[:500]}")
        if again.code:
            faults.append(f"then exit code {again.code}: {again.said[-1500:]}")
        faults += self.differences()
        where = f"{self.kind} after {moment:.2f} s"
        return Trial(f"{name}{EARLY if early else ''}: {where}", not faults, "; ".join(faults))


def in_time(trial: Callable[[], Trial]) -> list[Trial]:
    """A trial whose signal met a run that had begun, after those that came too early."""
    found = [trial()]
    while EARLY in found[-1].name and found[-1].passed and len(found) <= MOST_EARLY:
        found.append(trial())
    return found


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    dice, started = random.Random(options.seed), time.monotonic()
    trials: list[Trial] = []
    times = {signal.SIGTERM: 100, signal.SIGINT: 20, signal.SIGUSR1: 20, signal.SIGHUP: 20}
    others = 20
    kinds = [(kind, workers) for kind in TINY for workers in (0, 2)]
    if options.quick:
        times, others, kinds = {signal.SIGUSR1: 1}, 1, [("transformer", 2)]
    with until_interrupted(), tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        series = [Signals(Path(folder) / f"{kind}{n}", kind, n, dice, quick=options.quick) for kind, n in kinds]
        for number, count in times.items():
            for turn in range(count):
                trials += in_time(partial(series[turn % len(series)].send, number))
        for turn in range(others):
            trials += in_time(partial(series[turn % len(series)].send, signal.SIGINT, twice=True))
        for turn in range(others):
            trials += in_time(series[turn % len(series)].close_the_terminal)
    return conclude(options, trials, {"seconds": round(time.monotonic() - started)})


if __name__ == "__main__":
    sys.exit(main())
