"""Damaged checkpoints: every one is seen, named, and the one before is used; nothing is a traceback.

    python scripts/chaos/checkpoints.py --json checkpoints.json     # 1,000 damages, half a minute
    python scripts/chaos/checkpoints.py --quick                     # 100

A run of each architecture has two checkpoints. The newest is damaged: cut at a random place, one bit flipped, a file
missing or empty, a block of zeros, files of two checkpoints mixed up, the manifest edited by hand, a pickle in place of
a file. `load_last`, as `seq2seq train` calls it, must warn with the name of the checkpoint and load the one before, bit
for bit; `load_best`, as `seq2seq translate` calls it, must raise CheckpointError.

Rows: 17, 18, 19, 22, 24
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import SHORT, TINY, Trial, arguments, conclude, corpus, run, warm_up

FILES = ["model.safetensors", "training.safetensors", "state.json", "manifest.json"]


def cut(folder: Path, dice: random.Random) -> str:
    """One file ends early."""
    path = folder / dice.choice(FILES)
    whole = path.read_bytes()
    length = dice.randrange(len(whole))
    path.write_bytes(whole[:length])
    return f"{path.name} at {length} of {len(whole)}"


def flip(folder: Path, dice: random.Random) -> str:
    """One bit of one file."""
    path = folder / dice.choice(FILES)
    content = bytearray(path.read_bytes())
    place = dice.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    return f"{path.name} bit {place}"


def lose(folder: Path, dice: random.Random) -> str:
    """One or more files are missing."""
    names = dice.sample(FILES, dice.randint(1, len(FILES)))
    for name in names:
        (folder / name).unlink()
    return ", ".join(names)


def zeros(folder: Path, dice: random.Random) -> str:
    """A block of a file reads as zeros, as after a power failure."""
    path = folder / dice.choice(FILES)
    content = bytearray(path.read_bytes())
    start = dice.randrange(len(content))
    end = min(len(content), start + dice.choice([16, 512, 4096]))
    before = bytes(content[start:end])
    content[start:end] = bytes(end - start)
    if before == content[start:end]:
        content.append(0)
    path.write_bytes(content)
    return f"{path.name} from {start} to {end}"


def mix(folder: Path, dice: random.Random) -> str:
    """A file of the other checkpoint under the same name."""
    other = next(path for path in folder.parent.glob("step-*") if path != folder)
    name = dice.choice([name for name in FILES if (other / name).read_bytes() != (folder / name).read_bytes()])
    shutil.copy(other / name, folder / name)
    return name


def edit(folder: Path, dice: random.Random) -> str:
    """The manifest is changed by hand: still JSON, no longer true."""
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    name = dice.choice([name for name in FILES if name in content["files"]])
    key = dice.choice(["size", "sha256", "drop", "path", "type", "number", "list", "extra", "empty", "old"])
    record = content["files"][name]
    match key:
        case "size":
            record["size"] += dice.choice([-1, 1])
        case "sha256":
            record["sha256"] = hashlib.sha256(name.encode()).hexdigest()
        case "drop":
            del content["files"][name]
        case "path":
            content["files"]["../" + name] = content["files"].pop(name)
        case "type":
            content["files"][name] = dice.choice([None, 3, "x", [], {}])
        case "number":
            record["size"] = dice.choice([float("inf"), float("nan"), "1e999", -1, 1 << 70, True])
        case "list":
            content = [content]
        case "extra":
            content["comment"] = "mine"
        case "empty":
            content = {}
        case "old":
            content["format"] = dice.choice([0, 1, -3, "two", None, 2.5])
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return f"{key} of {name}"


def poison(folder: Path, dice: random.Random) -> str:
    """A pickle that would write a file in place of one of ours."""
    name = dice.choice(FILES)
    (folder / name).write_bytes(pickle.dumps(Canary(str(folder.parent.parent / "canary"))))
    return name


class Canary:
    """Unpickling one makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.mkdir, (self.path,)


DAMAGES = [cut, cut, cut, flip, flip, flip, lose, zeros, mix, edit, edit, poison]


def judge(folder: Path, damaged: Path, expected: str) -> str:
    """What is wrong with the answer of `load_last` and `load_best`; "" where nothing is."""
    from seq2seq.checkpoints.folder import CheckpointFolder
    from seq2seq.errors import CheckpointError

    checkpoints = CheckpointFolder(folder)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            last = checkpoints.load_last()
    except CheckpointError as error:
        return "" if error.code == "checkpoint.version" and "version" in error.what else f"raised {error}"
    except BaseException as error:
        return f"TRACEBACK {type(error).__name__}: {error}"
    if last is None or last.path.name == damaged.name:
        return "not detected"
    if fingerprint(last.path) != expected:
        return f"another checkpoint: {last.path}"
    if f"{damaged.name} is damaged" not in said.getvalue() or f"using {last.path.name}" not in said.getvalue():
        return f"said {said.getvalue()!r}"
    try:
        checkpoints.load_best()
    except CheckpointError as error:
        return "" if error.exit_code == 5 and error.hint else f"no hint: {error}"
    except BaseException as error:
        return f"TRACEBACK in translate {type(error).__name__}: {error}"
    # `translate` does not need the optimizer's state.
    names = ("model.safetensors", "state.json", "manifest.json")
    intact = all((damaged / name).read_bytes() == (folder.parent / "whole" / name).read_bytes() for name in names)
    return "" if intact else "not detected by load_best"


def fingerprint(folder: Path) -> str:
    """One hash of all files."""
    parts = [path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    dice, trials = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        for kind, count in zip(TINY, (50, 50) if options.quick else (500, 500), strict=True):
            place = Path(name) / kind
            steps = ["max_steps=4", "validate_every=2", "average_checkpoints=1", "metric=loss"]
            settings = [*TINY[kind], *SHORT, *(f"training.{step}" for step in steps)]
            command = ["train", *corpus(place), "-o", place / "run", *settings]
            done = run(command, log=place / "log", environment={"SEQ2SEQ_CACHE": str(place / "cache")})
            assert done.code == 0, done.said
            folder = place / "run" / "checkpoints"
            older, newest = sorted(folder.glob("step-*"))
            expected, whole = fingerprint(older), folder.parent / "whole"
            shutil.copytree(newest, whole)
            (folder / "best").write_text(newest.name)
            for _ in range(count):
                damage = dice.choice(DAMAGES)
                detail = damage(newest, dice)
                fault = judge(folder, newest, expected)
                if (folder.parent / "canary").exists():
                    fault = "code was run"
                trials.append(Trial(f"{damage.__name__}: {kind} {detail}", not fault, fault))
                shutil.rmtree(newest)
                shutil.copytree(whole, newest)
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
