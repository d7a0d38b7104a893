"""Datasets of the Hugging Face hub: fetched once into its cache, pinned to a commit, read by column."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import datasets
import huggingface_hub

from seq2seq import console
from seq2seq.atomic_files import disk_error, write_json
from seq2seq.config.sources import HubSource
from seq2seq.data.cache import digest_file
from seq2seq.data.corpus import Pair, one_line
from seq2seq.data.files import DecodingErrors
from seq2seq.data.hub import ask, check_archives, check_descriptions, explain, fetch_files, place_of
from seq2seq.errors import DataError, NetworkError

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Downloaded(NamedTuple):
    """The files that `download` wrote."""

    source: Path
    target: Path
    provenance: Path


def load_hub(source: HubSource) -> datasets.Dataset:
    """The split, memory-mapped from the hub's cache; fetched first where it is not there. A local folder
    works as an id.

    Raises:
        DataError: unknown dataset, configuration, split or column; the message lists those that exist.
        NetworkError: the hub cannot be reached, or the dataset would need to run code.
    """
    revision = source.revision if is_local(source) or _offline() else hub_revision(source)
    builder = None
    with _quiet_datasets():
        try:
            builder = ask(lambda: datasets.load_dataset_builder(source.hub, source.config, revision=revision))
            if not _offline():
                fetch_files(builder)
                _check(source, revision)
            ask(builder.download_and_prepare)
            dataset = builder.as_dataset(split=source.split)
        except Exception as error:
            _check(source, revision)
            unsafe = _unsafe_archive(source, revision) if builder is None else None
            raise unsafe or explain(error, source) from error
    for name in (source.source, source.target):
        column_path(dataset, name, source)
    return dataset


def _check(source: HubSource, revision: str | None) -> None:
    # A README with wrong bytes misleads the library, and stays in its cache.
    if not is_local(source):
        check_descriptions(source.hub, revision)


def _unsafe_archive(source: HubSource, revision: str | None) -> NetworkError | None:
    """Why the library may have found no data: it passes over members that lead out of their archive."""
    try:
        if not is_local(source) and not _offline():
            check_archives(source.hub, revision)
    except NetworkError as error:
        return error if error.code == "network.archive" else None
    except Exception:
        pass  # the first error says what is wrong
    return None


def hub_revision(source: HubSource) -> str:
    """What identifies the data: the commit on the hub, or a digest of the files of a local folder.

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
        return ask(lambda: str(huggingface_hub.HfApi().dataset_info(source.hub, revision=source.revision).sha))
    except Exception as error:
        raise explain(error, source) from error


def loaded_revision(dataset: datasets.Dataset) -> str:
    """The commit that a dataset was made from, as its cache tells; else the library's own fingerprint."""
    places = [*(dataset.info.download_checksums or {}), *(file["filename"] for file in dataset.cache_files)]
    found = re.search(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", " ".join(places))
    return found[0] if found else str(dataset._fingerprint)


def is_local(source: HubSource) -> bool:
    """Whether the id is a folder or file on this machine."""
    return Path(source.hub).exists()


def column_path(dataset: datasets.Dataset, name: str, source: HubSource) -> tuple[str, ...]:
    """Where a column lies: at the top, or inside a nested one such as `translation`.

    Raises:
        DataError: there is none; lists those that exist.
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
    """The pairs of a loaded dataset, in order; a missing cell is an empty text."""
    paths = [column_path(dataset, name, source) for name in (source.source, source.target)]
    columns = list(dict.fromkeys(path[0] for path in paths))
    number = 0
    for rows in dataset.select_columns(columns).iter(batch_size=1000):
        for values in zip(*(rows[column] for column in columns), strict=True):
            row = dict(zip(columns, values, strict=True))
            left, right = (_cell(row, path, f"{place_of(source)} row {number}", errors) for path in paths)
            yield left, right
            number += 1


def download(source: HubSource, output_folder: str | Path) -> Downloaded:
    """Write a split as two plain text files, line for line, with a small JSON file that tells where they come
    from.

    `<split>.<source>` and `<split>.<target>` are named after the split and the columns. Newlines inside a
    cell become spaces (they are counted). Each file appears whole or not at all.

    Raises:
        DataError, NetworkError: as `load_hub`.
        ResourceError: the folder cannot be written.
    """
    folder = Path(output_folder)
    dataset = load_hub(source)
    revision = source.revision if is_local(source) else loaded_revision(dataset)
    split, *sides = (re.sub(r"[^\w.+-]+", "_", name) for name in (source.split, source.source, source.target))
    files = [folder / f"{split}.{side}" for side in sides]
    if files[0] == files[1]:
        raise DataError("source and target are the same column", where=place_of(source), code="data.column")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pairs, joined = _write_sides(dataset, source, files)
        provenance = folder / f"{split}.json"
        facts = {
            "hub": source.hub,
            "config": source.config,
            "split": source.split,
            "revision": revision,
            "columns": [source.source, source.target],
            "pairs": pairs,
            "newlines_replaced": joined,
            "files": {file.name: {"bytes": file.stat().st_size, "sha256": digest_file(file)} for file in files},
        }
        write_json(provenance, facts)
    except OSError as error:
        raise disk_error(error, folder, 0) from error
    return Downloaded(files[0], files[1], provenance)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file written piece by piece that takes its name only when the block ends well."""
    temporary = path.with_name(f".partial-{path.name}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_sides(dataset: datasets.Dataset, source: HubSource, files: list[Path]) -> tuple[int, int]:
    """Both text files; returns the pairs and the number of cells that held a newline."""
    joined = 0
    paths = [column_path(dataset, name, source) for name in (source.source, source.target)]
    with (
        console.Progress(f"writing {source.hub}", len(dataset), "pairs") as progress,
        _whole_file(files[0]) as left,
        _whole_file(files[1]) as right,
    ):
        for number, row in enumerate(dataset):
            for path, stream in zip(paths, (left, right), strict=True):
                raw = _raw_cell(row, path, f"{place_of(source)} row {number}")
                joined += "\n" in raw
                text = one_line(raw, f"{place_of(source)} row {number}", "replace")
                stream.write(text.encode("utf-8") + b"\n")
            progress.update()
    return len(dataset), joined


def _cell(row: dict[str, Any], path: tuple[str, ...], place: str, errors: DecodingErrors) -> str:
    return one_line(_raw_cell(row, path, place), place, errors)


def _raw_cell(row: dict[str, Any], path: tuple[str, ...], place: str) -> str:
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
def _quiet_datasets() -> Iterator[None]:
    """The library's bars only on a terminal, its warnings nowhere."""
    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    hub_level = huggingface_hub.utils.logging.get_verbosity()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity(datasets.logging.CRITICAL)  # what it tries again it tells as an error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        huggingface_hub.utils.logging.set_verbosity(hub_level)
        if not bars:
            datasets.enable_progress_bars()
