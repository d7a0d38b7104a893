"""Downloads of corpora (`seq2seq data download`) as local text files, with a record of their origin."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import console
from seq2seq.atomic_files import disk_errors, new_files, write_json
from seq2seq.config.sources import HubSource
from seq2seq.data.cache import cache_folder
from seq2seq.data.files import Pair, digest_file, one_line
from seq2seq.errors import DataError, UsageError, UserError
from seq2seq.extras import import_library

MTDATA = "mtdata:"


class Downloaded(NamedTuple):
    """The files that a download wrote."""

    source: Path
    target: Path
    record: Path


def download_hub(source: HubSource, folder: Path) -> Downloaded:
    """Write a split of a hub dataset as two text files, `<split>.<source>` and `<split>.<target>`.

    Raises:
        DataError, NetworkError: as `hub.load_hub`.
        ResourceError: the disk is full.
        UsageError: the folder cannot be written.
    """
    from seq2seq.data.hub import is_local, load_hub, loaded_revision, place_of, read_cells

    dataset = load_hub(source)
    origin = {
        "hub": source.hub,
        "config": source.config,
        "split": source.split,
        "revision": source.revision if is_local(source) else loaded_revision(dataset),
        "columns": [source.source, source.target],
    }
    sides = source.source, source.target
    return _write(folder, source.split, sides, read_cells(dataset, source), origin, place_of(source))


def download_url(url: str, output: str, sha256: str | None = None) -> Path:
    """Download a file; `output` is its name, or a folder if it exists, ends in `/` or has no suffix.

    Raises: as `fetch_url.fetch`.
    """
    from seq2seq.data.fetch_url import fetch, parse_address

    address, path = parse_address(url, sha256), Path(output)
    if output.endswith("/") or path.is_dir() or not path.suffix:
        path = path / address.file_name
    return fetch(address, path)


def download_mtdata(name: str, folder: Path) -> Downloaded:
    """Write a corpus of the mtdata index as two text files, `<name>.<language>`.

    mtdata knows where corpora are published and reads their formats; its files come through `fetch_url.fetch`.

    Raises:
        UsageError: mtdata is not installed, or the name is not a dataset id with two languages.
        DataError: mtdata has no such corpus, or cannot read it.
        NetworkError: as `fetch_url.fetch`.
    """
    mtdata = _import_mtdata()
    if name.count("-") != 4:
        hint = "GROUP-NAME-VERSION-LANGUAGE-LANGUAGE; `mtdata list -l eng-deu -id` lists them"
        raise UsageError(f"not the id of a parallel corpus: {name}", hint=hint, code="usage.value")
    try:
        did = mtdata.entry.DatasetId.parse(name)
        entry = mtdata.index.INDEX[did]
    except Exception as error:
        hint = f"`mtdata list -id | grep -i {name.split('-')[1]}` looks for it"
        raise DataError(
            f"mtdata knows no corpus {name}", where=MTDATA + name, hint=hint, code="hub.no-dataset"
        ) from error
    try:
        paths = _mtdata_cache(mtdata).get_entry(entry)
        rows = mtdata.parser.Parser(paths, ext=entry.in_ext or None, ent=entry).read_segs(show_pbar=False)
        pairs = ((row[0] or "", row[1] or "") for row in rows if len(row) >= 2)
        origin = {"mtdata": name, "version": mtdata.__version__, "url": _without_secrets(entry.url)}
        return _write(folder, name, [str(language) for language in did.langs], pairs, origin, MTDATA + name)
    except (UserError, OSError):
        raise
    except Exception as error:  # mtdata raises Exception itself, and whatever the formats' readers raise
        hint = "try another corpus, or download its file and name it"
        what = f"mtdata cannot read {name}: {error or type(error).__name__}"
        raise DataError(what, where=MTDATA + name, hint=hint, code="hub.no-dataset") from error


def _import_mtdata() -> Any:
    """Import mtdata with its index in our cache."""
    os.environ.setdefault("MTDATA", str(cache_folder() / "mtdata"))
    Path(os.environ["MTDATA"]).mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    try:
        with tempfile.TemporaryDirectory() as empty:
            os.chdir(empty)  # mtdata imports any mtdata*.py of the working folder
            mtdata = import_library("mtdata")
            console.say("reading the index of mtdata, which takes half a minute the first time")
            logging.getLogger().setLevel(logging.WARNING)  # mtdata logs to stdout
            for module in ("cache", "index", "parser"):
                import_library(f"mtdata.{module}")
    finally:
        os.chdir(here)
    return mtdata


def _mtdata_cache(mtdata: Any) -> Any:
    """Cache of mtdata that uses our download: mtdata's own neither resumes nor verifies certificates."""
    from seq2seq.data.fetch_url import fetch, parse_address

    class Cache(mtdata.cache.Cache):  # type: ignore[misc]
        def download(self, url: str, save_at: Path, timeout: Any = None, entry: Any = None) -> Path:
            return fetch(parse_address(url), save_at)

    return Cache(Path(os.environ["MTDATA"]))


def _without_secrets(url: str | Iterable[str]) -> str | list[str]:
    from seq2seq.data.fetch_url import parse_address

    if isinstance(url, str):
        return parse_address(url).shown
    return [parse_address(each).shown for each in url]


def _write(
    folder: Path, name: str, sides: Iterable[str], pairs: Iterable[Pair], origin: dict[str, Any], place: str
) -> Downloaded:
    """Write both text files, line for line, and the record. The files appear whole or not at all.

    Newlines inside a cell become spaces; the record counts them.
    """
    name, *sides = (re.sub(r"[^\w.+-]+", "_", part) for part in (name, *sides))
    files = [folder / f"{name}.{side}" for side in sides]
    record = folder / f"{name}.json"
    if files[0] == files[1]:
        raise DataError("source and target would be the same file", where=place, code="data.column")
    count = joined = 0
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with console.Progress(f"writing {name}", None, "pairs") as progress, new_files(files) as streams:
            for pair in pairs:
                for cell, stream in zip(pair, streams, strict=True):
                    joined += "\n" in cell
                    stream.write(one_line(cell, f"{place} row {count}", "replace") + "\n")
                count += 1
                progress.update()
        facts = {file.name: {"bytes": file.stat().st_size, "sha256": digest_file(file)} for file in files}
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json(record, {**origin, "pairs": count, "newlines_replaced": joined, "time": when, "files": facts})
    return Downloaded(files[0], files[1], record)
