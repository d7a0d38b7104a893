"""Cache of prepared data: keys, entries that appear whole or not at all, and the difference to the newest entry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seq2seq import console
from seq2seq.atomic_files import write_json
from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, Source, TextSource, TsvSource
from seq2seq.data.demo import DEMO_PAIRS
from seq2seq.data.files import digest_content, digest_file, locate, open_binary
from seq2seq.errors import NetworkError, ResourceError

RECORD = "record.json"
_MEMORY = "inputs.json"
_TEMPORARY = ".making-"
_HASHED_BYTES = 1 << 30
"""Larger files are checked by size only: hashing them at every start would take too long."""

_FRESH_SECONDS = 2.0
"""A file changed this recently is hashed again, since a later change may have the same time stamp."""


def cache_folder() -> Path:
    """Folder of prepared data: SEQ2SEQ_CACHE, or seq2seq in the user's cache folder."""
    root = os.environ.get("SEQ2SEQ_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seq2seq"


class Inputs:
    """Sizes and hashes of inputs, remembered by path, size and time stamp, so that a file is hashed once."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / _MEMORY
        self._known: dict[str, Any] = _read_json(self._path) or {}
        self._changed = False

    def facts(self, source: Source) -> dict[str, Any]:
        """Identify the content of a source, for JSON.

        Raises:
            DataError: a file is missing.
            UsageError: a file is named by a URL.
            NetworkError: a new hub dataset cannot be looked up.
        """
        # The weight of a corpus does not affect the stored data.
        settings = source.model_dump(exclude={"weight"})
        match source:
            case TextSource():
                files = [source.source, source.target]
            case TsvSource():
                files = [source.tsv]
            case JsonlSource():
                files = [source.jsonl]
            case HubSource():
                return {"settings": settings, "revision": self._revision(source)}
            case BuiltinSource():
                return {"settings": settings, "sha256": digest_file(DEMO_PAIRS)}
        return {"settings": settings, "files": [self.file(name) for name in files]}

    def file(self, named: str) -> dict[str, Any]:
        """Name, size and SHA-256 of a file or of a member of an archive."""
        path = Path(named)
        with open_binary(path):  # raises the error with similar names if it is missing
            local, member = locate(path)
            stat = local.stat()
        name, stamp = str(local.resolve()), [stat.st_size, stat.st_mtime_ns]
        if member is not None:
            name = f"{name}/{member}"
        known = self._known.get(name)
        settled = time.time() - stat.st_mtime > _FRESH_SECONDS
        if not (settled and isinstance(known, dict) and known.get("stamp") == stamp and "bytes" in known):
            size, sha256 = (stat.st_size, digest_file(local)) if member is None else digest_content(path)
            known = {"stamp": stamp, "bytes": size, "sha256": sha256}
            self._known[name] = known
            self._changed = True
        return {"file": named, "bytes": known["bytes"], "sha256": known["sha256"]}

    def save(self) -> None:
        """Save for the next call."""
        if self._changed:
            with suppress(ResourceError):  # another process may be writing it, and it only saves time
                write_json(self._path, self._known)

    def _revision(self, source: HubSource) -> str:
        from seq2seq.data.hub import hub_revision

        name = "hub:" + json.dumps(source.model_dump(include={"hub", "config", "revision"}))
        try:
            revision = hub_revision(source)
        except NetworkError:
            if name not in self._known:
                raise
            console.warn(f"cannot reach the hub for {source.hub}; assuming that it has not changed")
            return str(self._known[name])
        if self._known.get(name) != revision:
            self._known[name] = revision
            self._changed = True
        return revision


def fingerprint(key: dict[str, Any]) -> str:
    """Short name of a key, by its hash."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of an entry; None if it is missing or unfinished, or a file is missing or changed."""
    record = _read_json(folder / RECORD)
    if not isinstance(record, dict) or not isinstance(record.get("sizes"), dict):
        return None
    for name, size in record["sizes"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return None
        # Arrow files have no check sum of their own.
        expected = record.get("sha256", {}).get(name)
        if expected and size <= _HASHED_BYTES and digest_file(path) != expected:
            return None
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Finish an entry: the record, with size and hash of every other file, is written last."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    hashes = {name: digest_file(path) for name, path in files.items() if sizes[name] <= _HASHED_BYTES}
    write_json(folder / RECORD, {**record, "sizes": sizes, "sha256": hashes})


@contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` when the block succeeds, and removed otherwise."""
    cache = folder.parent
    _remove_stale(cache)
    temporary = cache / f"{_TEMPORARY}{socket.gethostname()}-{os.getpid()}-{folder.name}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists() and read_record(folder) is None:
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process has just made the same entry, with the same content.
            if read_record(folder) is None:
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def changes(cache: Path, key: dict[str, Any]) -> list[str]:
    """Dotted names of the differences to the key of the newest entry; empty without an entry."""
    records = sorted(cache.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime, reverse=True)
    newest = _read_json(records[0]) if records else None
    if not isinstance(newest, dict):
        return []
    before, now = dict(_flatten(newest.get("key", {}))), dict(_flatten(json.loads(json.dumps(key))))
    return sorted({name for name in before.keys() | now.keys() if before.get(name) != now.get(name)})


def _remove_stale(cache: Path) -> None:
    """Remove temporary folders of processes on this machine that no longer run."""
    mine = f"{_TEMPORARY}{socket.gethostname()}-"
    for path in cache.glob(mine + "*"):
        number = path.name.removeprefix(mine).split("-")[0]
        if number.isdecimal() and not _is_running(int(number)):
            console.say(f"removing unfinished prepared data {path}")
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()  # a reused process id: this process has no temporary folder yet


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flatten(inner, f"{name}[{number}]")
    else:
        yield name, value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
