"""A server on this machine poses as the dataset hub, and as a plain host of files, and misbehaves in every way we know.

Full size (a quarter of an hour, most of it waiting; about three minutes of one core):

    python scripts/chaos/hub.py --json hub.json

Proves: `seq2seq data prepare` on a `hub:` source and `seq2seq data download` of a URL with a hash, with answers cut,
changed, slow, silent, busy (429 and 503 with Retry-After), web pages with status 200, or missing, once, always and in
random order, ends with exit 0 and the same bytes as on a good day, or with exit 4 and one message with a hint; never a
traceback, never later than a minute; and the same command on a good day then succeeds: nothing bad was kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import ROOT, Outcome, Trial, arguments, conclude, run, warm_up

sys.path.insert(0, str(ROOT))

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.faults.loopback import Loopback, loopback, pose_as_hub

STATUS = ("403", "404", "408", "429", "429:1", "429:3600", "500", "502", "503", "503:1", "504")
BODY = ("cut:0", "cut:1", "cut:3000", "cut:60000", "flip", "stall", "norange", "changed", "endless", "close", "slow")
ANY = ("drop", "html")
SECONDS = 60.0


def plans(count: int, chance: random.Random) -> Iterator[dict[str, list[str]]]:
    """Every fault once and always for each kind of request, then random sequences."""
    for kind in ("get", "head", "api"):
        for fault in (*STATUS, *ANY, *(BODY if kind == "get" else ("stall",) if kind == "api" else ())):
            yield {kind: [fault]}
            yield {kind: [fault] * 200}
    for _ in range(count):
        plan = {"get": chance.choices((*STATUS[2:5], *STATUS[6:], *BODY, *ANY, ""), k=chance.randrange(1, 7))}
        if chance.random() < 0.3:
            plan["api"] = chance.choices((*STATUS, *ANY), k=2)
        if chance.random() < 0.3:
            plan["head"] = chance.choices((*STATUS, *ANY), k=2)
        yield plan


def attempt(server: Loopback, command: list[str], home: Path) -> Outcome:
    """The command, with a cache of its own and no patience for waits that only take time."""

    def fit() -> None:
        import huggingface_hub

        from seq2seq.data import fetch_url, hub, retry

        pose_as_hub(server, home / "hf", pytest.MonkeyPatch())
        retry._FIRST_WAIT_SECONDS = 0.02
        wait = time.sleep
        time.sleep = lambda seconds: wait(min(seconds, 0.02))
        fetch_url.TIME_OUT_SECONDS = hub.TIME_OUT_SECONDS = 0.5
        huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.5  # type: ignore[assignment]
        huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 4096
        os.environ["SEQ2SEQ_CACHE"] = str(home / "cache")
        os.chdir(home)

    home.mkdir(exist_ok=True)
    return run(command, log=home / "log", seconds=SECONDS, prepare=fit)


def result(home: Path) -> str:
    """Hash of what training would read."""
    files = [*(home / "cache").glob("*/train.arrow"), *home.glob("a.en")]
    return "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def judge(server: Loopback, command: list[str], good: str, plan: dict[str, list[str]], home: Path) -> tuple[bool, str]:
    """The faults, and then a good day."""
    server.plan = {kind: list(faults) for kind, faults in plan.items()}
    bad = attempt(server, command, home)
    server.plan = {}
    faults = []
    if bad.code not in (0, 4) or "Traceback" in bad.said:
        faults.append("not one of the two ends")
    if bad.code == 0 and result(home) != good:
        faults.append("other data")
    if bad.code == 4 and (bad.said.count("error:") != 1 or "hint:" not in bad.said):
        faults.append("not one message with a hint")
    again = attempt(server, command, home)
    if again.code != 0 or result(home) != good:
        faults.append(f"something bad was kept: {again.said}")
    return not faults, f"exit {bad.code} after {bad.seconds:.1f} s {'; '.join(faults)}\n{bad.said if faults else ''}"


def fill(server: Loopback) -> None:
    """A corpus of 5,000 pairs as Parquet on the hub, and as two text files."""
    pairs = [(f"the cat {n} sat", f"die Katze {n} {hashlib.md5(str(n).encode()).hexdigest()}") for n in range(5000)]
    table = io.BytesIO()
    columns = {"en": [left for left, _ in pairs], "de": [right for _, right in pairs]}
    pq.write_table(pa.table(columns), table, compression="NONE")
    server.files = {"train.parquet": table.getvalue(), "README.md": b"---\nlicense: mit\n---\n"}
    server.plain = {f"a.{side}": "".join(text + "\n" for text in texts).encode() for side, texts in columns.items()}


def main() -> int:
    """Every plan on both commands, and the table."""
    options = arguments(__doc__)
    chance, trials = random.Random(options.seed), list[Trial]()
    warm_up()
    with loopback() as server, tempfile.TemporaryDirectory() as name:
        fill(server)

        address = f"{server.address}/files/a.en#sha256={hashlib.sha256(server.plain['a.en']).hexdigest()}"
        source = "data.train=[{hub: some/where, source: en, target: de}]"
        commands = {
            "hub": ["data", "prepare", source, "tokenizer.kind=word"],
            "url": ["data", "download", address, "-o", "a.en"],
        }
        for kind, command in commands.items():
            home = Path(name) / kind
            assert attempt(server, command, home).code == 0, (home / "log").read_text()
            good = result(home)
            # The hub's libraries set no limit to an answer that comes byte by byte.
            wanted = [
                plan
                for plan in plans(5 if options.quick else 80, chance)
                if (kind == "hub" and "slow" not in plan.get("get", ())) or (kind == "url" and set(plan) == {"get"})
            ]
            if options.quick:
                wanted = wanted[:: max(1, len(wanted) // 12)]
            for number, plan in enumerate(wanted):
                passed, seen = judge(server, command, good, plan, Path(name) / f"{kind}-{number}")
                end = "mended" if seen.startswith("exit 0") else "told"
                shown = {part: faults[:7] + ["..."] * (len(faults) > 7) for part, faults in plan.items()}
                trials.append(Trial(f"{kind}, {end}: {shown}", passed, seen))
    return conclude(options, trials)


if __name__ == "__main__":
    raise SystemExit(main())
