"""Files that appear whole or not at all: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seq2seq.errors import ResourceError, UsageError, UserError

_TEMPORARY = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content.

    Raises:
        ResourceError: the disk is full.
        UsageError: the folder is missing or not writable.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path, len(content)) from None


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a UTF-8 file of this text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Replace `path` by readable JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise disk_error(error, path, 0) from None
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        _sync_folder(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path, 0) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step."""
    temporary = link.with_name(f"{_TEMPORARY}{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target, target_is_directory=True)
    temporary.replace(link)
    _sync_folder(link.parent)


def remove_partial(folder: Path) -> list[str]:
    """Remove what an interrupted write left in `folder`; return the names."""
    stale = sorted(folder.glob(f"{_TEMPORARY}*")) if folder.is_dir() else []
    for path in stale:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path.name.removeprefix(_TEMPORARY) for path in stale]


def disk_error(error: OSError, path: Path, needed: int) -> UserError:
    """An operating-system error as the user should see it: a full disk, or a place that cannot be written."""
    if error.errno not in _FULL:
        hint = "check that the folder exists and may be written, or choose another"
        return UsageError(f"cannot write {path}: {error.strerror or error}", hint=hint)
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    return ResourceError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"needed {needed / 2**20:,.1f} MiB, free {free / 2**20:,.1f} MiB; free some space or choose another",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
