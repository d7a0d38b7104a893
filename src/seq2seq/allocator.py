"""mimalloc for training, where it is installed: a third of the memory of a long run, at the same speed.

The tensors of a step are as long as its longest sentence, so that no two steps ask for the same blocks. glibc, told to
keep freed memory (`system.keep_freed_memory`), fits them badly into what it has, and its heap grows for thousands of
steps; mimalloc sorts blocks by size. A library must be preloaded to allocate everything, so the command starts again in
the same process. `scripts/bench/RESULTS.md` has the figures.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seq2seq.system import address_space_left

_COMMANDS = ("train", "tune", "demo")

_OFF = "SEQ2SEQ_ALLOCATOR"
"""Variable of the user: `system` leaves the system's allocator."""
_RESTARTED = "_SEQ2SEQ_RESTARTED"
"""Variable of a process that has been started again."""

_LINKER_CACHE = Path("/etc/ld.so.cache")


_LIBRARIES = ("libmimalloc.so.3", "libmimalloc.so.2")
_SETTINGS = "MIMALLOC_PURGE_DELAY"
_DELAY = "60000"
"""Milliseconds that freed memory stays with the process. Blocks of some sizes are used once in many steps: given back
at once or after two seconds, a sixth of the time went into new pages on machines where those are slow."""
_VARIABLES = ("LD_PRELOAD", _SETTINGS)


class AllocatorChoice(NamedTuple):
    """The library for training, or the reason for the system's allocator."""

    library: Path | None
    reason: str = ""


def restart_with_mimalloc() -> None:
    """Start a command that trains again with mimalloc: the process, its arguments, streams and signals stay the same.

    Does nothing for other commands, in a process that is not a command line of Python, or without the library.
    """
    if os.environ.pop(_RESTARTED, None):
        # Programs that this one starts, such as that of --notify, have the user's environment.
        for name in _VARIABLES:
            os.environ.pop(name, None)
        return
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    trains = arguments[:1] and arguments[0] in _COMMANDS and not {"-h", "--help"} & set(arguments)
    # Python has read the program itself from stdin, or has it in memory: it could not start the same again.
    if not trains or not sys.executable or not Path(sys.argv[0]).is_file():
        return
    if library := choice().library:
        settings = {_RESTARTED: "1", "LD_PRELOAD": str(library), _SETTINGS: _DELAY}
        with suppress(OSError):  # the system's allocator will do
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **settings})


def choice() -> AllocatorChoice:
    """The allocator that a training on this machine would have."""
    if os.environ.get(_OFF) == "system":
        return AllocatorChoice(None, f"{_OFF}=system")
    if given := next((name for name in _VARIABLES if os.environ.get(name)), None):
        return AllocatorChoice(None, f"{given} is set")
    # Builds for ARM end at once on a kernel with pages of another size.
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return AllocatorChoice(None, "not tried on this system")
    if address_space_left() is not None:
        return AllocatorChoice(None, "ulimit -v limits the address space")
    library = next(filter(_suits, _places()), None)
    return AllocatorChoice(
        library, "" if library else "long trainings take a third of the memory with pip install cmeel-mimalloc"
    )


def loaded() -> str:
    """The allocator that was preloaded into this process, e.g. jemalloc; empty if it is the system's."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((name for name in ("jemalloc", "mimalloc", "tcmalloc") if f"/lib{name}" in maps), "")


def _places() -> Iterator[Path]:
    """Paths of the library: in the environment of this Python, and as the dynamic linker knows it."""
    import sysconfig  # only commands that train look for the library

    packages = Path(sysconfig.get_path("purelib"))
    for name in _LIBRARIES:
        yield packages / "cmeel.prefix" / "lib" / name  # wheels of C++ libraries share this folder
        yield Path(sys.prefix) / "lib" / name
        with suppress(OSError):
            for path in re.findall(rb"/[^\0]*/" + re.escape(name.encode()), _LINKER_CACHE.read_bytes()):
                yield Path(os.fsdecode(path))


def _suits(library: Path) -> bool:
    """Whether a library has machine code for this Python, and a path that the linker does not take for two."""
    return not re.search(r"[ :]", str(library)) and _kind(library) == _kind(_OWN)


_OWN = Path("/proc/self/exe")


def _kind(path: Path) -> bytes | None:
    """Word size and processor of machine code, from its ELF header; None for anything else."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return None
    return header[4:6] + header[18:20] if header[:4] == b"\x7fELF" and len(header) == 20 else None
