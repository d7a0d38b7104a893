"""A command that trains starts again with mimalloc, if there is one, and nothing else about it changes."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from seq2seq import allocator

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="for Linux on x86-64"
)

PROGRAM = """
import os, sys
from pathlib import Path
from seq2seq import allocator
allocator._LINKER_CACHE = Path(os.environ["CACHE"])
import sysconfig
sysconfig.get_path = lambda _: "/nonexistent"
before = dict(os.environ)
allocator.restart_with_mimalloc()
names = ("LD_PRELOAD", "MIMALLOC_PURGE_DELAY", "_SEQ2SEQ_RESTARTED")
print(os.getpid(), allocator.loaded(), sys.argv[1:], sys.stdin.read(), [name for name in names if name in os.environ])
print(before.get("MIMALLOC_PURGE_DELAY"), sys.flags.dont_write_bytecode)
sys.exit(7)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A linker's cache that knows mimalloc: a library that can be preloaded, under mimalloc's name."""
    for name in (*allocator._VARIABLES, "SEQ2SEQ_ALLOCATOR"):
        monkeypatch.delenv(name, raising=False)
    some = re.findall(r"(/\S+/libm\.so\S*)", Path("/proc/self/maps").read_text())
    if not some:
        pytest.skip("no library of mathematics to stand for mimalloc")
    library = tmp_path / "lib" / "libmimalloc.so.2"
    library.parent.mkdir()
    library.write_bytes(Path(some[0]).read_bytes())
    file = tmp_path / "ld.so.cache"
    file.write_bytes(
        b"glibc-ld.so.cache1.1\0libc.so.6\0/lib/libc.so.6\0libmimalloc.so.2\0" + os.fsencode(library) + b"\0"
    )
    monkeypatch.setattr(allocator, "_LINKER_CACHE", file)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "packages"))
    (tmp_path / "program.py").write_text(PROGRAM)
    return file


@pytest.fixture
def restarts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The command lines and environments that would have been started."""
    found: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, arguments, environment: found.append((arguments, environment)))
    monkeypatch.setattr(sys, "argv", [str(cache.with_name("program.py")), "train", "mine.yaml"])
    return found


def test_the_same_process_goes_on_with_the_library(cache: Path) -> None:
    """With its id, arguments, options of Python, input and exit code, and with the user's environment."""
    with subprocess.Popen(
        [sys.executable, "-B", cache.with_name("program.py"), "train", "a b", "--x=1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "CACHE": str(cache)},
        text=True,
    ) as process:
        out, _ = process.communicate("some text")
    assert out.splitlines() == [
        f"{process.pid} mimalloc ['train', 'a b', '--x=1'] some text []",
        "60000 1",
    ]
    assert process.returncode == 7


def test_only_commands_that_train_start_again(
    restarts: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["train", "-h"], ["translate", "runs/mine"], ["help", "train"], ["--version"], []):
        monkeypatch.setattr(sys, "argv", [sys.argv[0], *arguments])
        allocator.restart_with_mimalloc()
    assert not restarts
    for arguments in (["--debug", "train", "mine.yaml"], ["demo"], ["tune"]):
        monkeypatch.setattr(sys, "argv", [sys.argv[0], *arguments])
        allocator.restart_with_mimalloc()
    assert len(restarts) == 3


def test_a_program_that_python_read_from_stdin_is_not_started_again(
    restarts: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second Python would find nothing more to read, and end without a word."""
    for name in ("-", "-c", ""):
        monkeypatch.setattr(sys, "argv", [name, "train"])
        allocator.restart_with_mimalloc()
    assert not restarts


@pytest.mark.parametrize("name", ["SEQ2SEQ_ALLOCATOR", *allocator._VARIABLES])
def test_the_users_own_choice_counts(
    restarts: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "system")
    allocator.restart_with_mimalloc()
    assert not restarts
    assert name in allocator.choice().reason


def test_the_package_comes_first(cache: Path) -> None:
    """In the environment of this Python, where the wheel lays it down."""
    known = cache.parent / "lib" / "libmimalloc.so.2"
    assert allocator.choice() == (known, "")
    packaged = cache.parent / "packages" / "cmeel.prefix" / "lib" / "libmimalloc.so.3"
    packaged.parent.mkdir(parents=True)
    packaged.write_bytes(known.read_bytes())
    assert allocator.choice() == (packaged, "")


def test_a_limit_of_addresses_keeps_the_systems_allocator(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 33, 1 << 33))
    assert allocator.choice() == (None, "ulimit -v limits the address space")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(12) + b"\x03\x00" + bytes(90), None])
def test_only_a_library_for_this_processor_is_taken(cache: Path, content: bytes | None) -> None:
    """The linker's cache also lists libraries of 32 bits, and those of packages that have been removed."""
    library = cache.parent / "lib" / "libmimalloc.so.2"
    assert allocator.choice().library == library
    library.unlink() if content is None else library.write_bytes(content)
    assert allocator.choice().library is None
    assert "pip install" in allocator.choice().reason


def test_a_restart_that_the_system_refuses_is_none(
    restarts: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*call: Any) -> None:
        restarts.append(call[1:])
        raise OSError(7, "Argument list too long")

    monkeypatch.setattr(os, "execve", refuse)
    allocator.restart_with_mimalloc()
    assert len(restarts) == 1
    assert "MIMALLOC_PURGE_DELAY" not in os.environ
