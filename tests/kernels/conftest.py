"""Fixtures for tests of the compiled loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compile import Kernels


@pytest.fixture(scope="session", autouse=True)
def _compiled(kernels: Kernels) -> Kernels:
    """Every test of this folder may use the loops."""
    return kernels


@pytest.fixture
def loops(kernels: Kernels) -> Iterator[Kernels]:
    """The loops, in use without gradients and with seeded random numbers."""
    with compiling.in_use(kernels), torch.inference_mode():
        torch.manual_seed(1)
        yield kernels
