"""Files named by a URL: fetched once into the cache, continued where the line broke off, checked before use.

A URL may end in `#sha256=` and the hash that the file must have. Without one, the hash of what came first is kept
beside the file, so that damage to the cached copy is noticed.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seq2seq import console
from seq2seq.atomic_files import disk_error, write_json
from seq2seq.data.address import Wanted, parse_address
from seq2seq.data.cache import digest_file
from seq2seq.data.retry import BUSY, LEAST_PROGRESS, TIME_OUT_SECONDS, BusyError, busy_answer, patiently
from seq2seq.errors import NetworkError, ResourceError

_PIECE = 1 << 16
_HTML = (b"<!doctype html", b"<html")
_WORTHWHILE = 1 << 16
"""A line that breaks off after so many new bytes has not failed: what is missing is asked for at once."""


_copies_told: set[Path] = set()
"""Copies of which nothing more need be said in this process."""


def fetch(name: str | Path) -> Path:
    """The cached copy of a URL, fetched first where there is none.

    Raises:
        NetworkError: it cannot be reached, broke off five times, is a web page instead of a file, or has another hash.
        ResourceError: the disk is full.
        UsageError: the cache cannot be written, or the URL holds a password.
    """
    wanted = parse_address(str(name))
    if _fault_of_copy(wanted) is None:
        _tell_of_copy(wanted)
        return wanted.path
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(wanted):
            if fault := _fault_of_copy(wanted):  # another process may just have fetched it
                if fault != "missing":
                    console.warn(f"the cached copy of {wanted.shown} is {fault}; fetching it again")
                most, whole = 0, False
                while not whole:
                    most, whole = patiently(lambda most=most: _continue(wanted, most))  # type: ignore[misc]
                _accept(wanted)
    except OSError as error:
        raise disk_error(error, wanted.path, 0) from None
    _copies_told.add(wanted.path)
    return wanted.path


def _tell_of_copy(wanted: Wanted) -> None:
    """Once in a process, where no hash says that the file elsewhere is still the same."""
    if wanted.sha256 is None and wanted.path not in _copies_told:
        _copies_told.add(wanted.path)
        console.say(f"using the copy of {wanted.shown} fetched before; to fetch it anew, remove {wanted.path}")


def _fault_of_copy(wanted: Wanted) -> str | None:
    """Why the copy in the cache cannot be used; None where it can."""
    try:
        stat = wanted.path.stat()
        facts = json.loads(wanted.facts.read_bytes())
        actual = _digest(wanted.path, stat.st_size, stat.st_mtime_ns)
        if actual != facts["sha256"]:
            return "damaged"
        return None if wanted.sha256 in (None, actual) else "of another hash"
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged"


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, stamp: int) -> str:
    # Hashed once in a process for each size and time stamp: a corpus is opened several times.
    return digest_file(path)


@contextmanager
def _alone(wanted: Wanted) -> Iterator[None]:
    """Keep other processes from the same file. One that hangs is not waited for longer than it may hang itself."""
    with wanted.path.with_name(f".lock-{wanted.path.name}").open("w") as lock:
        size, since = -1, time.monotonic()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break  # a file system without locks
            else:
                break
            if (now := _size(wanted.partial)) != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > 20 * TIME_OUT_SECONDS:
                raise NetworkError(
                    f"another process fetches {wanted.shown} and does not come forward",
                    hint="end it and run the same command again",
                    code="network.fetch",
                )
            time.sleep(0.2)
        yield


def _continue(wanted: Wanted, most: int) -> tuple[int, bool]:
    """Fetch what is missing of the partial file: how many bytes are there now, and whether it is whole.

    Where the line breaks off on the way, bytes beyond `most` and those that were here are no failure.

    Raises:
        BusyError: it is still not whole, but another try may help.
        NetworkError: another try would not help.
    """
    have = _size(wanted.partial)
    most = max(most, have)
    before = _read_facts(wanted.partial_facts)
    mark = before.get("mark")
    if have and not (before.get("url") == wanted.url and (mark or wanted.sha256)):
        have = 0  # nothing says that it is still the same file
    headers = {"User-Agent": "seq2seq", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark:
            headers["If-Range"] = str(mark)
    with _open(wanted, urllib.request.Request(wanted.url, headers=headers)) as answer:
        start, total = _extent(answer, have)
        if start is None or (start and total is not None and before.get("total") not in (None, total)):
            wanted.partial.unlink(missing_ok=True)
            raise BusyError(f"{wanted.shown} has changed underneath")
        # A weak mark says nothing of the bytes (RFC 9110, section 13.1.5).
        etag = answer.headers.get("ETag")
        mark = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        write_json(wanted.partial_facts, {"url": wanted.url, "mark": mark, "total": total})
        try:
            _receive(wanted, answer, start, total)
        except BusyError:
            if _size(wanted.partial) < most + _WORTHWHILE:
                raise
            return _size(wanted.partial), False
    return _size(wanted.partial), True


def _open(wanted: Wanted, request: urllib.request.Request) -> http.client.HTTPResponse:
    """The answer to a request, or what the failure means."""
    host = urlsplit(wanted.url).netloc
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise _unreachable(wanted, "offline (HF_HUB_OFFLINE is set)")
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIME_OUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond what is here
                wanted.partial.unlink(missing_ok=True)
                raise BusyError(f"{wanted.shown} has changed underneath", 0) from None
            if error.code in BUSY:
                raise busy_answer(error.code, error.headers, host) from None
            raise _unreachable(wanted, f"{host} answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise BusyError(f"{host} does not answer") from None
        raise _unreachable(wanted, str(getattr(error.reason, "strerror", None) or error.reason)) from None
    except (TimeoutError, ConnectionResetError, http.client.RemoteDisconnected):
        raise BusyError(f"{host} does not answer") from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _unreachable(wanted, f"{host} does not speak HTTP: {type(error).__name__}") from None
    return answer


def _extent(answer: http.client.HTTPResponse, have: int) -> tuple[int | None, int | None]:
    """Where the bytes of the answer begin (None: not where they were asked for), and the size of the whole file."""
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    if answer.status != 206:
        return 0, size
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if not found or int(found[1]) != have:
        return None, None
    total = None if size is None else have + size
    return have, total if found[2] == "*" else int(found[2])


def _receive(wanted: Wanted, answer: http.client.HTTPResponse, start: int, total: int | None) -> None:
    page = answer.headers.get_content_type() == "text/html" and not wanted.path.name.endswith((".html", ".htm"))
    if total is not None and (free := shutil.disk_usage(wanted.path.parent).free) < total - start:
        raise ResourceError(
            f"no space for {wanted.shown}",
            where=str(wanted.path.parent),
            hint=f"needed {(total - start) / 2**20:,.1f} MiB, free {free / 2**20:,.1f} MiB; or set SEQ2SEQ_CACHE",
            code="disk.full",
        )
    with (
        console.Progress(f"fetching {wanted.shown}", total, "bytes") as progress,
        wanted.partial.open("r+b" if start else "wb") as file,
    ):
        file.seek(start)
        file.truncate()
        progress.update(start)
        have, counted, since = start, start, time.monotonic()
        while piece := _read(wanted, answer):
            if page or (have == 0 and piece.lstrip()[:16].lower().startswith(_HTML)):
                hint = "open the address in a browser: does it want a login, or has it moved?"
                raise _wrong(wanted, f"{wanted.shown} is a web page, not a file", hint)
            file.write(piece)
            have += len(piece)
            progress.update(len(piece))
            if time.monotonic() - since > TIME_OUT_SECONDS:
                if have - counted < LEAST_PROGRESS:
                    raise BusyError(f"{wanted.shown} comes too slowly")
                counted, since = have, time.monotonic()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise BusyError(f"{wanted.shown} broke off after {have:,} of {total:,} bytes")
    if total is not None and have > total:
        fault = f"{wanted.shown} is longer than the {total:,} bytes that it should have"
        raise _wrong(wanted, fault, "run the same command again, or fetch the file by hand and name it")


def _read(wanted: Wanted, answer: http.client.HTTPResponse) -> bytes:
    """What has come, b"" at the end. `read` would wait until a whole piece is there."""
    try:
        return answer.read1(_PIECE)
    except (http.client.HTTPException, TimeoutError, ConnectionError, ValueError):
        raise BusyError(f"{wanted.shown} broke off") from None


def _accept(wanted: Wanted) -> None:
    """Check the whole file and give it its name."""
    actual = digest_file(wanted.partial)
    if wanted.sha256 not in (None, actual):
        fault = f"wrong hash: expected SHA-256 {wanted.sha256}, found {actual}; the file was removed"
        raise _wrong(wanted, fault, "correct #sha256= if the file was changed by right; else fetch it from elsewhere")
    facts: dict[str, Any] = {"url": wanted.shown, "bytes": wanted.partial.stat().st_size, "sha256": actual}
    write_json(wanted.facts, facts)
    wanted.partial.replace(wanted.path)
    wanted.partial_facts.unlink(missing_ok=True)


def _wrong(wanted: Wanted, fault: str, hint: str) -> NetworkError:
    wanted.partial.unlink(missing_ok=True)
    wanted.partial_facts.unlink(missing_ok=True)
    return NetworkError(fault, where=wanted.shown, hint=hint, code="network.content")


def _unreachable(wanted: Wanted, fault: str) -> NetworkError:
    return NetworkError(
        f"cannot fetch {wanted.shown}: {fault}",
        where=f"{wanted.shown} (cache: {wanted.path})",
        hint="check address and network; or fetch the file by hand and name it instead of the address",
        code="network.fetch",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
