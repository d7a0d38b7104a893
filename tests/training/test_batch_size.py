"""The largest batch that fits into a known memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import OptimizerSettings
from seq2seq.errors import ResourceError
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.training import batch_size
from seq2seq.training.batch_size import (
    HEAD_ROOM,
    HOST_HEAD_ROOM,
    extrapolate,
    fit_batch_size,
    grow,
    largest_useful,
    peak_bytes,
)
from seq2seq.training.rehearsal import rehearsing
from tests.training.test_rehearsal import Layered, one_step

CPU = torch.device("cpu")
MIB = 1 << 20


@given(
    base=st.floats(0, 0.5),
    capacity=st.integers(1, 200_000),
    smallest=st.integers(1, 3000),
    largest=st.integers(1, 70_000),
    crash=st.floats(0.9, 1.2),
)
def test_growth_finds_at_least_three_quarters_of_what_fits(
    base: float, capacity: int, smallest: int, largest: int, crash: float
) -> None:
    """Against a memory that is `base` full at size 0 and full at `capacity`, and runs out at `crash`."""
    largest = max(smallest, largest)
    tried: list[int] = []

    def share(size: int) -> float | None:
        tried.append(size)
        used = base + (1 - base) * size / capacity
        return used if used <= crash else None

    found = grow(share, smallest, largest)
    best = min(largest, int((HEAD_ROOM - base) / (1 - base) * capacity))
    if found is None:
        assert share(smallest) is None
    elif found > smallest:
        assert found in tried
        assert 0.75 * best - 8 <= found <= best
    else:
        assert best < max(2 * smallest, smallest + 8) or found == largest
    assert len(tried) <= 20


@given(
    base=st.integers(0, 1000), slope=st.integers(1, 50), available=st.integers(1, 10**6), smallest=st.integers(8, 99)
)
def test_the_line_ends_at_the_memory_and_no_trial_goes_beyond(
    base: int, slope: int, available: int, smallest: int
) -> None:
    tried: list[int] = []

    def measure(size: int) -> int:
        tried.append(base + slope * size)
        return tried[-1]

    found = extrapolate(measure, smallest, 8192, available)
    best = min(8192, (available - base) // slope)
    if found is None:
        assert best < smallest
    else:
        assert all(used <= available for used in tried)
        assert found <= max(best, smallest)
        assert found >= best - 8 or found == smallest
    assert len(tried) <= 2


def test_a_real_model_is_fitted_to_a_known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # slow in a process with many objects
    model = Layered()
    optimizer = build_optimizer(model, OptimizerSettings())
    precision = Precision(PrecisionChoice("fp32", ""), CPU)
    sizes: list[int] = []

    def try_batch(size: int) -> None:
        sizes.append(size)
        with rehearsing(model, optimizer, precision):
            one_step(model, optimizer, precision, rows=size)

    for available in (2 * MIB, 20 * MIB):
        monkeypatch.setattr(batch_size, "free_memory", lambda device, available=available: available)
        found = fit_batch_size(try_batch, 64, 1 << 20, device=CPU)
        assert max(sizes) == 128  # small trials only
        needed = peak_bytes(lambda found=found: try_batch(found))  # type: ignore[misc]
        assert 0.9 * available * HOST_HEAD_ROOM <= needed <= 1.05 * available * HOST_HEAD_ROOM
        sizes.clear()
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="not even a batch of 64"):
        fit_batch_size(try_batch, 64, 1024, device=CPU)
    assert fit_batch_size(try_batch, 512, 512, device=CPU) == 512


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, ResourceError])
def test_on_cuda_running_out_of_memory_ends_the_growth(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal that had made a message for the user of it once ended the run at the first size too large."""
    peak = 0

    def try_batch(size: int) -> None:
        nonlocal peak
        if size > 1000:
            raise error("out of memory")
        peak = size

    monkeypatch.setattr("gc.collect", lambda: 0)  # slow in a process with many objects
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (900, 5000))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 100)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: peak)
    assert fit_batch_size(try_batch, 100, 65_536, device=torch.device("cuda")) == 896
    with pytest.raises(ResourceError, match="not even a batch of 1001"):
        fit_batch_size(try_batch, 1001, 65_536, device=torch.device("cuda"))


def test_useful_sizes() -> None:
    assert largest_useful("tokens", CPU) == 8192
    assert largest_useful("tokens", torch.device("cuda")) == 65_536
    assert largest_useful("sentences", CPU) == 1024


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fit_on_a_gpu_fills_it_without_a_trace() -> None:
    device = torch.device("cuda")
    model = Layered().to(device)
    optimizer = build_optimizer(model, OptimizerSettings())
    precision = Precision(PrecisionChoice("fp32", ""), device)

    def try_batch(size: int) -> None:
        with rehearsing(model, optimizer, precision):
            rows = torch.randn(size * 1024, 32, device=device)
            precision.backward(model(rows).square().mean())
            precision.step(model, optimizer, 1.0)

    found = fit_batch_size(try_batch, 64, 1 << 20, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    try_batch(found)
    total = torch.cuda.get_device_properties(device).total_memory
    assert 0.5 * total < torch.cuda.max_memory_reserved(device) <= 0.92 * total
    with pytest.raises(torch.OutOfMemoryError):
        try_batch(3 * found)
