"""Two trainings with one cache, and a damaged cache.

Full size (ten minutes of two cores):

    python scripts/chaos/cache.py --json cache.json

Proves: two trainings that start at once, or of which one is stopped at a random moment while the other trains, both end
with exit 0 and the same weights, whether their cache is cold or damaged, and leave no temporary file in it; after the
flip of a random bit of a file of the cache, the same command trains the same weights.

Rows: 39, 55
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from common import SHORT, TINY, Child, Trial, arguments, conclude, corpus, hashes, run, until_interrupted, warm_up

SETTINGS = [
    *TINY["gru"],
    *SHORT,
    "training.max_steps=2",
    "training.schedule.warmup_steps=0",
    "training.validate_every=2",
    "training.metric=loss",
]


def flip(cache: Path, draws: random.Random) -> str:
    """Flip a bit of a random file of the cache; returns its name and the place."""
    path = draws.choice(sorted(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(path.read_bytes())
    place = draws.randrange(len(content))
    content[place] ^= 1 << draws.randrange(8)
    path.write_bytes(content)
    return f"{path.name} byte {place}"


def main() -> int:
    """Races, and flipped bits, and the table."""
    options = arguments(__doc__)
    warm_up()
    draws = random.Random(options.seed)
    trials = []
    with until_interrupted(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, cache = corpus(folder, 200), folder / "cache"
        os.environ["SEQ2SEQ_CACHE"] = str(cache)

        def command(run_name: str) -> list[str]:
            shutil.rmtree(folder / run_name, ignore_errors=True)
            return ["train", *files, "-o", str(folder / run_name), *SETTINGS]

        whole = run(command("expected"), log=folder / "log")
        assert whole.code == 0, whole.said
        expected = hashes(folder / "expected")
        for number in range(4 if options.quick else 40):
            kind = ("cold", "damaged")[number % 2]
            if kind == "cold":
                shutil.rmtree(cache)
            else:
                flip(cache, draws)
            stop, wait = draws.random() < 0.5, draws.uniform(0, 0.6)
            first = Child(command("a"), log=folder / "log-a")
            time.sleep(wait)
            if stop:
                first.send(signal.SIGSTOP)
            second = Child(command("b"), log=folder / "log-b")
            ended = [second.end()]
            first.send(signal.SIGCONT)
            ended.append(first.end())
            same = hashes(folder / "a") == hashes(folder / "b") == expected
            left = [path.name for path in cache.glob(".making-*")]
            passed = same and not left and all(end.code == 0 for end in ended)
            detail = "\n".join(f"exit {end.code}\n{end.said[-600:]}" for end in ended)
            trials.append(Trial(f"{kind}: wait {wait:.2f} stop {stop}", passed, f"same {same} left {left}\n{detail}"))
        for _ in range(6 if options.quick else 100):
            place = flip(cache, draws)
            end = run(command("a"), log=folder / "log-a")
            passed = end.code == 0 and hashes(folder / "a") == expected
            trials.append(Trial(f"bit: {place}", passed, f"exit {end.code}\n{end.said[-600:]}"))
    return conclude(options, trials)


if __name__ == "__main__":
    raise SystemExit(main())
