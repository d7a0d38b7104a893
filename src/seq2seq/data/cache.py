"""Cache of prepared data: keys, entries that appear whole or not at all, and the difference to the newest entry.

Several processes may share a cache, and it may be read-only. Every file is verified by its hash, the records by a hash
of their own; what is damaged counts as missing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seq2seq import console
from seq2seq.atomic_files import read_json_object, try_lock, write_bytes
from seq2seq.config.differences import leaves
from seq2seq.config.sources import BuiltinSource, HubSource, Source, TextSource
from seq2seq.data.demo import DEMO_PAIRS
from seq2seq.data.files import digest_content, digest_file, locate, open_binary
from seq2seq.errors import NetworkError, UserError
from seq2seq.processes import is_running
from seq2seq.sealed_records import checksum
from seq2seq.user_cache import private_folder, user_cache

RECORD = "record.json"
_MEMORY = "inputs.json"
_TEMPORARY = ".making-"
_LOCK = ".lock"
_LOCK_TRIES = 600

_FRESH_SECONDS = 2.0
"""A file changed this recently is hashed again, since a later change may have the same time stamps."""


def cache_folder() -> Path:
    """Folder of prepared data, private to the user: SEQ2SEQ_CACHE, or seq2seq in the user's cache folder.

    Raises:
        UserError: it cannot be created, or belongs to another user.
    """
    return private_folder(Path(os.environ.get("SEQ2SEQ_CACHE") or user_cache()))


class Inputs:
    """Sizes and hashes of inputs, remembered by path, inode, size and time stamps, so that a file is hashed once.

    The time of the last change of the inode shows an edit after which size and modification time were restored.
    """

    def __init__(self, cache: Path) -> None:
        self._path = cache / _MEMORY
        self._known: dict[str, Any] = _read_checked(self._path) or {}
        self._changed = False

    def facts(self, source: Source) -> dict[str, Any]:
        """Identify the content of a source, for JSON.

        Raises:
            DataError: a file is missing.
            UsageError: a file is named by a URL.
            NetworkError: a new hub dataset cannot be looked up.
        """
        # The weight of a corpus does not affect the stored data. Data prepared before there were tags stay valid.
        settings = source.model_dump(exclude={"weight"} if source.tag else {"weight", "tag"})
        match source:
            case TextSource():
                files = [source.source, source.target]
            case HubSource():
                return {"settings": settings, "revision": self._revision(source)}
            case BuiltinSource():
                return {"settings": settings, "sha256": digest_file(DEMO_PAIRS)}
            case _:
                files = [source.file]
        return {"settings": settings, "files": [self.file(name) for name in files]}

    def file(self, named: str) -> dict[str, Any]:
        """Name, size and SHA-256 of a file or of a member of an archive."""
        path = Path(named)
        with open_binary(path):  # raises the error with similar names if it is missing
            local, member = locate(path)
            facts = local.stat()
        name, stamp = str(local.resolve()), [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        if member is not None:
            name = f"{name}/{member}"
        known = self._known.get(name)
        settled = time.time() - max(facts.st_mtime, facts.st_ctime) > _FRESH_SECONDS
        if not (settled and isinstance(known, dict) and known.get("stamp") == stamp):
            size, sha256 = (facts.st_size, digest_file(local)) if member is None else digest_content(path)
            known = {"stamp": stamp, "bytes": size, "sha256": sha256}
            self._known[name] = known
            self._changed = True
        return {"file": named, "bytes": known["bytes"], "sha256": known["sha256"]}

    def save(self) -> None:
        """Save for the next call."""
        if self._changed:
            with suppress(UserError):  # a read-only cache; the file only saves time
                _write_checked(self._path, self._known)

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
    return checksum(key)[:16]


def read_entry(folder: Path) -> dict[str, Any] | None:
    """Read the record of an entry; None if it or a file of the entry is missing or damaged."""
    record = _read_checked(folder / RECORD)
    if record is None:
        return None
    for name, expected in record["sha256"].items():
        # Arrow files have no check sum of their own.
        if not (folder / name).is_file() or digest_file(folder / name) != expected:
            return None
    return record


def finish_entry(folder: Path, record: dict[str, Any]) -> None:
    """Finish an entry: the record, with the hash of every other file, is written last."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    _write_checked(folder / RECORD, {**record, "sha256": {name: digest_file(path) for name, path in files.items()}})


@contextmanager
def new_entry(folder: Path, is_sound: Callable[[], bool]) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` when the block succeeds, and removed otherwise.

    An existing entry, such as that of another process that was faster, stays if it `is_sound`.
    """
    cache = folder.parent
    _remove_stale(cache)
    temporary = _temporary(folder)
    damaged = temporary.with_name(f"{temporary.name}-damaged")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        with _locked(cache):
            if not (folder.exists() and is_sound()):
                with suppress(FileNotFoundError):
                    folder.rename(damaged)
                temporary.rename(folder)
    finally:
        for path in (temporary, damaged):
            _remove(path)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Context in which no other process replaces an entry.

    It goes on without the lock on a file system that has none, or if a process that was stopped (Ctrl-Z) holds it.
    """
    with (cache / _LOCK).open("a") as file:
        for _ in range(_LOCK_TRIES):
            if try_lock(file):
                break
            time.sleep(0.1)
        yield


def changes(cache: Path, key: dict[str, Any]) -> list[str]:
    """Dotted names of the differences to the key of the newest entry; empty without an entry."""
    times = {}
    for path in cache.glob(f"*/{RECORD}"):
        with suppress(OSError):  # another process may be replacing it
            times[path] = path.stat().st_mtime
    newest = _read_checked(max(times, key=times.__getitem__)) if times else None
    if newest is None:
        return []
    return sorted(name for name, _, _ in leaves(newest["key"], json.loads(json.dumps(key))))


def _remove_stale(cache: Path) -> None:
    """Remove temporary folders and files of processes on this machine that no longer run."""
    mine = f"{_TEMPORARY}{_host()}-"
    for path in cache.glob(mine + "*"):
        number = path.name.removeprefix(mine).split("-")[0]
        # This process has no temporary folder yet: one with its number is of a process that had it before.
        if number.isdecimal() and (int(number) == os.getpid() or not is_running(int(number))):
            console.say(f"removing unfinished prepared data {path}")
            _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Temporary name beside a path that no other process uses."""
    return path.with_name(f"{_TEMPORARY}{_host()}-{os.getpid()}-{path.name}")


def _host() -> str:
    """Name of this machine, without the hyphen that ends it in temporary names."""
    return socket.gethostname().replace("-", "_")


def _read_checked(path: Path) -> dict[str, Any] | None:
    """Read what `_write_checked` wrote; None if it is missing, or any of it has changed."""
    facts = read_json_object(path)
    return facts if facts.pop("check", None) == checksum(facts) else None


def _write_checked(path: Path, facts: dict[str, Any]) -> None:
    """Write a JSON object with its own hash atomically. In ASCII, since names of files need not be UTF-8."""
    write_bytes(path, json.dumps({**facts, "check": checksum(facts)}).encode("ascii"))
