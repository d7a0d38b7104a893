"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# One process for each core runs the suite; threads inside them would only get in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora laid beside the project; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the corpora in ../shared/data")
    return folder
