"""A full disk at any place of a run: exit code 7 with the room needed and free, and nothing that was saved is lost.

    python scripts/chaos/full_disk.py --json full_disk.json     # 60 runs, about 4 minutes
    python scripts/chaos/full_disk.py --quick                   # 6

* tmpfs: the run lies on a disk of 2 MiB that a file of random size leaves too small (needs root and `unshare`, else it
  is skipped, and that is said);
* limit: RLIMIT_FSIZE cuts every file off at a random size (EFBIG), logs and TensorBoard included;
* log: train.log takes nothing; training must go on and say so once.

A trial passes where the command ends with 7 and says what is needed and free (or with 0 where all fitted), no traceback
is shown, the newest complete checkpoint is whole, and after room was made the same command ends with the bits of the
run that nobody disturbed.

Rows: 13, 14
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import SHORT, TINY, Child, Trial, arguments, conclude, corpus, hashes, warm_up

DISK_BYTES = 2 << 20
SETTINGS = [
    *SHORT,
    *TINY["gru"],
    "training.max_steps=8",
    "training.validate_every=2",
    "training.average_checkpoints=2",
    "training.metric=loss",
]


class Disks:
    """The same run on disks that are full."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice, self.log = folder, dice, folder / "log"
        self.files = corpus(folder)
        self.environment = {"SEQ2SEQ_CACHE": str(folder / "cache")}
        whole = self.child(folder / "whole").end()
        assert whole.code == 0, whole.said
        self.expected = hashes(folder / "whole")

    def child(self, run: Path, prepare: Callable[[], object] | None = None, **more: str) -> Child:
        """The training, started; what it says goes to a file elsewhere, so that it takes no room."""
        command = ["train", *self.files, "-o", run, *SETTINGS]
        return Child(command, log=self.log, environment={**self.environment, **more}, prepare=prepare)

    def on_tmpfs(self) -> Trial:
        """2 MiB, some of them taken."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
        taken = self.dice.randrange(DISK_BYTES)
        try:
            (disk / "filler").write_bytes(bytes(taken))
            end = self.child(disk / "run").end()
            faults = self.look(end.code, end.said)
            (disk / "filler").unlink()
            subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
            faults += self.again(disk / "run")
        finally:
            subprocess.run(["umount", disk], check=True)
        return Trial(f"tmpfs: {taken} bytes taken", not faults, "; ".join(faults))

    def with_a_limit(self) -> Trial:
        """No file may grow beyond a size."""
        limit = int(2 ** self.dice.uniform(6, 18))
        run = self.folder / "limited"
        end = self.child(run, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))).end()
        # What it says goes to a file as well, which may be too short for it.
        faults = self.look(end.code, end.said, whole=len(end.said.encode()) < limit) + self.again(run)
        shutil.rmtree(run)
        return Trial(f"limit: {limit} bytes", not faults, "; ".join(faults))

    def with_a_full_log(self) -> Trial:
        """train.log takes nothing."""
        run = self.folder / "logged"
        end = self.child(run, SEQ2SEQ_FAILPOINTS="log.write=enospc@1-").end()
        faults = [] if end.code == 0 else [f"exit code {end.code}: {end.said[-1500:]}"]
        if end.said.count("cannot write the log") != 1:
            faults.append(f"says {end.said.count('cannot write the log')} times that it cannot")
        faults += [name for name, value in hashes(run).items() if value != self.expected[name]]
        shutil.rmtree(run)
        return Trial("log", not faults, "; ".join(faults))

    def look(self, code: int, said: str, *, whole: bool = True) -> list[str]:
        """Whether a command ended as it should on a full disk."""
        faults = []
        if code not in (0, 7) or "Traceback" in said or (whole and code == 7 and said.count("error: ") != 1):
            faults.append(f"exit code {code}: {said[-1500:]}")
        amounts = r"needed [\d,.]+ [KMG]iB, (free [\d,.]+ [KMG]iB|more than one file)"
        if whole and code == 7 and not re.search(amounts, said):
            faults.append(f"does not say how much: {said[-300:]}")
        return faults

    def again(self, run: Path) -> list[str]:
        """The same command with room enough."""
        end = self.child(run).end()
        if end.code:
            return [f"then exit code {end.code}: {end.said[-1500:]}"]
        faults = ["a damaged checkpoint was left"] if "damaged" in end.said else []
        return faults + [name for name, value in hashes(run).items() if value != self.expected[name]]


def own_mounts() -> str:
    """Begin anew where mounts are our own and vanish with us; why that is not to be had, else ""."""
    if os.environ.get("CHAOS_MOUNTS"):
        return ""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs root and unshare"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        return "unshare is not allowed here"
    os.environ["CHAOS_MOUNTS"] = "1"
    return os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    reason = own_mounts()
    warm_up()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        disks = Disks(Path(folder), random.Random(options.seed))
        if reason:
            print(f"tmpfs skipped: {reason}")
        else:
            trials += [disks.on_tmpfs() for _ in range(3 if options.quick else 40)]
        trials += [disks.with_a_limit() for _ in range(2 if options.quick else 19)]
        trials.append(disks.with_a_full_log())
    return conclude(options, trials, {"tmpfs": reason or "mounted"})


if __name__ == "__main__":
    sys.exit(main())
