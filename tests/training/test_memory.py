"""How much memory there is, and how much some work takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seq2seq import system as free
from seq2seq.config import TrainingSettings
from seq2seq.data.batches import collate
from seq2seq.runs import environment
from seq2seq.training import trainer
from seq2seq.training.batch_size import peak_bytes
from seq2seq.training.failures import out_of_memory_error

MIB = 1 << 20


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
    assert sorted(free._control_group_memory(tmp_path, membership)) == [(1000, 450), (5000, 4020)]
    assert list(free._control_group_memory(tmp_path, tmp_path / "nothing")) == []
    assert free.free_memory(torch.device("cpu")) > 0


@pytest.mark.parametrize(
    ("known", "limits", "shown"),
    [
        ({"MemTotal": 8 << 30, "MemAvailable": 5 << 30}, [], ["5.0 GiB of 8.0 GiB memory free"]),
        ({"MemTotal": 8 << 30}, [2 << 30, 3 << 30], ["8.0 GiB memory", "2.0 GiB allowed to this container"]),
        ({"MemTotal": 8 << 30}, [2**63 - 4096], ["8.0 GiB memory"]),
    ],
    ids=["no limit", "an old kernel, nested groups", "a group of version 1 without a limit"],
)
def test_the_memory_that_is_told_is_that_which_training_obeys(
    known: dict[str, int], limits: list[int], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` read the outermost control group alone, and no limit of a nested one; an old kernel was a KeyError."""
    monkeypatch.setattr(free, "_meminfo", lambda: known)
    monkeypatch.setattr(free, "_control_group_memory", lambda root: ((limit, limit) for limit in limits))
    texts = dict(environment._memory())
    texts.pop("shared", None)
    assert list(texts.values()) == shown
    assert free.free_memory(torch.device("cpu")) <= min(known["MemTotal"], *limits, 8 << 30)


def test_quotas_of_a_container_count_as_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with the time of two cores on a machine of 64 started 64 processes."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    old = tmp_path / "cpu,cpuacct"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    membership = tmp_path / "cgroup"
    membership.write_text("4:cpu,cpuacct:/outside/name\n1:memory:/\n0::/box\n")
    assert list(free._control_group_quotas(tmp_path, membership)) == [2]
    (old / "cpu.cfs_quota_us").write_text("50000\n")
    assert sorted(free._control_group_quotas(tmp_path, membership)) == [0, 2]
    monkeypatch.setattr(free, "_control_group_quotas", lambda root: iter([0]))
    assert free.available_cores() == 1


@pytest.mark.fault(29)
def test_a_limit_of_the_shell_is_told_before_it_is_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below `ulimit -v` the advice was a smaller batch, which helps nobody whose threads find no addresses."""
    resource = pytest.importorskip("resource")
    cpu, settings = torch.device("cpu"), TrainingSettings()
    trainer._warn_if_address_space_is_small()
    assert capsys.readouterr().err == ""
    batch = collate([[5]], [[6]])
    assert "ulimit" not in (out_of_memory_error(settings, cpu, "", [batch], ranks=1).hint or "")
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    monkeypatch.setattr("resource.getrlimit", lambda kind: (used + (3 << 30), resource.RLIM_INFINITY))
    assert 2 << 30 < free.address_space_left() <= 3 << 30
    assert free.free_memory(cpu) <= 3 << 30
    trainer._warn_if_address_space_is_small()
    assert capsys.readouterr().err.endswith("lift the limit before: ulimit -v unlimited\n")
    assert (out_of_memory_error(settings, cpu, "", [batch], ranks=1).hint or "").startswith(
        "ulimit -v unlimited, or training.batch_size="
    )
