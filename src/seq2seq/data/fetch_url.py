"""Download of a file from a URL: resumed after a broken connection, verified, with a record beside the file."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from seq2seq import console
from seq2seq.atomic_files import disk_errors, read_json_object, show_bytes, try_lock, write_json
from seq2seq.data.archives import check_archive
from seq2seq.data.files import digest_file, url_file_name
from seq2seq.data.retry import BUSY, TIME_OUT_SECONDS, BusyError, busy_answer, retry
from seq2seq.errors import NetworkError, ResourceError, UsageError, UserError
from seq2seq.sanitize import redact

_CHUNK_BYTES = 1 << 16
_LEAST_PROGRESS = 1 << 10
"""Minimum number of bytes per time-out: a server that sends single bytes would otherwise block for days."""

_USEFUL_PROGRESS = 1 << 16
"""A connection that breaks off after this many new bytes does not count as a failed try."""

_HTML = (b"<!doctype html", b"<html")
_CREDENTIALS = ("Authorization", "Proxy-authorization", "Cookie")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Address(NamedTuple):
    """Parts of a URL."""

    url: str
    """The URL to request."""
    shown: str
    """The URL without its query, which may hold a secret, for messages and records."""
    file_name: str
    sha256: str | None


def parse_address(text: str, sha256: str | None = None) -> Address:
    """Split `https://host/file#sha256=...`; `sha256` may also be given apart.

    Raises:
        UsageError: the text is not a URL of a file, or the hash is not one.
    """
    url, _, fragment = text.partition("#")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        whole = whole and "@" not in parts.netloc  # urllib sends no password of a URL
    except ValueError:
        whole = False
    if not whole:
        raise UsageError(
            f"not an address of a file: {text}", hint="https://HOST/FILE, without user or password", code="usage.value"
        )
    shown = redact(f"{parts.scheme}://{parts.netloc}{parts.path}")
    given = fragment.removeprefix("sha256=") if fragment else sha256
    if given is not None and not _SHA256.fullmatch(given):
        hint = "64 hexadecimal digits, as sha256sum prints them: --sha256 HASH, or #sha256=HASH at the end of the URL"
        raise UsageError(f"not a SHA-256: {given}", where=shown, hint=hint, code="usage.value")
    return Address(url, shown, url_file_name(url), given.lower() if given else None)


def fetch(address: Address, path: Path) -> Path:
    """Download a file to `path` and write `PATH.json`: URL without secrets, SHA-256, size, time.

    An unchanged file that an earlier call downloaded from the same URL is kept. An incomplete download stays in
    `.partial-NAME`, and the next call resumes it.

    Raises:
        NetworkError: the URL cannot be reached, broke off five times, is a web page, has another hash, or is an archive
            that is not safe to read; a wrong file is removed.
        ResourceError: the disk is full.
        UsageError: the folder cannot be written, or `path` is a file from elsewhere.
    """
    record = path.with_name(path.name + ".json")
    if _is_kept(address, path, record):
        return path
    partial = path.with_name(f".partial-{path.name}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            if not try_lock(file):
                what = f"another process is downloading {path}"
                raise UsageError(what, hint="wait for it, or choose another -o", code="usage.in-use")
            download = _Download(address, path, file, partial.with_name(partial.name + ".json"))
            try:
                download.run()
                facts = _check(address, partial)
            except NetworkError as error:
                if isinstance(error, _WrongFileError):
                    download.restart()
                if not file.tell():
                    partial.unlink()
                    download.state.unlink(missing_ok=True)
                raise
            write_json(record, facts)
            partial.replace(path)
            download.state.unlink(missing_ok=True)
    return path


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within http, within https, and from http to https; credentials stay with their host."""

    def redirect_request(self, req: urllib.request.Request, *answer: Any) -> urllib.request.Request | None:
        scheme = urlsplit(answer[-1]).scheme
        if scheme not in (req.type, "https"):
            raise urllib.error.URLError(f"{req.host} redirects to an address of {scheme or 'no'} scheme")
        request = super().redirect_request(req, *answer)
        if request is not None and urlsplit(request.full_url).netloc != urlsplit(req.full_url).netloc:
            for name in _CREDENTIALS:
                request.remove_header(name)
        return request


class _WrongFileError(NetworkError):
    """The file that arrived is not the one that was asked for."""


class _Download:
    """Download into an open file, which may hold the bytes of an interrupted one."""

    def __init__(self, address: Address, path: Path, file: BinaryIO, state: Path) -> None:
        self.address, self.path, self.file, self.state = address, path, file, state
        self.host = urlsplit(address.shown).netloc
        self._most = file.tell()
        self._page_expected = address.file_name.endswith((".html", ".htm"))
        self._progress = console.Progress(f"downloading {address.shown}", None, "bytes")

    def run(self) -> None:
        """Download until the file is complete."""
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
            raise self._unreachable("offline (HF_HUB_OFFLINE is set)")
        with self._progress:
            while not retry(self._continue):
                pass
        self.file.flush()
        os.fsync(self.file.fileno())

    def restart(self) -> None:
        """Discard the received bytes."""
        self.file.seek(0)
        self.file.truncate()

    def _continue(self) -> bool:
        """Request the missing bytes; returns whether the file is complete.

        Raises:
            BusyError: a retry may succeed.
            NetworkError: a retry would not help.
        """
        headers = {"User-Agent": "seq2seq", "Accept-Encoding": "identity", **self._range()}
        try:
            with self._open(urllib.request.Request(self.address.url, headers=headers)) as response:
                self._begin(response)
                self._receive(response)
        except BusyError:
            if self.file.tell() < self._most + _USEFUL_PROGRESS:
                raise
            self._most = self.file.tell()
            return False
        return True

    def _range(self) -> dict[str, str]:
        """Headers that ask for the missing part, if the server or a hash can tell that it is the same file."""
        state = read_json_object(self.state)
        tag = state.get("tag") if state.get("url") == _digest(self.address.url) else None
        if self.file.tell() and not tag and not (self.address.sha256 and state.get("url")):
            self.restart()
        if not self.file.tell():
            return {}
        return {"Range": f"bytes={self.file.tell()}-", **({"If-Range": str(tag)} if tag else {})}

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            opener = urllib.request.build_opener(_SafeRedirects)
            response: http.client.HTTPResponse = opener.open(request, timeout=TIME_OUT_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # the partial file is as long as the file on the server, or longer
                    self.restart()
                    raise BusyError(f"{self.address.shown} has changed on the server", 0) from None
                if error.code in BUSY:
                    raise busy_answer(error.code, error.headers, self.host) from None
                raise self._unreachable(f"{self.host} answers {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError | ConnectionResetError | http.client.RemoteDisconnected):
                raise BusyError(f"{self.host} does not answer") from None
            fault = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
            raise self._unreachable(fault) from None
        return response

    def _begin(self, response: http.client.HTTPResponse) -> None:
        """Check the header of a response before its body is read."""
        if response.headers.get_content_type() == "text/html" and not self._page_expected:
            raise self._web_page()
        start = self.file.tell()
        part = re.fullmatch(r"bytes (\d+)-.*", response.headers.get("Content-Range", ""))
        if start and (response.status != 206 or not part or int(part[1]) != start):
            self.restart()
            if response.status == 206:
                raise BusyError(f"{self.address.shown} has changed on the server")
        tag = response.headers.get("ETag", "")
        # A weak tag does not identify the bytes (RFC 9110, section 13.1.5).
        tag = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        write_json(self.state, {"url": _digest(self.address.url), "tag": tag})

    def _receive(self, response: http.client.HTTPResponse) -> None:
        """Append the body of a response to the partial file."""
        end = self.file.tell() + (response.length or 0)
        self._require_space(response.length or 0)
        counted, since = self.file.tell(), time.monotonic()
        while piece := self._read(response):
            if not self.file.tell() and piece.lstrip()[:16].lower().startswith(_HTML) and not self._page_expected:
                raise self._web_page()
            self.file.write(piece)
            self._progress.update(len(piece))
            if time.monotonic() - since > TIME_OUT_SECONDS:
                if self.file.tell() - counted < _LEAST_PROGRESS:
                    raise BusyError(f"{self.address.shown} arrives too slowly")
                counted, since = self.file.tell(), time.monotonic()
        if self.file.tell() < end:
            raise BusyError(f"{self.address.shown} broke off after {self.file.tell():,} bytes")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """Return the bytes that have arrived, b"" at the end; `read` would wait for a whole chunk."""
        try:
            return response.read1(_CHUNK_BYTES)
        except (http.client.HTTPException, TimeoutError, ConnectionError, ValueError):
            raise BusyError(f"{self.address.shown} broke off after {self.file.tell():,} bytes") from None

    def _require_space(self, missing: int) -> None:
        self._progress.total = self.file.tell() + missing or None
        if (free := shutil.disk_usage(self.path.parent).free) < missing:
            raise ResourceError(
                f"no space for {self.address.shown}",
                where=str(self.path.parent),
                hint=f"needed {show_bytes(missing)}, free {show_bytes(free)}; or choose another -o",
                code="disk.full",
            )

    def _web_page(self) -> _WrongFileError:
        return _WrongFileError(
            f"{self.address.shown} is a web page, not a file",
            where=self.address.shown,
            hint="open the address in a browser: does it want a login, or has it moved?",
            code="network.content",
        )

    def _unreachable(self, fault: str) -> NetworkError:
        return NetworkError(
            f"cannot download {self.address.shown}: {fault}",
            where=f"{self.address.shown} -> {self.path}",
            hint=f"check address and network; or copy the file to {self.path} by another way",
            code="network.fetch",
        )


def _check(address: Address, partial: Path) -> dict[str, Any]:
    """Check hash and safety of a complete file; returns its record."""
    actual = digest_file(partial)
    if address.sha256 not in (None, actual):
        raise _WrongFileError(
            f"wrong hash: expected SHA-256 {address.sha256}, found {actual}; the file was removed",
            where=address.shown,
            hint="correct the hash if the file was changed on purpose; otherwise download it from elsewhere",
            code="network.content",
        )
    try:
        check_archive(partial)
    except UserError as error:
        code = error.code if isinstance(error, NetworkError) else "network.content"
        what = f"{error.what}; the file was removed"
        raise _WrongFileError(what, where=address.shown, hint=error.hint, code=code) from None
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"url": address.shown, "sha256": actual, "bytes": partial.stat().st_size, "time": when}


def _is_kept(address: Address, path: Path, record: Path) -> bool:
    """Whether `path` already holds this file.

    Raises:
        UsageError: `path` is a file that was not downloaded from this URL.
    """
    if not path.exists():
        return False
    facts = read_json_object(record)
    if facts.get("url") != address.shown or path.is_dir():
        hint = "choose another -o, or remove the file first"
        raise UsageError(f"{path} exists, and is not from {address.shown}", hint=hint, code="usage.exists")
    actual = digest_file(path)
    if actual != facts.get("sha256"):
        console.warn(f"{path} is damaged or was edited; downloading it again")
        return False
    if address.sha256 not in (None, actual):
        console.warn(f"{path} has another hash; downloading it again")
        return False
    console.say(f"{path} was downloaded before, {facts.get('time')}; to download it again, remove it")
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
