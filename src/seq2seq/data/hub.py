"""Datasets of the Hugging Face hub: fetched once into its cache, pinned to a commit, read by column.

The libraries fetch, retry and resume. This module adds a time limit and retries for calls to the hub's API, checks of
hashes and archives before use, and errors that name a remedy.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import datasets
import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from seq2seq.config.sources import HubSource
from seq2seq.data.archives import ARCHIVE, check_archive
from seq2seq.data.files import DecodingErrors, Pair, digest_file, one_line
from seq2seq.data.retry import BUSY, TIME_OUT_SECONDS, BusyError, busy_answer, retry
from seq2seq.errors import DataError, NetworkError, UsageError, UserError

Result = TypeVar("Result")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_RETRIED_BY_LIBRARY = (408, 429)
"""Status codes after which the library itself retries the download of a file."""

_NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp", "huggingface_hub", "fsspec")
_BROKEN_CONNECTION = {"TimeoutException", "TimeoutError", "Timeout", "ReadError", "WriteError", "RemoteProtocolError"}
"""Errors of the libraries' HTTP clients after which a retry may succeed; by name, since the clients differ."""

_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that describe how the library reads the others."""


def load_hub(source: HubSource) -> datasets.Dataset:
    """Open a split, memory-mapped from the hub's cache; fetch it first if it is not there.

    A local folder works as an id.

    Raises:
        DataError: unknown dataset, configuration, split or column; the message lists those that exist.
        NetworkError: the hub cannot be reached, or the dataset would need to run code.
    """
    revision = source.revision if is_local(source) or _offline() else hub_revision(source)
    builder = None
    with _quiet_libraries():
        try:
            builder = _ask(lambda: datasets.load_dataset_builder(source.hub, source.config, revision=revision))
            if not _offline():
                _fetch_files(builder)
                _check_descriptions(source, revision)
            _ask(builder.download_and_prepare)
            dataset = builder.as_dataset(split=source.split)
        except Exception as error:
            _check_descriptions(source, revision)
            unsafe = _find_unsafe_archive(source, revision) if builder is None else None
            raise unsafe or _explain(error, source) from error
    for name in (source.source, source.target):
        column_path(dataset, name, source)
    return dataset


def hub_revision(source: HubSource) -> str:
    """Identify the data: the commit on the hub, or a digest of the files of a local folder.

    Raises:
        DataError: no such dataset or revision.
        NetworkError: the hub cannot be reached; in offline mode, the dataset is not in the cache.
    """
    if is_local(source):
        return _digest_folder(Path(source.hub))
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision
    if _offline():
        return loaded_revision(load_hub(source))
    try:
        with _quiet_libraries():
            return str(_dataset_info(source.hub, source.revision).sha)
    except Exception as error:
        raise _explain(error, source) from error


def loaded_revision(dataset: datasets.Dataset) -> str:
    """The commit that a dataset was made from, by the paths in its cache; otherwise the library's fingerprint."""
    places = [*(dataset.info.download_checksums or {}), *(file["filename"] for file in dataset.cache_files)]
    match = re.search(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", " ".join(places))
    return match[0] if match else str(dataset._fingerprint)


def is_local(source: HubSource) -> bool:
    """Whether the id is a folder or file on this machine."""
    return Path(source.hub).exists()


def column_path(dataset: datasets.Dataset, name: str, source: HubSource) -> tuple[str, ...]:
    """Find a column at the top, or inside a nested one such as `translation`.

    Raises:
        DataError: there is no such column; the hint lists those that exist.
    """
    if name in dataset.features:
        return (name,)
    nested = {outer: _inner_names(feature) for outer, feature in dataset.features.items()}
    for outer in sorted(nested, key=lambda outer: outer != "translation"):
        for inner in nested[outer]:
            if name in (inner, f"{outer}.{inner}"):
                return (outer, inner)
    names = [f"{outer}.{inner}" for outer in nested for inner in nested[outer]]
    names += [outer for outer in nested if not nested[outer]]
    raise DataError(
        f"no column {name!r} in {source.hub}",
        where=place_of(source),
        hint="it has: " + ", ".join(names),
        code="data.column",
    )


def read_hub(dataset: datasets.Dataset, source: HubSource, errors: DecodingErrors = "strict") -> Iterator[Pair]:
    """Yield the pairs of a loaded dataset in order; a missing cell is an empty text, newlines become spaces."""
    for number, (left, right) in enumerate(read_cells(dataset, source)):
        place = f"{place_of(source)} row {number}"
        yield one_line(left, place, errors), one_line(right, place, errors)


def read_cells(dataset: datasets.Dataset, source: HubSource) -> Iterator[Pair]:
    """Yield the cells of both columns as they are."""
    paths = [column_path(dataset, name, source) for name in (source.source, source.target)]
    columns = list(dict.fromkeys(path[0] for path in paths))
    number = 0
    for rows in dataset.select_columns(columns).iter(batch_size=1000):
        for values in zip(*(rows[column] for column in columns), strict=True):
            row = dict(zip(columns, values, strict=True))
            left, right = (_cell(row, path, f"{place_of(source)} row {number}") for path in paths)
            yield left, right
            number += 1


def place_of(source: HubSource) -> str:
    """Name a source in messages."""
    return ":".join(part for part in ("hub", source.hub, source.config, source.split) if part)


def _cell(row: dict[str, Any], path: tuple[str, ...], place: str) -> str:
    value: Any = row
    for key in path:
        value = value[key] if value is not None else None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"column {'.'.join(path)!r} holds {type(value).__name__}, not text", where=place, code="data.column"
        )
    return value


def _inner_names(feature: Any) -> list[str]:
    """Keys of a nested column: a dictionary of features, or a `Translation`."""
    if isinstance(feature, dict):
        return [str(key) for key in feature]
    return [str(language) for language in getattr(feature, "languages", None) or ()]


def _digest_folder(path: Path) -> str:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\n{digest_file(file)}\n".encode("utf-8", "surrogateescape"))
    return f"local:{digest.hexdigest()}"


def _offline() -> bool:
    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Show the libraries' progress bars on a terminal only, and none of their warnings but the hub's retries."""
    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _ask(action: Callable[[], Result], retried_by_library: tuple[int, ...] = ()) -> Result:
    """Call the hub's libraries, up to five times if the hub is busy or the connection breaks.

    Raises:
        NetworkError: the hub stays busy or does not answer in time.
        Exception: any other error of the libraries.
    """
    _limit_waiting()

    def attempt() -> Result:
        try:
            return action()
        except Exception as error:
            response = getattr(error, "response", None)
            if isinstance(error, HfHubHTTPError) and response is not None and response.status_code in BUSY:
                busy = busy_answer(response.status_code, response.headers, response.request.url.host)
                if response.status_code in retried_by_library:
                    raise NetworkError(busy.what, hint="run the same command again later", code=busy.code) from error
                raise busy from error
            names = {kind.__name__ for kind in type(error).__mro__}
            broken = isinstance(error, ConnectionResetError) or (names & _BROKEN_CONNECTION)
            if broken and "ConnectTimeout" not in names:
                raise BusyError(f"the hub does not answer ({type(error).__name__})") from error
            if isinstance(error, OSError) and "Consistency check failed" in str(error):
                raise BusyError("a file of the hub is incomplete, or a login page came in its place") from error
            raise

    return retry(attempt)


def _limit_waiting() -> None:
    """Set a time-out for the libraries' shared HTTP client, which has none by default."""
    client = huggingface_hub.get_session()
    if client.timeout.read is not None:
        return
    kind, hooks = type(client), client.event_hooks
    huggingface_hub.set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=TIME_OUT_SECONDS))


def _dataset_info(name: str, revision: str | None) -> Any:
    return _ask(lambda: huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=TIME_OUT_SECONDS))


def _download(name: str, file: str, repo_type: str, revision: str | None) -> Path:
    """Fetch a file into the hub's cache."""
    host = datasets.config.HF_ENDPOINT
    fetch = partial(huggingface_hub.hf_hub_download, name, file, repo_type=repo_type, revision=revision, endpoint=host)
    return Path(_ask(fetch, _RETRIED_BY_LIBRARY))


def _fetch_files(builder: datasets.DatasetBuilder) -> None:
    """Fetch the files of a builder into the hub's cache, and check them: hashes, and the content of archives.

    Raises:
        NetworkError: a file does not have the hash that the hub names it by (it is removed), or is an unsafe archive.
        DataError: an archive is damaged.
    """
    if Path(builder.cache_dir).is_dir():
        return  # made from files that were checked
    files = builder.config.data_files or {}
    for url in dict.fromkeys(str(file) for split in files.values() for file in split):
        if url.startswith("hf://"):
            place: Any = huggingface_hub.HfFileSystem(endpoint=datasets.config.HF_ENDPOINT).resolve_path(url)
            path = _download(place.repo_id, place.path_in_repo, place.repo_type, place.revision)
            _check_hash(path, url)
        else:
            path = Path(url)
        if path.is_file():
            check_archive(path)


def _check_descriptions(source: HubSource, revision: str | None) -> None:
    """Check README.md and other descriptions in the cache, since a damaged one would mislead every later call."""
    if is_local(source):
        return
    for file in _DESCRIPTIONS:
        found = huggingface_hub.try_to_load_from_cache(source.hub, file, revision=revision, repo_type="dataset")
        if isinstance(found, str):
            _check_hash(Path(found), f"{source.hub}@{revision}")


def _find_unsafe_archive(source: HubSource, revision: str | None) -> NetworkError | None:
    """Look for an unsafe archive after a failure: the library skips its members and reports missing data."""
    if is_local(source) or _offline():
        return None
    try:
        for file in _dataset_info(source.hub, revision).siblings or ():
            if ARCHIVE.fullmatch(file.rfilename):
                check_archive(_download(source.hub, file.rfilename, "dataset", revision))
    except NetworkError as error:
        return error if error.code == "network.archive" else None
    except Exception:
        pass  # the first error is the one to report
    return None


def _check_hash(path: Path, url: str) -> None:
    """Compare a cached file with its name, which is its SHA-256 on the hub, or its git hash if it is small."""
    if not path.is_symlink():
        return  # absent, or a file system without links, where the cached file has another name
    blob = path.parent / path.readlink()
    match len(blob.name):
        case 64:
            kind, digest = "SHA-256", hashlib.sha256()
        case 40:
            header = f"blob {path.stat().st_size}\0".encode()
            kind, digest = "git hash", hashlib.sha1(header, usedforsecurity=False)
        case _:
            return
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() == blob.name:
        return
    path.unlink()
    blob.unlink(missing_ok=True)
    raise NetworkError(
        f"wrong bytes: expected {kind} {blob.name}, found {digest.hexdigest()}; the file was removed",
        where=f"{path.name} of {url}",
        hint="run the same command again; if it fails again, something on the way to the hub changes files",
        code="network.content",
    )


def _explain(error: Exception, source: HubSource) -> UserError:
    """Translate the errors of the hub's libraries."""
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
    if isinstance(error, PermissionError):  # HOME may be another user's, as in a container
        return UsageError(
            f"cannot use {error.filename}: {error.strerror}",
            where=place,
            hint="HF_HOME=FOLDER names another place for the hub's files",
            code="usage.unwritable",
        )
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if type(error).__name__ == "JSONDecodeError":
        return NetworkError(
            f"{endpoint} answers with something that is not data, such as a web page",
            where=place,
            hint="a login page of the network, or a wrong HF_ENDPOINT; open the address in a browser",
            code="network.content",
        )
    library = type(error).__module__.split(".")[0]
    unreached = isinstance(error, ConnectionError | TimeoutError) or "LocalEntryNotFoundError" in str(error)
    if unreached or library in _NETWORK_LIBRARIES:
        return NetworkError(
            f"cannot fetch {source.hub} from {endpoint}: {text}",
            where=f"{place} (cache: {datasets.config.HF_DATASETS_CACHE})",
            hint="check the network; with HF_HUB_OFFLINE=1 a dataset fetched before is read from the cache",
            code="network.fetch",
        )
    # The library lists the configurations or splits that exist further down in its message.
    match = re.search(r"\[.*?\]", str(error), flags=re.DOTALL)
    hint = f"it has: {match[0]}" if match else "check id, config, split and revision on the dataset's page"
    return DataError(f"cannot load {source.hub}: {text}", where=place, hint=hint, code="hub.no-dataset")
