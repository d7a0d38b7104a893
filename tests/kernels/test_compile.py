"""Where the loops come from, what happens where they cannot be had, and who uses them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.kernels import compile as loading
from seq2seq.kernels import tensors


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not asked for the loops yet."""
    monkeypatch.setattr(loading, "_kernels", None)
    monkeypatch.setattr(loading, "_reason", None)


def test_they_are_used_only_where_asked_for() -> None:
    """What a training computes must not depend on whether the process has translated before."""
    assert loading.load() == ""
    logits = torch.randn(2, 400)
    with torch.inference_mode():
        assert tensors.normalise(logits) is None
        with loading.in_use():
            assert tensors.normalise(logits) is not None
        assert tensors.normalise(logits) is None


@pytest.mark.usefixtures("unasked")
def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(compiling: object, cached: bool, anew: bool = False) -> Any:
        tried.append((cached, anew))
        raise ImportError("Numba needs NumPy\n 9.9 or less")

    monkeypatch.setattr(loading, "_compiled", fail)
    assert loading.load() == "ImportError: Numba needs NumPy 9.9 or less"
    assert loading.load() == "ImportError: Numba needs NumPy 9.9 or less"
    assert tried == [(True, False), (True, True), (False, False)]
    with torch.inference_mode(), loading.in_use():
        assert tensors.normalise(torch.randn(2, 400)) is None


@pytest.mark.usefixtures("unasked")
def test_a_cache_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a folder that cannot be written, a damaged file."""

    def compiled(compiling: object, cached: bool, anew: bool = False) -> loading.Kernels:
        if cached:
            raise OSError(28, "No space left on device")
        return loading.Kernels(*[print] * 8)

    monkeypatch.setattr(loading, "_compiled", compiled)
    assert loading.load() == ""
    with loading.in_use():
        assert loading.used() == loading.Kernels(*[print] * 8)


@pytest.mark.usefixtures("unasked")
def test_a_numba_that_compiles_nothing_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hand back Python functions, and what they call exists as machine code only."""
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert loading.load() == "RuntimeError: NUMBA_DISABLE_JIT is set"


def test_machine_code_is_kept_and_where_damaged_made_again(tmp_path: Path) -> None:
    """numba's own files, cut off and overwritten as a crash or a bad disk would. Who has to wait is told why."""
    code = (
        "from seq2seq.kernels import compile as loading\n"
        "loading._SIGNATURES = {'normalise': loading._SIGNATURES['normalise']}\n"  # one is enough, and soon compiled
        "loading.Kernels = dict\n"
        "print(loading.load(lambda: print('compiling')) or 'loaded')\n"
    )

    def run() -> list[str]:
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert run() == ["compiling", "loaded"]
    assert run() == ["loaded"]
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbc", ".nbi")]
    assert {path.suffix for path in files} == {".nbc", ".nbi"}
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    assert run() == ["compiling", "loaded"]
    assert run() == ["loaded"]


def test_machine_code_of_other_sources_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba would keep that of a loop whose own file is as it was, whatever it calls. Another CPU's stays."""
    for name in ("loops.py", "vectors.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "loading.py"))
    first, cache = loading._sources(), tmp_path / "cache"
    cache.mkdir()
    kept = [f"loops.norm-{first}p{panel}-100.py311.{end}" for panel in (16, 64) for end in ("nbi", "1.nbc")]
    for name in (*kept, "loops.py311.pyc"):
        (cache / name).touch()
    loading._forget_others(cache, loading._sources())
    assert len(list(cache.iterdir())) == 5
    (tmp_path / "vectors.py").write_text("changed")
    assert loading._sources() != first
    loading._forget_others(cache, loading._sources())
    assert [path.name for path in cache.iterdir()] == ["loops.py311.pyc"]


def test_the_version_names_the_files_of_the_cache(tmp_path: Path) -> None:
    code = (
        "from seq2seq.kernels import compile as loading, products\n"
        "loading._SIGNATURES = {'normalise': loading._SIGNATURES['normalise']}\n"
        "loading.Kernels = dict\n"
        "assert loading.load() == ''\n"
        "print(f'{loading._sources()}p{products.PANEL}')\n"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    version = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout.strip()
    files = [path.name for path in tmp_path.rglob("*.nb[ci]")]
    assert len(files) == 2
    assert all(f"normalise-{version}-" in name for name in files)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="another CPU has it always")
def test_a_cpu_that_cannot_fuse_is_known() -> None:
    """Every single product would be a call there: numba may be told to compile for another CPU than the one at hand."""
    code = "from seq2seq.kernels import products\nprint(products.FUSED, products.PANEL)\n"
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "16"]
