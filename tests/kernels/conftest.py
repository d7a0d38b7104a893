"""The compiled loops, for tests of the loops themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from filelock import FileLock

from seq2seq.kernels import compile as loading


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiling takes half a minute: one process does it, and the others load what it has kept."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "kernels.lock"):
        assert loading.load() == ""


@pytest.fixture
def loops() -> Iterator[None]:
    """They are in use, no gradient is wanted, and random numbers are the same every time."""
    assert loading.load() == ""
    with loading.in_use(), torch.inference_mode():
        torch.manual_seed(1)
        yield
