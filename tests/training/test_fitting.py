"""Batch fit: the largest size under a known memory, and rehearsals without a trace."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from seq2seq.config import OptimizerSettings
from seq2seq.errors import ResourceError
from seq2seq.optimization.optimizers import build_optimizer, optimizer_tensors
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.training import fitting
from seq2seq.training.fitting import HEAD_ROOM, extrapolate, fit_batch_size, grow, peak_bytes, rehearsing

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


def test_peak_counts_what_is_alive_at_one_time() -> None:
    before = torch.ones(MIB)  # 4 MiB that were there already

    def work() -> None:
        for _ in range(5):
            doubled = before * 2.0
            doubled.add_(1.0)
            view = doubled.view(1024, 1024).t()
            del doubled
            tripled = view * 3.0  # 8 MiB here
            del view, tripled

    assert peak_bytes(work) == 8 * MIB
    weight = torch.ones(MIB, requires_grad=True)
    # Saved for backward: exp's result; then the sum's expanded gradient and the two products' gradients.
    assert 8 * MIB <= peak_bytes(lambda: weight.exp().exp().sum().backward()) <= 20 * MIB  # type: ignore[no-untyped-call]


class Layered(nn.Module):
    """Dropout and a buffer, so that a trace would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 4)
        self.norm = nn.BatchNorm1d(32)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.second(torch.dropout(self.norm(self.first(x)), 0.5, self.training))
        return hidden


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, rows: int = 16) -> Tensor:
    precision.backward(model(torch.randn(rows, 32)).square().mean())
    norm = precision.step(model, optimizer, 1.0)
    optimizer.zero_grad(set_to_none=True)
    return norm


@pytest.mark.parametrize("kind", ["adamw", "schedule_free", "muon", "adafactor"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_rehearsal_leaves_no_trace(kind: Literal["adamw", "schedule_free", "muon", "adafactor"], steps: int) -> None:
    model = Layered()
    optimizer = build_optimizer(model, OptimizerSettings(kind=kind, weight_decay=0.1))
    precision = Precision(PrecisionChoice("fp32", ""), CPU)
    for _ in range(steps):
        one_step(model, optimizer, precision)
    model.eval()
    random_state, scaler = torch.get_rng_state(), precision.scaler
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer_tensors(model, optimizer))
    with suppress(KeyboardInterrupt), rehearsing(model, optimizer, precision):
        model.train()
        one_step(model, optimizer, precision)
        optimizer.param_groups[0]["lr"] = 7.0
        assert len(optimizer_tensors(model, optimizer)) >= len(list(model.parameters()))  # its memory is taken
        raise KeyboardInterrupt
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    after = optimizer_tensors(model, optimizer)
    assert after.keys() == state.keys()
    assert all(torch.equal(state[key], after[key]) for key in state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert precision.scaler is scaler
    assert not model.training
    assert optimizer.param_groups[0]["lr"] == OptimizerSettings().learning_rate


def test_a_real_model_is_fitted_to_a_known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Layered()
    optimizer = build_optimizer(model, OptimizerSettings())
    precision = Precision(PrecisionChoice("fp32", ""), CPU)
    sizes: list[int] = []

    def try_batch(size: int) -> None:
        sizes.append(size)
        with rehearsing(model, optimizer, precision):
            one_step(model, optimizer, precision, rows=size)

    for available in (2 * MIB, 20 * MIB):
        monkeypatch.setattr(fitting, "free_memory", lambda device, available=available: available)
        found = fit_batch_size(try_batch, 64, 1 << 20, device=CPU)
        assert max(sizes) == 128  # small trials only
        needed = peak_bytes(lambda found=found: try_batch(found))  # type: ignore[misc]
        assert 0.9 * available * fitting.HOST_HEAD_ROOM <= needed <= 1.05 * available * fitting.HOST_HEAD_ROOM
        sizes.clear()
    monkeypatch.setattr(fitting, "free_memory", lambda device: 1000)
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

    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (900, 5000))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 100)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: peak)
    assert fit_batch_size(try_batch, 100, 65_536, device=torch.device("cuda")) == 896
    with pytest.raises(ResourceError, match="not even a batch of 1001"):
        fit_batch_size(try_batch, 1001, 65_536, device=torch.device("cuda"))


def test_the_smallest_of_system_and_control_groups_counts(tmp_path: Path) -> None:
    """In a container the system's memory is not the process's."""
    group = tmp_path / "box" / "inner"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("1000\n")
    (group.parent / "memory.current").write_text("700\n")
    (group.parent / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("5000\n")
    (old / "memory.usage_in_bytes").write_text("1000\n")
    (old / "memory.stat").write_text("inactive_file 10\ntotal_inactive_file 20\n")
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/outside/name\n1:cpu:/\n0::/box/inner\n")
    assert sorted(fitting._control_group_rooms(tmp_path, membership)) == [450, 4020]
    assert list(fitting._control_group_rooms(tmp_path, tmp_path / "nothing")) == []
    assert fitting.free_memory(CPU) > 0


def test_useful_sizes() -> None:
    assert fitting.largest_useful("tokens", CPU) == 8192
    assert fitting.largest_useful("tokens", torch.device("cuda")) == 65_536
    assert fitting.largest_useful("sentences", CPU) == 1024


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
