"""Run folders from elsewhere: links, FIFOs and devices among their files, damaged and crafted records.

    python scripts/chaos/run_folders.py --json run_folders.json      # 700 commands, about 15 minutes of one core
    python scripts/chaos/run_folders.py --quick                      # 30 commands

A file of a run, or one that a run may hold, is replaced by a link, a folder, a FIFO, a socket or a device; it is cut, a
bit is flipped; or a value of its JSON becomes one of another type, a huge number, NaN, text with control characters or
a hundred thousand brackets, with its checksum made anew, as by a person who means harm. Then one command reads the run.
A trial passes where the command ends with exit code 0, 2, 3, 5 or 6, without a traceback, shows no control character
and nothing of a file of the user's, and changes nothing outside the run.

Rows: 19, 57, 59, 60
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common import SHORT, TINY, Trial, arguments, conclude, corpus, run, until_interrupted, warm_up

from seq2seq.sealed_records import checksum

SECRET = "what nobody else may read"
CODES = (0, 2, 3, 5, 6)
MORE = ("auto.json", "diverged.json", "checkpoints/step-00000030", "export", ".partial-x", "validation/x.hyp")
"""Files and folders that a run may hold, but a finished one does not."""
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**70, 10**400, 0.5, -0.0, float("nan"), float("inf"), "", "0", [], {}, [[]], [None]),
    *("\x1b[31mred\x1b[0m\r\x07", "\ud800", "../../../host/notes.txt", "a" * 100_000, {"": {"": None}}),
)
DEEP = "[" * 100_000

Damage = Callable[[Path, Path, random.Random], str]
"""Damages a file of a run, given the user's folder; returns what was done."""


def replaced(path: Path, host: Path, chance: random.Random) -> str:
    """Something that is no file, or leads elsewhere."""
    kinds = {
        "link to a file": lambda: path.symlink_to(host / "notes.txt"),
        "link to a folder": lambda: path.symlink_to(host, target_is_directory=True),
        "link to nothing": lambda: path.symlink_to(host / "made"),
        "link to itself": lambda: path.symlink_to(path.name),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "link upwards": lambda: path.symlink_to("../.."),
        "folder": lambda: (path / "inside").mkdir(parents=True),
        "FIFO": lambda: os.mkfifo(path),
        "socket": lambda: _bind(path),
        "device": lambda: _device(path),
    }
    name = chance.choice(list(kinds))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds[name]()
    return name


def _bind(path: Path) -> None:
    short = Path(tempfile.gettempdir()) / f"s{os.getpid()}"  # a socket's path is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
    shutil.move(short, path)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    except PermissionError:  # for root alone
        os.mkfifo(path)


def broken(path: Path, host: Path, chance: random.Random) -> str:
    """A file that is cut, or has other bytes."""
    if not path.is_file():
        return replaced(path, host, chance)
    content = bytearray(path.read_bytes())
    place = chance.randrange(max(1, len(content)))
    kind = chance.choice(("cut", "bit", "bytes", "empty", "not UTF-8", "again", "deep"))
    match kind:
        case "cut":
            del content[place:]
        case "bit" if content:
            content[place] ^= 1 << chance.randrange(8)
        case "bytes":
            content[place : place + 16] = chance.randbytes(16)
        case "empty":
            content.clear()
        case "not UTF-8":
            content[place:place] = b"\xff\xfe\x1b[31m"
        case "again":
            content += bytes(content)
        case _:
            content[:] = DEEP.encode()
    path.write_bytes(content)
    return f"{kind} at {place}"


def crafted(path: Path, host: Path, chance: random.Random) -> str:
    """A record, or one line of it, with a value of another kind, and a checksum that fits."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        number = chance.randrange(len(lines))
        record = json.loads(lines[number])
    except (OSError, ValueError, RecursionError):
        return broken(path, host, chance)
    record, told = _changed(record, chance)
    if isinstance(record, dict) and "check" in record:
        with suppress(ValueError, UnicodeEncodeError):
            record["check"] = checksum(record)
    lines[number] = json.dumps(record).replace('"DEEP"', DEEP)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _renew_manifest(path)
    return told


def _changed(record: Any, chance: random.Random) -> tuple[Any, str]:
    """The record with another value at a random place."""
    value = chance.choice((*ODD, "DEEP"))
    if not isinstance(record, dict | list) or not record or chance.random() < 0.03:
        return value, f"all is {str(value)[:40]!r}"
    key = chance.choice(list(record) if isinstance(record, dict) else range(len(record)))
    if isinstance(record[key], dict | list) and record[key] and chance.random() < 0.8:
        record[key], told = _changed(record[key], chance)
        return record, f"{key}.{told}"
    if isinstance(record, dict) and chance.random() < 0.15:
        del record[key]
        return record, f"{key} is missing"
    record[key] = value
    return record, f"{key} is {str(value)[:40]!r}"


def _renew_manifest(path: Path) -> None:
    """Write the hash of a crafted file into the manifest beside it, if that names it."""
    manifest = path.with_name("manifest.json")
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record = json.loads(manifest.read_bytes())
        content = path.read_bytes()
        for name, entry in record["files"].items():
            if name == path.name:
                entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        if path != manifest:
            manifest.write_text(json.dumps(record))


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything below a folder: mode, and SHA-256 or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else b""
        found[str(path.relative_to(folder))] = (mode, hashlib.sha256(content).hexdigest())
    return found


class Folders:
    """A finished run that is copied, damaged and read."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind, self.log = folder, kind, folder / "log"
        self.good, self.run, self.host, self.work = (folder / name for name in ("good", "runs/run", "host", "work"))
        self.host.mkdir(parents=True)
        self.work.mkdir()
        (folder / "runs").mkdir()
        (self.host / "notes.txt").write_text(SECRET + "\n")
        (self.host / "config.yaml").write_text(f"# {SECRET}\n")
        self.text = folder / "text.en"
        self.text.write_text("The old man drinks a cup of tea.\nI am here.\n")
        self.files = corpus(folder / "corpus")
        self.settings = [*TINY[kind], *SHORT, "training.max_steps=20", "training.validate_every=10"]
        self.settings += ["training.average_checkpoints=2"]
        made = run(["train", *self.files, "-o", self.run, *self.settings], log=self.log)
        assert made.code == 0, made.said
        assert run(["report", self.run], log=self.log).code == 0
        shutil.copytree(self.run, self.good, symlinks=True)
        self.paths = [str(path.relative_to(self.good)) for path in sorted(self.good.rglob("*"))]
        self.paths += MORE

    def commands(self) -> dict[str, Sequence[object]]:
        """Every command that reads a run."""
        more = ["training.max_steps=22"]
        return {
            "translate": ["translate", self.run, self.text, "--scores"],
            "evaluate": ["evaluate", self.run, "-b", 1],
            "score": ["score", self.run, "--source", self.text, "--target", self.text],
            "align": ["align", self.run, "--source", self.text, "--target", self.text],
            "check": ["check", self.run, "-b", 1],
            "compare": ["compare", self.run, self.good],
            "compare json": ["compare", self.good, self.run, "--json"],
            "report": ["report", self.run],
            "report elsewhere": ["report", self.run, "-o", self.work / "page.html"],
            "runs": ["runs", self.run.parent],
            "doctor": ["doctor", self.run],
            "export": ["export", self.run, "--format", "ctranslate2", "-o", self.work / "export"],
            "config show": ["config", "show", self.run / "config.yaml"],
            "config diff": ["config", "show", "--diff", self.run / "config.yaml"],
            "tokenizer": ["tokenizer", "encode", self.run, self.text, "--side", "source"],
            "train": ["train", *self.files, "-o", self.run, *self.settings],
            "train on": ["train", *self.files, "-o", self.run, *self.settings[:-2], *more, *self.settings[-1:]],
            "fine-tune": [
                *("train", *self.files, "-o", self.work / "tuned"),
                *(*self.settings, f"training.init_from={self.run}", "tokenizer.vocabulary_size=auto"),
            ],
        }

    def trial(self, chance: random.Random) -> Trial:
        """One damage, and one command."""
        shutil.rmtree(self.run)
        shutil.copytree(self.good, self.run, symlinks=True)
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        name = chance.choice(
            [*self.paths, *(path for path in self.paths if path.endswith((".json", ".jsonl", "yaml")))]
        )
        damage: Damage = chance.choice((replaced, broken, crafted, crafted))
        told = damage(self.run / name, self.host, chance)
        label, command = chance.choice(list(self.commands().items()))
        before = state(self.host), state(self.good)
        end = run(command, log=self.log)
        faults = [] if end.code in CODES else [f"exit code {end.code}"]
        faults += [word for word in ("Traceback", "internal.bug", SECRET, "\x1b", "\x07") if word in end.said]
        if before != (state(self.host), state(self.good)):
            faults.append("a file outside was changed")
        if left := {path.name for path in self.folder.iterdir()} - {
            "good",
            "runs",
            "host",
            "work",
            "text.en",
            "corpus",
            "log",
        }:
            faults.append(f"left {left}")
        written = [path for path in self.work.rglob("*") if path.is_file()]
        if any(SECRET.encode() in path.read_bytes() for path in written):
            faults.append("a file of the user's was copied")
        return Trial(f"{label}: {name} {told}", not faults, f"{self.kind}: {faults}\n{end.said[-3000:]}")


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    chance, trials = random.Random(options.seed), list[Trial]()
    # What would make it slow to import in every child.
    import seq2seq.checks.behaviour
    import seq2seq.reports.report  # noqa: F401

    with until_interrupted(), tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        os.environ["SEQ2SEQ_CACHE"] = str(Path(folder) / "cache")
        series = [Folders(Path(folder) / kind, kind) for kind in list(TINY)[: 1 if options.quick else 2]]
        for number in range(30 if options.quick else 700):
            trials.append(series[number % len(series)].trial(chance))
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
