"""Ranks of torchrun that are lost: `--max-restarts` goes on by itself, a lost node after the same commands; same bits.

    python scripts/chaos/restarts.py --json restarts.json    # 10 of each loss, about 20 minutes
    python scripts/chaos/restarts.py --quick                 # 1 of each

A restart: `torchrun --nproc-per-node=2 --max-restarts=3` on one machine, and one of the two gloo ranks gets SIGKILL at
a random time after the first logged step. torchrun must end with exit code 0. A node: two torchruns of one rank each
(`--nnodes=2`), which meet on the loopback interface; one of them gets SIGKILL with its rank. The other must end with
an error, and the same two commands must then end with exit code 0. A machine: the same in two network namespaces of
Linux, which have an address each and a cable between them (this needs root and iproute2, and is left out elsewhere);
either one of them is killed, or the cable is cut, and both must end with an error. All trials pass where weights,
optimizer, random states and test output are those of a run with two ranks that nobody disturbed.

Rows: 10
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from common import SHORT, TINY, Trial, arguments, conclude, corpus, descendants, hashes, logged_steps, until_interrupted

LIMIT_SECONDS = 300.0
SETTINGS = [
    *SHORT[1:],
    "training.max_steps=100",
    "training.validate_every=20",
    "training.metric=loss",
    "model.dropout=0.2",
    "device=cpu",
]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Machines:
    """Two network namespaces with a cable between them."""

    def __init__(self) -> None:
        self.names = [f"seq2seq-{os.getpid()}-{number}" for number in range(2)]

    @staticmethod
    def are_possible() -> bool:
        """Whether this process may make them."""
        return shutil.which("ip") is not None and hasattr(os, "geteuid") and os.geteuid() == 0

    @staticmethod
    def address(number: int) -> str:
        """The address of a machine."""
        return f"10.93.0.{number + 1}"

    def plug(self, state: str) -> None:
        """Set the cable `up` or `down` at both ends."""
        for name in self.names:
            subprocess.run(["ip", "-n", name, "link", "set", "cable", state], check=True)

    def __enter__(self) -> Machines:
        ends = [["netns", name] for name in self.names]
        for name in self.names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        cable = ["type", "veth", "peer", "name", "cable"]
        subprocess.run(["ip", "link", "add", "cable", *ends[0], *cable, *ends[1]], check=True)
        for number, name in enumerate(self.names):
            subprocess.run(["ip", "-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "cable"], check=True)
        self.plug("up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)


class Runs:
    """Runs of two ranks that torchrun starts."""

    def __init__(self, folder: Path, kind: str, chance: random.Random) -> None:
        self.kind, self.chance, self.folder, self.run = kind, chance, folder, folder / "run"
        files = corpus(folder)
        self.train = ["-m", "seq2seq", "train", *files, "-o", str(self.run), *TINY[kind], *SETTINGS]
        self.environment = os.environ | {"SEQ2SEQ_CACHE": str(folder / "cache"), "SEQ2SEQ_RANK_TIMEOUT": "60"}
        for _ in range(2):  # the second one with a warm cache, to know how long a run takes
            shutil.rmtree(self.run, ignore_errors=True)
            began = time.monotonic()
            assert self.ends([self.torchrun("--nproc-per-node=2")]) == [0], self.said()
            self.seconds = time.monotonic() - began
        self.expected = hashes(self.run)

    def torchrun(self, *options: str, machine: str = "") -> subprocess.Popen[bytes]:
        """One torchrun in a process group of its own."""
        place = options if "--nnodes=2" in options else ("--standalone", *options)
        command = [sys.executable, "-m", "torch.distributed.run", *place, *self.train]
        if machine:
            command = ["ip", "netns", "exec", machine, *command]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True
            )

    def nodes(self, machines: Machines | None) -> list[subprocess.Popen[bytes]]:
        """The torchruns of two nodes, with one rank each."""
        first = "127.0.0.1" if machines is None else machines.address(0)
        meeting = [f"--master-addr={first}", f"--master-port={free_port()}"]
        options = ["--nnodes=2", "--nproc-per-node=1", "--max-restarts=0", *meeting]
        names = ["", ""] if machines is None else machines.names
        return [self.torchrun(*options, f"--node-rank={number}", machine=name) for number, name in enumerate(names)]

    def said(self) -> str:
        """The end of what the processes have said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def ends(self, processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
        """The exit codes; -SIGKILL for what has hung."""
        codes = []
        for process in processes:
            try:
                codes.append(process.wait(LIMIT_SECONDS))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes.append(process.wait())
        return codes

    def wait_in_training(self, watched: subprocess.Popen[bytes]) -> None:
        """Return at a random time after the first logged step."""
        while not logged_steps(self.run) and watched.poll() is None:
            time.sleep(0.02)
        time.sleep(self.chance.uniform(0.0, 0.2 * self.seconds))

    def begin(self) -> None:
        """A folder without a run."""
        shutil.rmtree(self.run, ignore_errors=True)
        (self.folder / "log").unlink(missing_ok=True)

    def restart(self) -> Trial:
        """One rank is killed, and torchrun starts all of them again."""
        self.begin()
        process = self.torchrun("--nproc-per-node=2", "--max-restarts=3")
        self.wait_in_training(process)
        ranks = sorted(descendants(process.pid))
        killed = self.chance.choice(ranks) if ranks else 0
        with suppress(ProcessLookupError):
            if killed:
                os.kill(killed, signal.SIGKILL)
        codes = self.ends([process])
        return self.trial("restart", [] if codes == [0] else [f"exit code {codes}: {self.said()}"])

    def lose_node(self, machines: Machines | None = None) -> Trial:
        """One node is killed with its rank, or two machines lose their cable; the same commands go on."""
        self.begin()
        faults, nodes = list[str](), self.nodes(machines)
        self.wait_in_training(nodes[0])
        lost = {self.chance.randrange(2)}
        if machines is not None and self.chance.random() < 0.5:
            machines.plug("down")
            lost = set()
        for number in lost:
            for pid in [nodes[number].pid, *descendants(nodes[number].pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        codes = self.ends(nodes)
        if any(codes[number] <= 0 for number in {0, 1} - lost):
            faults.append(f"the nodes ended with {codes}: {self.said()}")
        if machines is not None:
            machines.plug("up")
        codes = self.ends(self.nodes(machines))
        if codes != [0, 0]:
            faults.append(f"then exit codes {codes}: {self.said()}")
        what = "node" if machines is None else "machine" if lost else "cable"
        return self.trial(what, faults)

    def trial(self, what: str, faults: list[str]) -> Trial:
        """What is left of the run is compared with the undisturbed one."""
        resumed = self.said().count("resuming from step")
        faults += [f"other {part}" for part, value in hashes(self.run).items() if value != self.expected[part]]
        return Trial(f"{what}: {self.kind}", not faults, "; ".join(faults) or f"resumed {resumed} times")


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    chance, trials = random.Random(options.seed), list[Trial]()
    kinds = ["gru"] if options.quick else list(TINY)
    with until_interrupted(), tempfile.TemporaryDirectory(prefix="chaos-") as folder, ExitStack() as held:
        machines = held.enter_context(Machines()) if Machines.are_possible() else None
        series = [Runs(Path(folder) / kind, kind, chance) for kind in kinds]
        for turn in range(1 if options.quick else 10):
            runs = series[turn % len(series)]
            trials += [runs.restart(), runs.lose_node()]
            if machines is not None:
                trials.append(runs.lose_node(machines))
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
