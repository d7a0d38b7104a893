"""The order of system calls in a run, seen by strace: a power failure at any of them leaves a whole checkpoint.

    python scripts/chaos/write_order.py --json write_order.json     # both architectures, 20 s
    python scripts/chaos/write_order.py --quick                     # one

Renaming is atomic for running programs, but not for the disk: without fsync the name may be there before the content.
For every rename inside the run directory:

* a file: nothing was written to it after its last fsync, and its folder is synced before anything is renamed above it;
* a checkpoint's folder: all files were renamed and the folder synced before; the manifest was the last file; the folder
  above is synced before `best` or `last` names it;
* `best` and `last`: as any file.

Rows: 4
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from common import SHORT, TINY, Trial, arguments, conclude, corpus

# A call that another thread interrupts is `unfinished` at first; it counts where it began.
_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)(?:\)\s+= \d+|<unfinished)")
_NAMED = re.compile(r"^\d+<([^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Call(NamedTuple):
    """write or fsync of a path; rename of a path to another."""

    kind: str
    path: str
    new: str = ""


def calls(trace: Path, run: Path) -> list[Call]:
    """What the trace has about the run directory, in its order."""
    found = []
    for line in trace.read_text(encoding="utf-8", errors="replace").split("\n"):
        match = _CALL.match(line)
        if match is None:
            continue
        kind, rest = match[1], match[2]
        if kind in ("write", "pwrite64", "fsync", "fdatasync"):
            named = _NAMED.match(rest)
            call = Call("sync" if "sync" in kind else "write", named[1] if named else "")
        else:
            old, new = _QUOTED.findall(rest)[:2]
            call = Call("rename", old, new)
        if call.path.startswith(str(run)):
            found.append(call)
    return found


def check(found: list[Call]) -> list[Trial]:
    """One trial for each rename, by the rules above."""
    trials = []
    for place, call in enumerate(found):
        if call.kind != "rename":
            continue
        old, new, before, after = Path(call.path), Path(call.new), found[:place], found[place + 1 :]
        following = next((later for later in after if later.kind != "write"), None)
        faults = []
        if following != Call("sync", str(new.parent)) and not old.name.startswith(".removed-"):
            faults.append(f"followed by {following}, not by fsync of {new.parent.name}")
        inside = [step for step in before if step.kind == "rename" and Path(step.new).parent == old]
        if inside:
            kind = "folder"
            if Call("sync", str(old)) not in before[before.index(inside[-1]) :]:
                faults.append("the folder was not synced after its last file")
            if Path(inside[-1].new).name != "manifest.json":
                faults.append(f"{Path(inside[-1].new).name} is the last file, not the manifest")
        elif new.name.startswith((".removed-", ".replaced-")):
            continue  # makes room; the order does not matter
        else:
            kind = "name" if new.name in ("best", "last") else "file"
            touched = [step.kind for step in before if step.path == str(old) and step.kind in ("write", "sync")]
            if not touched or touched[-1] != "sync":
                faults.append(f"its last calls were {touched[-3:]}")
        if kind == "name":
            target = [step for step in before if step.kind == "rename" and "step-" in Path(step.new).name]
            if target and Call("sync", str(new.parent)) not in before[before.index(target[-1]) :]:
                faults.append("names a folder whose own name is not synced")
        trials.append(Trial(f"{kind}: {new.name}", not faults, "; ".join(faults)))
    return trials


def traced(folder: Path, kind: str) -> list[Trial]:
    """A tiny run of one architecture under strace."""
    run, trace = folder / "run", folder / "trace"
    steps = ["training.max_steps=6", "training.validate_every=2", "training.average_checkpoints=2", "data.holdout=4"]
    command = ["train", *corpus(folder), "-o", str(run), *TINY[kind], *SHORT, *steps, "training.metric=loss"]
    names = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2"
    strace = ["strace", "-f", "-y", "-s", "0", "--seccomp-bpf", "-e", f"trace={names}", "-o", str(trace)]
    environment = {**os.environ, "SEQ2SEQ_CACHE": str(folder / "cache")}
    whole = [*strace, sys.executable, "-m", "seq2seq", *command]
    done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return [Trial(f"run: {kind}", False, done.stderr[-2000:])]
    trials = check(calls(trace, run))
    kinds = {trial.name.split(":")[0] for trial in trials}
    return [*trials, Trial(f"run: {kind}", kinds == {"file", "folder", "name"}, f"only {kinds} were renamed")]


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    if shutil.which("strace") is None:
        print("skipped: strace is not installed")
        return 0
    trials = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for kind in list(TINY)[: 1 if options.quick else 2]:
            trials += traced(Path(folder).resolve() / kind, kind)
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
