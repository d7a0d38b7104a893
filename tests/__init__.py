"""The tests, without the user's own token and files of the Hugging Face hub."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before anything imports the hub's libraries, which read it once; HOME need not be readable.
_HUB = tempfile.mkdtemp(prefix="seq2seq-hub-")
os.environ["HF_HOME"] = _HUB


def _remove(owner: int = os.getpid()) -> None:
    if os.getpid() == owner:  # and no child that was forked
        shutil.rmtree(_HUB, ignore_errors=True)


atexit.register(_remove)
