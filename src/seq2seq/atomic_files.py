"""Atomic files and folders: temporary name, fsync, rename, fsync of the folder.

Transient input/output errors, as on network disks, are retried twice. Whatever an interruption leaves behind has a
prefix (`.partial-`, `.replaced-`, `.removed-`) and is cleaned up by `remove_partial` at the next start. Nothing is
written through a symbolic link: a link is replaced, and what it points to is untouched.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import glob
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

from seq2seq.errors import ResourceError, UsageError, UserError
from seq2seq.failpoints import reach
from seq2seq.processes import is_running

Result = TypeVar("Result")

_TEMPORARY, _REPLACED, _REMOVED = ".partial-", ".replaced-", ".removed-"
TEMPORARY_PREFIXES = (_TEMPORARY, _REPLACED, _REMOVED)
_WRITER = re.compile(r"pid([0-9]{1,9})-")
"""The process that writes a temporary file, in its name."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_BRIEF = (errno.EIO, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, getattr(errno, "ESTALE", errno.EIO))
_WAITS_SECONDS = (0.1, 1.0)
"""Waits between the attempts."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        ResourceError: the disk is full, or failed three times.
        UsageError: the folder is missing or not writable.
    """
    # Two processes may write the same file, such as the report of a run that another one trains.
    temporary = path.with_name(f"{_TEMPORARY}pid{os.getpid()}-{path.name}")
    try:
        for other in path.parent.glob(f"{_TEMPORARY}pid*-{glob.escape(path.name)}"):
            if _final_name(other) == path.name and _is_left_over(other):
                other.unlink(missing_ok=True)
        with_retries(lambda: _write(path, temporary, content))
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(error, path, len(content)) from None


def _write(path: Path, temporary: Path, content: bytes) -> None:
    reach("write")
    temporary.unlink(missing_ok=True)  # "x" creates a file of our own, never one behind a link
    with temporary.open("xb") as file:
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
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file cannot be read or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def no_follow(path: str, flags: int) -> int:
    """Opener for `open(..., opener=no_follow)` that follows no symbolic link and refuses a FIFO. Raises OSError."""
    # Without O_NONBLOCK the opening of a FIFO would wait for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a FIFO", path)
    return descriptor


def try_lock(file: IO[Any], *, shared: bool = False, unsupported: Callable[[OSError], None] | None = None) -> bool:
    """Lock an open file without waiting; False if another process holds a lock of it.

    True on a file system without locks, whose error `unsupported` is then called with.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if unsupported is not None:
            unsupported(error)
    return True


def read_bytes(path: Path) -> bytes:
    """Read a file, retrying transient errors. Raises OSError."""

    def read() -> bytes:
        reach("read")
        return path.read_bytes()

    return with_retries(read)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Context with a temporary folder that becomes `path` on success and is removed on failure.

    An existing folder is moved aside first, and restored by `remove_partial` after an interruption, so that a complete
    one exists at every instant.

    Raises:
        ResourceError: the disk is full.
        UsageError: the folder cannot be written.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    replaced = path.with_name(f"{_REPLACED}{path.name}")
    with disk_errors(path):
        _discard(temporary)
        temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync_folder(temporary)
        reach("folder.before_rename")
        if path.exists():
            _discard(replaced)
            path.replace(replaced)
            reach("folder.replaced")
        with_retries(lambda: temporary.replace(path))
        reach("folder.after_rename")
        _sync_folder(path.parent)
    except OSError as error:
        if replaced.exists() and not path.exists():
            replaced.replace(path)
        raise disk_error(error, path, 0) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _discard(replaced)


@contextmanager
def new_files(paths: Sequence[Path]) -> Iterator[Sequence[TextIO]]:
    """Context with temporary text files that become `paths`, one after another, on success and are removed on failure.

    Raises:
        ResourceError: the disk is full.
        UsageError: a file cannot be written.
    """
    partial = [path.with_name(f"{_TEMPORARY}{path.name}") for path in paths]
    try:
        with ExitStack() as stack:
            for temporary in partial:
                temporary.unlink(missing_ok=True)  # "x", as in `_write`
            files = [stack.enter_context(path.open("x", encoding="utf-8", newline="\n")) for path in partial]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in zip(partial, paths, strict=True):
            temporary.replace(path)
    except OSError as error:
        raise disk_error(error, paths[0], 0) from None
    finally:
        for temporary in partial:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents durably, surviving a power failure. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically. Raises OSError."""
    doomed = path.with_name(f"{_REMOVED}{path.name}")
    _discard(doomed)
    path.replace(doomed)
    reach("folder.half_removed")
    _discard(doomed)


def remove_partial(folder: Path) -> list[str]:
    """Clean up after an interruption in `folder`; returns the names of unfinished writes.

    Partial files and half-removed folders are removed; a folder that was moved aside is restored if its replacement is
    missing.
    """
    if not folder.is_dir():
        return []
    for path in sorted(folder.glob(f"{_REPLACED}*")):
        before = path.with_name(path.name.removeprefix(_REPLACED))
        if before.exists():
            _discard(path)
        else:
            path.replace(before)
    for path in sorted(folder.glob(f"{_REMOVED}*")):
        _discard(path)
    stale = sorted(path for path in folder.glob(f"{_TEMPORARY}*") if _is_left_over(path))
    for path in stale:
        _discard(path)
    return [_final_name(path) for path in stale]


def _final_name(temporary: Path) -> str:
    return _WRITER.sub("", temporary.name.removeprefix(_TEMPORARY))


def _is_left_over(temporary: Path) -> bool:
    """Whether no other process of this machine is writing this temporary file."""
    writer = _WRITER.match(temporary.name.removeprefix(_TEMPORARY))
    return writer is None or int(writer[1]) == os.getpid() or not is_running(int(writer[1]))


def _discard(path: Path) -> None:
    """Remove a folder as far as possible, or a file or a link; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def with_retries(action: Callable[[], Result]) -> Result:
    """Run an action, retrying twice after transient errors. Raises OSError."""
    for seconds in _WAITS_SECONDS:
        try:
            return action()
        except OSError as error:
            if error.errno not in _BRIEF:
                raise
            time.sleep(seconds)
    return action()


def require_room(folder: Path, needed: int) -> None:
    """Check the free space before a write of `needed` bytes.

    Raises:
        ResourceError: less is free in `folder`.
    """
    if free_bytes(folder) < needed:
        raise disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder, needed)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(next(parent for parent in (path, *path.absolute().parents) if parent.exists())).free


@contextmanager
def disk_errors(path: Path, needed: int = 0, file: IO[Any] | None = None) -> Iterator[None]:
    """Context of a write of `needed` bytes to `path`, whose operating-system errors become user errors.

    The open `file` that is written is closed after an error: closed later, it would try to write the rest of its buffer
    once more, and raise an error that names no path.

    Raises:
        ResourceError: the disk is full, or failed.
        UsageError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if file is not None:
            with suppress(OSError):
                file.close()
        raise disk_error(error, path, needed) from None


def show_bytes(size: float) -> str:
    """A size of memory or of a file in the unit that suits it: `12.5 MiB`."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"


def disk_error(error: OSError, path: Path, needed: int) -> UserError:
    """The user error for an operating-system error: a full disk, or a path that cannot be written."""
    if error.errno not in _FULL:
        hint = "check that the folder exists and may be written, or choose another"
        return UsageError(f"cannot write {path}: {error.strerror or error}", hint=hint, code="usage.unwritable")
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"cannot write {path}: {error.strerror or error}",
            hint=f"needed {show_bytes(needed)}, more than one file may have here: `ulimit -f unlimited`",
            code="disk.full",
        )
    sizes = f"free {show_bytes(free_bytes(path))}"
    if needed:
        sizes = f"needed {show_bytes(needed)}, {sizes}"
    return ResourceError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"{sizes}; free some space, or choose another place",
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
    holds = "holds " + (", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no files")
    return f"relative paths start from {Path.cwd()}, which {holds}" if folder == Path() else f"{folder} {holds}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
