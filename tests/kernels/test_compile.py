"""Compiling and caching the loops, and the fallback where that fails."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.kernels import compile as compiling
from seq2seq.kernels import products
from seq2seq.kernels.search import normalisers


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not loaded the loops yet."""
    monkeypatch.setattr(compiling, "_kernels", None)
    monkeypatch.setattr(compiling, "_reason", None)


def test_they_are_used_only_where_asked_for() -> None:
    """What a training computes must not depend on whether the process has translated before."""
    assert compiling.load() == ""
    logits = torch.randn(2, 400)
    with torch.inference_mode():
        assert normalisers(logits) is None
        with compiling.in_use(compiling.loaded()):
            assert normalisers(logits) is not None
        assert normalisers(logits) is None


@pytest.mark.usefixtures("unasked")
def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(notify: object, folder: Path | None) -> Any:
        tried.append(folder is not None)
        raise ImportError("Numba needs NumPy\n 9.9 or less")

    monkeypatch.setattr(compiling, "_compiled", fail)
    assert compiling.load() == "ImportError: Numba needs NumPy 9.9 or less"
    assert compiling.load() == "ImportError: Numba needs NumPy 9.9 or less"
    assert tried == [True, False]
    with torch.inference_mode(), compiling.in_use(compiling.loaded()):
        assert normalisers(torch.randn(2, 400)) is None


@pytest.mark.usefixtures("unasked")
def test_a_cache_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a folder that cannot be written, a damaged file."""

    def compiled(notify: object, folder: Path | None) -> compiling.Kernels:
        if folder is not None:
            raise OSError(28, "No space left on device")
        return compiling.Kernels(*[print] * len(compiling.Kernels._fields))

    monkeypatch.setattr(compiling, "_compiled", compiled)
    assert compiling.load() == ""
    assert compiling.loaded() == compiling.Kernels(*[print] * len(compiling.Kernels._fields))


@pytest.mark.usefixtures("unasked")
def test_a_numba_that_compiles_nothing_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hand back Python functions, and what they call exists as machine code only."""
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert compiling.load() == "RuntimeError: NUMBA_DISABLE_JIT is set"


def output_of(code: str, **environment: str) -> list[str]:
    """Words that a new process prints, with these changes of its environment."""
    changed = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=changed, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.fault(58)
def test_machine_code_is_kept_and_where_damaged_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit in numba's files ended two of fourteen translations by SIGSEGV. A user who waits sees why."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_SIGNATURES", {"normalise": compiling._SIGNATURES["normalise"]})  # soon compiled
    monkeypatch.setattr(compiling, "Kernels", dict)

    def said() -> list[str]:
        said: list[str] = []
        compiling._load_or_compile(lambda: said.append("compiling"))
        return said

    assert said() == ["compiling"]
    assert said() == []
    version = f"{compiling._sources()}p{products.PANEL}"
    files = [path for path in tmp_path.rglob("*normalise*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".json", ".nbc", ".nbi"]
    assert all(f"normalise-{version}" in path.name for path in files)
    code = compiling._MachineCode(files[0].parent, f"normalise-{version}")
    for path in files:
        content = path.read_bytes()
        for damaged in (content[:-9], bytes([content[0] ^ 1]) + content[1:], b""):
            path.write_bytes(damaged)
            assert not code.are_sound(), path.suffix
        path.write_bytes(content)
        assert code.are_sound()
    files[0].write_bytes(b"")
    assert said() == ["compiling"]
    assert said() == []


def test_machine_code_of_other_sources_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba would keep that of a loop whose own file is as it was, whatever it calls. Another CPU's stays."""
    for name in ("loops.py", "vectors.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "compile.py"))
    first, cache = compiling._sources(), tmp_path / "cache"
    cache.mkdir()
    kept = [f"loops.norm-{first}p{panel}-100.py311.{end}" for panel in (16, 64) for end in ("nbi", "1.nbc")]
    kept.append(f"norm-{first}p16.json")
    for name in (*kept, "loops.py311.pyc"):
        (cache / name).touch()
    compiling._remove_outdated(cache, compiling._sources())
    assert len(list(cache.iterdir())) == 6
    (tmp_path / "vectors.py").write_text("changed")
    assert compiling._sources() != first
    compiling._remove_outdated(cache, compiling._sources())
    assert [path.name for path in cache.iterdir()] == ["loops.py311.pyc"]


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="another CPU has it always")
def test_a_cpu_that_cannot_fuse_is_known() -> None:
    """Every single product would be a call there: numba may be told to compile for another CPU than the one at hand."""
    code = "from seq2seq.kernels import products\nprint(products.FUSED, products.PANEL)\n"
    assert output_of(code, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse2") == ["False", "16"]


def test_threads_wait_for_the_one_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compiled, and left numba's settings as the others had changed them."""
    made = object()
    calls: list[str] = []

    def slow(notify: object) -> object:
        calls.append("compiled")
        assert compiling._lock.locked()
        return made

    monkeypatch.setattr(compiling, "_kernels", None)
    monkeypatch.setattr(compiling, "_reason", None)
    monkeypatch.setattr(compiling, "_load_or_compile", slow)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: compiling.load(), range(4))) == [""] * 4
    assert calls == ["compiled"]
    assert compiling.loaded() is made
