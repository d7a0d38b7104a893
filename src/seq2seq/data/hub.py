"""What stands between the hub's libraries and the user: time limits, patience, a look at every file before its use.

The libraries fetch (and continue by Range where a line breaks off within a call), but have no time limit for some
calls, try some answers once only, and take the bytes that come for those that were meant.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import datasets
import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from seq2seq.config.sources import HubSource
from seq2seq.data.archives import ARCHIVE, check_archive
from seq2seq.data.retry import BUSY, LEAST_PROGRESS, TIME_OUT_SECONDS, BusyError, busy_answer, patiently
from seq2seq.errors import DataError, NetworkError, UserError

Result = TypeVar("Result")

_NETWORK_LIBRARIES = (
    "httpx",
    "httpx2",
    "httpcore",
    "requests",
    "urllib3",
    "aiohttp",
    "huggingface_hub",
    "fsspec",
)

_LIBRARY_TRIED_SECONDS = 4.0
"""Where a call fails only after this time, the library has tried again by itself, a second apart."""

_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that tell the library how to read the others."""

_PASSING = {"TimeoutException", "TimeoutError", "Timeout", "ReadError", "WriteError", "RemoteProtocolError"}
"""Names of errors of the libraries' HTTP clients (which change from version to version) that another try may mend."""


def ask(action: Callable[[], Result]) -> Result:
    """The result of some calls to the hub's libraries, five times tried where the hub is busy or the line breaks off.

    Raises:
        NetworkError: the hub stays busy, does not answer in time, or something else answers in its place.
        Exception: whatever else the libraries raise.
    """
    _limit_waiting()

    def attempt() -> Result:
        start = time.monotonic()
        try:
            return action()
        except Exception as error:
            passing = _passing(error)
            if passing is None:
                raise
            if passing is not error and time.monotonic() - start > _LIBRARY_TRIED_SECONDS:
                hint = "run the same command again later: the files that have arrived are kept"
                raise NetworkError(passing.what, hint=hint, code="network.fetch") from error
            raise passing from error

    return patiently(attempt)


def fetch_files(builder: datasets.DatasetBuilder) -> None:
    """Fetch what the builder will read into the hub's cache, and check it: hashes, and archives for what is in them.

    Raises:
        NetworkError: a file has not the hash that the hub names it by (it is removed), or is an unsafe archive.
        DataError: an archive is damaged.
    """
    if Path(builder.cache_dir).is_dir():
        return  # made from files that were checked
    files = builder.config.data_files or {}
    for url in dict.fromkeys(str(file) for split in files.values() for file in split):
        if url.startswith("hf://"):
            place: Any = huggingface_hub.HfFileSystem(endpoint=datasets.config.HF_ENDPOINT).resolve_path(url)
            path = ask(lambda place=place: _from_hub(place))  # type: ignore[misc]
            _check_hash(path, url)
        else:
            path = Path(url)
        if path.is_file():
            check_archive(path)


def check_archives(name: str, revision: str | None) -> None:
    """Look into the archives of a dataset that could not be read: of members that lead elsewhere the library says only
    that there are no data.

    Raises:
        NetworkError: an archive is unsafe, or cannot be fetched.
        DataError: an archive is damaged.
    """
    files = ask(lambda: huggingface_hub.HfApi().dataset_info(name, revision=revision)).siblings or ()
    for file in files:
        if ARCHIVE.fullmatch(file.rfilename):
            fetch = partial(huggingface_hub.hf_hub_download, name, file.rfilename, repo_type="dataset")
            check_archive(Path(ask(lambda fetch=fetch: fetch(revision=revision))))  # type: ignore[misc]


def check_descriptions(name: str, revision: str | None) -> None:
    """Check the files of a dataset that tell the library how to read the others, as far as they are in the cache.

    Raises:
        NetworkError: one has not the hash that the hub names it by; it is removed.
    """
    for file in _DESCRIPTIONS:
        found = huggingface_hub.try_to_load_from_cache(name, file, revision=revision, repo_type="dataset")
        if isinstance(found, str):
            _check_hash(Path(found), f"{name}@{revision}")


def explain(error: Exception, source: HubSource) -> UserError:
    """One of the hub libraries' many errors as ours."""
    place, text = place_of(source), str(error).strip().split("\n")[0]
    if isinstance(error, UserError):
        error.where = error.where or place
        return error
    if "scripts are no longer supported" in text or "trust_remote_code" in text:
        return NetworkError(
            f"refused: {source.hub} is a dataset that needs to run its own code",
            where=place,
            hint="look for a version of it in Parquet: revision=refs/convert/parquet",
            code="network.code",
        )
    if isinstance(error, RevisionNotFoundError):
        what, hint = f"{source.hub} has no revision {source.revision!r}", "leave revision out, or look it up on the hub"
        return DataError(what, where=place, hint=hint, code="hub.no-dataset")
    missing = isinstance(error, RepositoryNotFoundError | GatedRepoError | HFValidationError)
    if missing or type(error).__name__ == "DatasetNotFoundError":
        return DataError(
            f"no dataset {source.hub!r} on the hub, or no right to read it",
            where=place,
            hint="check the id; a gated dataset needs `hf auth login`",
            code="hub.no-dataset",
        )
    library = type(error).__module__.split(".")[0]
    unreached = isinstance(error, ConnectionError | TimeoutError) or "LocalEntryNotFoundError" in str(error)
    if unreached or library in _NETWORK_LIBRARIES:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return NetworkError(
            f"cannot fetch {source.hub} from {endpoint}: {text}",
            where=f"{place} (cache: {datasets.config.HF_DATASETS_CACHE})",
            hint="check the network; with HF_HUB_OFFLINE=1 a dataset fetched before is read from the cache",
            code="network.fetch",
        )
    return DataError(
        f"cannot load {source.hub}: {text}", where=place, hint=_first_hint(str(error)), code="hub.no-dataset"
    )


def _first_hint(text: str) -> str:
    """The library lists the configurations or splits that exist further down in its message."""
    found = re.search(r"\[.*?\]", text, flags=re.DOTALL)
    return f"it has: {found[0]}" if found else "check id, config, split and revision on the dataset's page"


def place_of(source: HubSource) -> str:
    """How a source is named in messages."""
    return ":".join(part for part in ("hub", source.hub, source.config, source.split) if part)


def _from_hub(place: Any) -> Path:
    return Path(
        huggingface_hub.hf_hub_download(
            place.repo_id,
            place.path_in_repo,
            repo_type=place.repo_type,
            revision=place.revision,
            endpoint=datasets.config.HF_ENDPOINT,
        )
    )


def _check_hash(path: Path, url: str) -> None:
    """The cache names a file by what the hub promises: its SHA-256, or its number in git for a small one."""
    if not path.is_symlink():
        return  # absent, or a file system without links: the name is not kept
    blob = path.parent / path.readlink()
    match len(blob.name):
        case 64:
            digest = hashlib.sha256()
        case 40:
            digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        case _:
            return
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() == blob.name:
        return
    path.unlink()
    blob.unlink(missing_ok=True)
    kind = "SHA-256" if digest.name == "sha256" else "git hash"
    raise NetworkError(
        f"wrong bytes: expected {kind} {blob.name}, found {digest.hexdigest()}; the file was removed",
        where=f"{path.name} of {url}",
        hint="run the same command again; if it stays so, something on the way to the hub changes files",
        code="network.content",
    )


def _passing(error: Exception) -> BusyError | None:
    """What may be gone at the next try; None for all else."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, BusyError):
        return error
    if "ConnectTimeout" in names:
        return None
    if names & _PASSING or isinstance(error, ConnectionResetError):
        return BusyError(f"the hub does not answer ({type(error).__name__})")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return BusyError("a file of the hub broke off")
    return None


def _limit_waiting() -> None:
    """Give the libraries' shared HTTP client a time limit, and a look at every answer."""
    session = huggingface_hub.get_session()
    if _look_at in session.event_hooks["response"]:
        return
    kind, before = type(session), session.event_hooks["request"]

    def client() -> Any:
        hooks: dict[str, Any] = {"request": [*before, _limit], "response": [_look_at]}
        return kind(event_hooks=hooks, follow_redirects=True, timeout=TIME_OUT_SECONDS)

    huggingface_hub.set_client_factory(client)


def _limit(request: Any) -> None:
    """A time limit for the calls that the libraries make expressly without one."""
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {name: limit or TIME_OUT_SECONDS for name, limit in limits.items()}


def _look_at(response: Any) -> None:
    """Stop at an answer that the libraries would try again for hours, or take for what it is not."""
    host, path = response.request.url.host, response.request.url.path
    if response.status_code in BUSY:
        raise busy_answer(response.status_code, response.headers, host)
    if response.request.method == "GET":
        response.stream = _paced(response.stream, host)
    page = response.headers.get("Content-Type", "").startswith("text/html")
    if response.status_code == 200 and page and not re.search(r"\.html?$", path):
        raise NetworkError(
            f"{host} answers with a web page where data should come",
            where=os.environ.get("HF_ENDPOINT", "https://huggingface.co") + path,
            hint="a login page of the network, or a wrong HF_ENDPOINT; open the address in a browser",
            code="network.content",
        )


def _paced(stream: Any, host: str) -> Any:
    """The body of an answer, which breaks off where a server lets it drip: a time limit counts from byte to byte."""
    base: Any = next(kind for kind in type(stream).__mro__ if kind.__name__ == "SyncByteStream")

    class Paced(base):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            have, since = 0, time.monotonic()
            for piece in stream:
                have += len(piece)
                if time.monotonic() - since > TIME_OUT_SECONDS:
                    if have < LEAST_PROGRESS:
                        raise BusyError(f"{host} sends too slowly")
                    have, since = 0, time.monotonic()
                yield piece

        def close(self) -> None:
            stream.close()

    return Paced()
