"""Fixtures for tests of the compiled loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from filelock import FileLock

from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compile import Kernels


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The compiled loops. Compiling takes half a minute: one process does it, the others load what it has kept."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "kernels.lock"):
        assert compiling.load() == ""
    found = compiling.loaded()
    assert found is not None
    return found


@pytest.fixture
def loops(kernels: Kernels) -> Iterator[Kernels]:
    """The loops, in use without gradients and with seeded random numbers."""
    with compiling.in_use(kernels), torch.inference_mode():
        torch.manual_seed(1)
        yield kernels
