"""Files that appear whole or not at all: temporary name, fsync, rename, fsync of the folder.

A brief input/output error, as network disks have them, is met with three tries. What an interruption leaves behind has
a name of its own (`.partial-`, `.replaced-`, `.removed-`) and is dealt with by `remove_partial` at the next start.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from seq2seq.errors import ResourceError, UsageError, UserError
from seq2seq.failpoints import reach

Result = TypeVar("Result")

_TEMPORARY, _REPLACED, _REMOVED = ".partial-", ".replaced-", ".removed-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_BRIEF = (errno.EIO, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, getattr(errno, "ESTALE", errno.EIO))
_WAITS_SECONDS = (0.1, 1.0)
"""Between the tries."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content.

    Raises:
        ResourceError: the disk is full, or failed three times.
        UsageError: the folder is missing or not writable.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        persistently(lambda: _write(path, temporary, content))
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(error, path, len(content)) from None


def _write(path: Path, temporary: Path, content: bytes) -> None:
    reach("write")
    with temporary.open("wb") as file:
        half = len(content) // 2
        file.write(content[:half])
        file.flush()
        reach("write.half")
        file.write(memoryview(content)[half:])
        file.flush()
        reach("write.before_fsync")
        os.fsync(file.fileno())
    reach("write.before_rename")
    temporary.replace(path)
    reach("write.after_rename")
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a UTF-8 file of this text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Replace `path` by readable JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """The content of a file, read with three tries. Raises OSError."""

    def read() -> bytes:
        reach("read")
        return path.read_bytes()

    return persistently(read)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    A folder that is there already is moved aside first and put back by `remove_partial` after an interruption, so that
    there is a whole one at every instant.

    Raises:
        ResourceError: the disk is full.
        UsageError: the place cannot be written.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    replaced = path.with_name(f"{_REPLACED}{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise disk_error(error, path, 0) from None
    try:
        yield temporary
        _sync_folder(temporary)
        reach("folder.before_rename")
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            path.replace(replaced)
            reach("folder.replaced")
        persistently(lambda: temporary.replace(path))
        reach("folder.after_rename")
        _sync_folder(path.parent)
    except OSError as error:
        if replaced.exists() and not path.exists():
            replaced.replace(path)
        raise disk_error(error, path, 0) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, such that they outlast a power failure. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step.

    Raises:
        ResourceError: the disk is full, or failed three times.
    """
    temporary = link.with_name(f"{_TEMPORARY}{link.name}")

    def replace() -> None:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        reach("link.before_rename")
        temporary.replace(link)
        _sync_folder(link.parent)

    try:
        persistently(replace)
    except OSError as error:
        raise disk_error(error, link, 0) from None


def remove_folder(path: Path) -> None:
    """Remove a folder in one step: at every instant all of it is there, or none. Raises OSError."""
    doomed = path.with_name(f"{_REMOVED}{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    reach("folder.half_removed")
    shutil.rmtree(doomed, ignore_errors=True)


def remove_partial(folder: Path) -> list[str]:
    """Undo what an interruption left in `folder`; return the names of unfinished writes.

    Half-written things go, and so does the rest of what was being removed; what was moved aside for a new one that did
    not come is put back.
    """
    if not folder.is_dir():
        return []
    for path in sorted(folder.glob(f"{_REPLACED}*")):
        before = path.with_name(path.name.removeprefix(_REPLACED))
        if before.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.replace(before)
    for path in sorted(folder.glob(f"{_REMOVED}*")):
        shutil.rmtree(path, ignore_errors=True)
    stale = sorted(folder.glob(f"{_TEMPORARY}*"))
    for path in stale:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path.name.removeprefix(_TEMPORARY) for path in stale]


def persistently(action: Callable[[], Result]) -> Result:
    """Do it; where it fails with an error that may pass, wait a moment and try again, twice at most. Raises OSError."""
    for seconds in _WAITS_SECONDS:
        try:
            return action()
        except OSError as error:
            if error.errno not in _BRIEF:
                raise
            time.sleep(seconds)
    return action()


def require_room(folder: Path, needed: int) -> None:
    """Refuse to begin a write of `needed` bytes that cannot end well.

    Raises:
        ResourceError: there is less room in `folder`.
    """
    if free_bytes(folder) < needed:
        raise disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder, needed)


def free_bytes(path: Path) -> int:
    """Room on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(next(parent for parent in (path, *path.absolute().parents) if parent.exists())).free


def disk_error(error: OSError, path: Path, needed: int) -> UserError:
    """An operating-system error as the user should see it: a full disk, or a place that cannot be written."""
    if error.errno not in _FULL:
        hint = "check that the folder exists and may be written, or choose another"
        return UsageError(f"cannot write {path}: {error.strerror or error}", hint=hint, code="usage.unwritable")
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"cannot write {path}: {error.strerror or error}",
            hint=f"needed {_size(needed)}, more than one file may have here: `ulimit -f unlimited`",
            code="disk.full",
        )
    return ResourceError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"needed {_size(needed)}, free {_size(free_bytes(path))}; free some space, or choose another place",
        code="disk.error" if error.errno == errno.EIO else "disk.full",
    )


def suggest_file(path: Path) -> str:
    """Write the hint for a missing file: similar names in its folder."""
    folder = path.parent
    if str(path).startswith("~") or "$" in str(path):
        return "~ and variables are the shell's: they mean nothing here, write the whole path"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file, not a folder"
    if not folder.is_dir():
        return f"the folder {folder} does not exist either; relative paths start from {Path.cwd()}"
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(str(folder / name) for name in near) + "?"
    return f"{folder} holds " + (", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no files")


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
