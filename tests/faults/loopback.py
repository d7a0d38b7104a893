"""A server on this machine that poses as the dataset hub, and as any other host of files, and misbehaves as told."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c" * 40
PAGE = b"<!DOCTYPE html><html><body>Please log in to the network</body></html>"


class Loopback(ThreadingHTTPServer):
    """`files` of the data set `some/where` lie under the addresses of the hub, those of `plain` under /files/.

    `plan` says for each kind of request (`api`, `head`, `get`) what happens to the first, second, ... of them; what
    comes after the end of the list is served well. A fault is `cut:N`, `STATUS`, `STATUS:WAIT`, `to:URL`, `html`,
    `flip`, `stall`, `drop`, `norange`, `changed`, `slow`, `endless`, `close`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.plain: dict[str, bytes] = {}
        self.plan: dict[str, list[str]] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        """Kind, path and Range of every request."""
        self.over = threading.Event()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, kind: str) -> str:
        """What is to happen to this request."""
        planned = self.plan.get(kind)
        return planned.pop(0) if planned else ""

    def count(self, kind: str) -> int:
        """How many requests of a kind have come."""
        return sum(seen == kind for seen, _, _ in self.seen)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer("head")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self._answer("get" if path.startswith(("/files/", "/datasets/")) else "api")

    def do_POST(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("api")

    def _answer(self, kind: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.seen.append((kind, path, self.headers.get("Range")))
        fault = self.server.next_fault(kind)
        if fault[:3].isdecimal():
            status, _, wait = fault.partition(":")
            self._send(int(status), b"busy", {"Retry-After": wait} if wait else {})
        elif fault.startswith("to:"):
            self._send(302, b"", {"Location": fault[3:]})
        elif fault == "html":
            self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        elif fault == "drop":
            self.close_connection = True
        elif kind == "api":
            self._api(path, fault)
        else:
            self._file(path, fault)

    def _api(self, path: str, fault: str) -> None:
        if fault == "stall":
            self.server.over.wait(20)
        body: Any = None
        if re.fullmatch(r"/api/datasets/some/where(/revision/[^/]+)?", path):
            siblings = [{"rfilename": name} for name in self.server.files]
            body = {
                "id": "some/where",
                "sha": COMMIT,
                "private": False,
                "gated": False,
                "siblings": siblings,
                "tags": [],
            }
        elif found := re.fullmatch(r"/api/datasets/some/where/tree/[^/]+/?(.*)", path):
            body = self._entries(found[1])
        elif re.fullmatch(r"/api/datasets/some/where/paths-info/[^/]+", path):
            sent = self._body.decode()
            wanted = json.loads(sent)["paths"] if sent.startswith("{") else re.findall(r"paths=([^&]+)", unquote(sent))
            body = [entry for entry in self._entries("") if entry["path"] in wanted]
        if body is None:
            self._send(404, b'{"error": "not here"}', {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json", "X-Repo-Commit": COMMIT})

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": _git(data)}
            | ({"lfs": {"oid": _sha256(data), "size": len(data), "pointerSize": 99}} if _large(name) else {})
            for name, data in self.server.files.items()
            if name.startswith(folder)
        ]

    def _file(self, path: str, fault: str) -> None:
        plain = path.startswith("/files/")
        name = path.removeprefix("/files/") if plain else path.split("/resolve/")[-1].partition("/")[2]
        data = (self.server.plain if plain else self.server.files).get(name)
        if data is None:
            return self._send(404, b"not here", {"X-Error-Code": "EntryNotFound"})
        tag = f'"{_sha256(data) if plain or _large(name) else _git(data)}"'
        headers = {"ETag": tag, "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}
        if fault == "flip":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault == "changed":
            headers["ETag"], data = '"another"', bytes(reversed(data))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        guard = self.headers.get("If-Range")
        if not wanted or fault == "norange" or guard not in (None, headers["ETag"]):
            return self._send(200, data, headers, fault)
        start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if start >= len(data):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        return self._send(
            206, data[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{len(data)}"}, fault
        )

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault == "close":
            self.close_connection = True  # no length: the end of the connection is the end of the file
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) + (5 if fault == "endless" else 0)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(OSError):
            self._body_out(body, fault)

    def _body_out(self, body: bytes, fault: str) -> None:
        if fault.startswith("cut:"):
            self.wfile.write(body[: int(fault[4:])])
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(body[:10])
            self.server.over.wait(20)
            self.close_connection = True
        elif fault == "slow":
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.server.over.wait(0.05):
                    break
            self.close_connection = True
        elif fault == "endless":
            self.wfile.write(body)
            self.close_connection = True
        else:
            self.wfile.write(body)


def _large(name: str) -> bool:
    return not name.endswith((".md", ".json", ".yaml"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A running server."""
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def pose_as_hub(server: Loopback, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the hub's libraries, imported already, take the server for the hub and `home` for their cache."""
    import datasets
    import huggingface_hub
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", server.address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(datasets.config, "HF_ENDPOINT", server.address)
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
    patch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", home / "downloads")
    patch.setattr(datasets.config, "EXTRACTED_DATASETS_PATH", home / "extracted")
    patch.setenv("HF_ENDPOINT", server.address)
    # File systems remember the hub and what they have listed.
    huggingface_hub.HfFileSystem.clear_instance_cache()
