"""Folder of this user's caches, private to the user."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from seq2seq.atomic_files import disk_error
from seq2seq.console import warn
from seq2seq.errors import UsageError


def user_cache() -> Path:
    """Folder of caches of this user, which need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seq2seq"


def private_folder(path: Path) -> Path:
    """Create a folder that only this user can open, or check that nobody else can write to an existing one.

    If others can, as in `/tmp`, a folder of this user inside it is used instead, and a warning says so.

    Raises:
        UserError: it cannot be created, or belongs to another user. Root is trusted.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link, and what it points to.
        owner = next((found.st_uid for found in (path.lstat(), path.stat()) if found.st_uid not in (os.getuid(), 0)), 0)
        shared = path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_error(error, path, 0) from None
        raise UsageError(
            f"cannot use the cache {path}: {error.strerror}",
            hint="set SEQ2SEQ_CACHE to a folder that can be written to",
            code="usage.unwritable",
        ) from None
    if owner:
        what = f"{path} is no private folder: it belongs to another user (uid {owner})"
        raise UsageError(what, hint="choose a folder of your own: SEQ2SEQ_CACHE=DIR", code="usage.unwritable")
    if not shared:
        return path
    inner = path / f"user-{os.getuid()}"
    if path.name == inner.name:
        what = f"{path} is no private folder: others can write to it"
        raise UsageError(what, hint=f"chmod go-w {path}", code="usage.unwritable")
    warn(f"others can write to {path}, so the cache is in {inner.name} there; to use the folder: chmod go-w {path}")
    return private_folder(inner)
