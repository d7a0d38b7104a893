"""The tests, without the user's own token and files of the Hugging Face hub."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Before anything imports the hub's libraries, which read it once; HOME need not be readable. The processes that a test
# starts take the folder of theirs: they end without `atexit`.
_PREFIX = f"seq2seq-hub-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-"
if not Path(os.environ.get("HF_HOME", "")).name.startswith(_PREFIX):
    _HUB = os.environ["HF_HOME"] = tempfile.mkdtemp(prefix=_PREFIX)

    @atexit.register
    def _remove(owner: int = os.getpid()) -> None:
        if os.getpid() == owner:  # and no child that was forked
            shutil.rmtree(_HUB, ignore_errors=True)
