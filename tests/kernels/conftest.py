"""The compiled loops, for tests of the loops themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from seq2seq.kernels import compile as loading


@pytest.fixture
def loops() -> Iterator[None]:
    """They are in use, no gradient is wanted, and random numbers are the same every time."""
    assert loading.load() == ""
    with loading.in_use(), torch.inference_mode():
        torch.manual_seed(1)
        yield
