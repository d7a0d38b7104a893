"""Addresses of files elsewhere: which names are one, and where the copy in the cache lies."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from seq2seq.data.cache import cache_folder
from seq2seq.errors import CheckpointError, UsageError
from seq2seq.redaction import redact

_URL = re.compile(r"(https?):/+", re.IGNORECASE)
_OTHER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})")
_PARTIAL = ".partial-"


class Wanted(NamedTuple):
    """A URL, where its file shall lie, and what is known of it."""

    url: str
    shown: str
    path: Path
    sha256: str | None

    @property
    def partial(self) -> Path:
        return self.path.with_name(_PARTIAL + self.path.name)

    @property
    def facts(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def partial_facts(self) -> Path:
        return self.partial.with_name(self.partial.name + ".json")


def is_url(name: str | Path) -> bool:
    """Whether a name stands for a file elsewhere (http or https). A `Path` has lost one of the two slashes."""
    return _URL.match(str(name)) is not None


def require_local(folder: Path) -> None:
    """Raise `CheckpointError` for an address (`https://`, `hf://`) where a run is wanted."""
    if (found := _OTHER.fullmatch(str(folder))) is None or folder.exists():
        return
    raise CheckpointError(
        f"{found[1]}://{found[2]} is an address, and a run is a folder here",
        hint="download it first, and name the folder that holds its config.yaml",
        code="run.missing",
    )


def refuse_other_scheme(name: str | Path) -> None:
    """Raise `UsageError` for what looks like an address (`ftp://`, `s3://`), but is none that can be fetched."""
    if (found := _OTHER.fullmatch(str(name))) is None or is_url(name):
        return
    scheme, rest = found[1].lower(), found[2]
    match scheme:
        case "file":
            hint = f"name the file itself: /{rest}"
        case "hf":
            hint = "a dataset of the hub is a source of its own: {hub: ID, source: COLUMN, target: COLUMN}"
        case _:
            hint = "http:// and https:// can be read; fetch the file by hand and name it"
    address = f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"
    raise UsageError(f"addresses of {scheme}:// cannot be read: {address}", hint=hint, code="usage.value")


def parse_address(name: str) -> Wanted:
    """Take an address apart.

    Raises:
        UsageError: it is none, holds a secret, or ends in something that is no hash.
    """
    url, _, fragment = _URL.sub(lambda found: f"{found[1].lower()}://", name, count=1).partition("#")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        whole = False
    if not whole:
        raise UsageError(f"not an address of a file: {name}", hint="https://HOST/FILE", code="usage.value")
    if redact(url) != url:
        hint = "fetch the file by hand and name it instead"
        raise UsageError("a secret in an address would be kept in the run", where=name, hint=hint, code="usage.value")
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
    hashed = _HASH.fullmatch(fragment)
    if fragment and not hashed:
        raise UsageError(f"`#{fragment}` is no hash", where=shown, hint="#sha256= and 64 digits", code="usage.value")
    base = re.sub(r"[^\w.-]+", "_", unquote(parts.path).rsplit("/", 1)[-1])[-80:] or "file"
    number = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = cache_folder() / "downloads" / f"{number}-{base}"
    return Wanted(url, shown, path, hashed[1].lower() if hashed else None)
