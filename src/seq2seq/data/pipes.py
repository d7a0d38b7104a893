"""Pipes as corpora: `<(zcat a.gz)` and /dev/stdin are copied into the cache, since a corpus is read more than once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from seq2seq import console
from seq2seq.atomic_files import disk_errors
from seq2seq.config.settings import DataSettings
from seq2seq.data.cache import cache_folder
from seq2seq.errors import UsageError


def spool_sources(data: DataSettings) -> DataSettings:
    """Replace the pipes among the corpora by copies. Raises as `spool_pipes`."""
    named = [
        (split, number, field, name)
        for split in ("train", "valid", "test")
        for number, source in enumerate(getattr(data, split))
        for field, name in source.model_dump().items()
        if isinstance(name, str) and _is_pipe(Path(name))
    ]
    for (split, number, field, _), copy in zip(named, spool_pipes([name for *_, name in named]), strict=True):
        sources = list(getattr(data, split))
        sources[number] = sources[number].model_copy(update={field: copy})
        data = data.model_copy(update={split: tuple(sources)})
    return data


def spool_pipes(names: Sequence[str]) -> list[str]:
    """Replace pipes by copies in the cache; other names stay.

    Copies are named by their content, so that the same command resumes a run.

    Raises:
        UsageError: the cache cannot be written, or a pipe is meant for several processes.
        ResourceError: the disk is full.
    """
    copies: dict[tuple[int, int], str] = {}
    replaced = []
    for name in names:
        path = Path(name)
        if _is_pipe(path):
            inode = path.stat().st_dev, path.stat().st_ino
            if inode not in copies:
                copies[inode] = _spool(path)
            name = copies[inode]
        replaced.append(name)
    return replaced


def _is_pipe(path: Path) -> bool:
    """Whether a path stands for a pipe, or for an open file of this process."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and path.is_relative_to("/dev"))


def _spool(path: Path) -> str:
    if (real := path.resolve()).is_file():
        return str(real)  # `< a.en` is the file itself
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            f"{path} is a pipe, which only one of the processes of torchrun could read",
            hint="write it to a file first, and name the file",
            code="usage.conflict",
        )
    folder, digest = cache_folder() / "pipes", hashlib.sha256()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as pipe, NamedTemporaryFile(dir=folder, prefix=".making-", delete=False) as file:
            try:
                while piece := pipe.read(1 << 20):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                copy = folder / digest.hexdigest()[:16]
                Path(file.name).replace(copy)
            finally:
                with suppress(FileNotFoundError):
                    Path(file.name).unlink()
    console.say(f"{path} is a pipe; its text is kept in {copy}")
    return str(copy)
