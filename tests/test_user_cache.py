"""Private folders, which nobody else can write to."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from seq2seq.errors import UsageError
from seq2seq.user_cache import private_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no owners of this kind")


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert private_folder(tmp_path / "cache" / "kernels") == tmp_path / "cache" / "kernels"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache" / "kernels").stat().st_mode) == 0o700


def test_what_others_could_have_written_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cache in /tmp that everybody may write to holds pickles of numba: whoever was there first chose what we run."""
    tmp_path.chmod(0o1777)
    inner = tmp_path / f"user-{os.getuid()}"
    assert private_folder(tmp_path) == inner
    assert f"others can write to {tmp_path}, so the cache is in user-" in capsys.readouterr().err
    inner.chmod(0o720)
    with pytest.raises(UsageError, match=f"others can write to it\n  hint: chmod go-w {inner}"):
        private_folder(tmp_path)


def test_the_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns a folder can replace what is in it; root could anyway."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    if tmp_path.stat().st_uid == 0:
        assert private_folder(tmp_path) == tmp_path
        os.chown(tmp_path, 1234, -1)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match="belongs to another user"):
            private_folder(folder)
