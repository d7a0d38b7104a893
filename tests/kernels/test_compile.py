"""Where the loops come from, what happens where they cannot be had, and who uses them."""

from __future__ import annotations

import os
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


def output_of(code: str, **environment: str) -> list[str]:
    """Words that a new process prints, with these changes of its environment."""
    changed = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=changed, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_machine_code_is_kept_and_where_damaged_made_again(tmp_path: Path) -> None:
    """numba's own files, cut off and overwritten as a crash or a bad disk would. A user who has to wait sees why."""
    code = (
        "from seq2seq.kernels import compile as loading, products\n"
        "loading._SIGNATURES = {'normalise': loading._SIGNATURES['normalise']}\n"  # one is enough, and soon compiled
        "loading.Kernels = dict\n"
        "print(loading.load(lambda: print('compiling')) or 'loaded', f'{loading._sources()}p{products.PANEL}')\n"
    )

    def run() -> list[str]:
        return output_of(code, NUMBA_CACHE_DIR=str(tmp_path))

    compiling, loaded, version = run()
    assert (compiling, loaded) == ("compiling", "loaded")
    assert run() == ["loaded", version]
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbc", ".nbi")]
    assert {path.suffix for path in files} == {".nbc", ".nbi"}
    assert all(f"normalise-{version}-" in path.name for path in files)
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    assert run() == ["compiling", "loaded", version]
    assert run() == ["loaded", version]


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


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="another CPU has it always")
def test_a_cpu_that_cannot_fuse_is_known() -> None:
    """Every single product would be a call there: numba may be told to compile for another CPU than the one at hand."""
    code = "from seq2seq.kernels import products\nprint(products.FUSED, products.PANEL)\n"
    assert output_of(code, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse2") == ["False", "16"]
