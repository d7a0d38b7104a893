"""Compilation of the loops with numba, or loading of their machine code; search uses torch if that fails.

numba keeps machine code as pickles, so they lie in a folder that is private to the user, and are hashed before they
are loaded: one flipped bit can end the process. Loading takes 0.8 s, most of it for numba itself, and compiling 10 to
25 s. This pays only for long texts, so it is done on demand. A process that is forked afterwards has the loops as well.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from seq2seq.atomic_files import write_json
from seq2seq.errors import UserError
from seq2seq.user_cache import private_folder, user_cache


class Kernels(NamedTuple):
    """The compiled loops; see `loops.py`, `products.py`, `int8_products.py` and `layers.py`."""

    attention: Callable[..., None]
    norm: Callable[..., None]
    listed_product: Callable[..., None]
    normalise: Callable[..., None]
    choose: Callable[..., None]
    product: Callable[..., None]
    encoder_layer: Callable[..., None]
    decoder_layer: Callable[..., None]
    int8_product: Callable[..., None] | None = None
    """None where the CPU has no instruction for it."""


_SIGNATURES = {
    "attention": "void(i8, i8, i8, i8, i8, i8, UniTuple(i8, 5), i8, UniTuple(i8, 2))",
    "norm": "void(i8, i8, i8, i8, f4, i8, i8)",
    "listed_product": "void(i8, i8, i8, i8, i8[:,::1], i8[::1], i8[::1], UniTuple(i8, 3))",
    "normalise": "void(f4[:,::1], f8[::1])",
    "choose": "void(f4[:,:,::1], f8[:,::1], f8[:,::1], i8[:,::1])",
    "product": "void(i8, i8, i8, i8, f4, i8, i8, i8)",
    "encoder_layer": "void(i8, i8, i8, UniTuple(i8, 12), i8, UniTuple(i8, 4), UniTuple(i8, 3), f4, b1, b1)",
    "decoder_layer": (
        "void(i8, i8, i8, UniTuple(i8, 18), UniTuple(i8, 3), UniTuple(i8, 3), UniTuple(i8, 4), UniTuple(i8, 4),"
        " UniTuple(i8, 5), f4, b1, b1)"
    ),
    "int8_product": "void(i8, i8, i8, i8, f4, i8, i8, i8)",
}

COMPILING = "compiling for this CPU: up to half a minute, once on a machine"
"""Message shown during compilation."""

_kernels: Kernels | None = None
_in_use: ContextVar[Kernels | None] = ContextVar("kernels", default=None)
_reason: str | None = None
"""Reason for missing loops: empty if they are loaded, None before `load`."""
_lock = threading.Lock()
"""Held by the thread that compiles: numba's settings are those of the process."""


def load(compiling: Callable[[], object] = lambda: None) -> str:
    """Load the loops, or compile them. Returns the reason of a failure, or an empty text.

    `compiling` is called once, before loops are compiled that have not been cached.
    """
    global _kernels, _reason
    with _lock:
        if _reason is None:
            # Any error, since numba may not support this CPU; torch can compute everything without it.
            try:
                _kernels, _reason = _load_or_compile(compiling), ""
            except Exception as error:
                _reason = _words(error)
        return _reason


def loaded() -> Kernels | None:
    """The loops, if `load` has found them."""
    return _kernels


def int8_fault() -> str | None:
    """Reason why this machine cannot multiply 8-bit integers in loops, for a message; None if it can."""
    try:
        from numba import config  # it takes long to import

        from seq2seq.kernels.int8_products import SUPPORTED
    except Exception as error:
        return f"int8 needs numba, which does not work here: {_words(error)}"
    if config.DISABLE_JIT:
        return "int8 needs loops that numba compiles, and NUMBA_DISABLE_JIT is set"
    return None if SUPPORTED else "this CPU has no instruction for products of 8-bit integers (VNNI)"


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def in_use(kernels: Kernels | None) -> Iterator[None]:
    """Context in which search uses these loops, in this thread only.

    Nothing else uses them: the results of training must not depend on earlier translations in the same process.
    """
    token = _in_use.set(kernels)
    try:
        yield
    finally:
        _in_use.reset(token)


def used() -> Kernels | None:
    """The loops given to `in_use`."""
    return _in_use.get()


def _load_or_compile(compiling: Callable[[], object]) -> Kernels:
    notify = cache(compiling)  # at most once
    with suppress(Exception):
        return _compiled(notify, private_folder(Path(os.environ.get("NUMBA_CACHE_DIR") or user_cache() / "kernels")))
    return _compiled(notify, None)  # no folder is private and writable


def _compiled(compiling: Callable[[], object], folder: Path | None) -> Kernels:
    """The loops, from machine code in `folder`, or compiled and written there."""
    from numba import config, njit

    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")

    from seq2seq.kernels import int8_products, layers, listed_products, loops, products, vectors

    sources = _sources()
    version = f"{sources}p{products.PANEL}"  # another CPU may have panels of another width

    def compiled(name: str, signature: str) -> Any:
        files = (int8_products, listed_products, products, layers, loops)
        plain = next(getattr(file, name) for file in files if hasattr(file, name))
        function = FunctionType(plain.__code__, plain.__globals__, name)
        # The name in numba's cache. numba checks a loop's own file for changes, but not the files of its callees.
        function.__module__, function.__qualname__ = plain.__module__, f"{name}-{version}"
        made = njit(cache=folder is not None, fastmath=vectors.CALCULUS, error_model="numpy")(function)
        if folder is None:
            compiling()
            made.compile(signature)
        else:
            code = _MachineCode(Path(made.stats.cache_path), f"{name}-{version}")
            _remove_outdated(code.folder, sources)
            if not code.are_sound():
                code.remove()
                compiling()
            made.compile(signature)
            code.record()
        made.disable_compile()
        return made

    # numba reads the setting when a function is decorated.
    before, config.CACHE_DIR = config.CACHE_DIR, "" if folder is None else str(folder)
    try:
        missing = () if int8_products.SUPPORTED else ("int8_product",)
        return Kernels(**{name: compiled(name, kind) for name, kind in _SIGNATURES.items() if name not in missing})
    finally:
        config.CACHE_DIR = before


class _MachineCode:
    """numba's files of one loop, and the record of their hashes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self._name = folder, name
        self._record = folder / f"{name}.json"

    def _hashes(self) -> dict[str, str]:
        files = self.folder.glob(f"*.{self._name}-*.nb[ci]")
        return {file.name: sha256(file.read_bytes()).hexdigest() for file in files}

    def _recorded(self) -> object:
        try:
            return json.loads(self._record.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def are_sound(self) -> bool:
        """Whether there are files, and all are as they were written."""
        hashes = self._hashes()
        return bool(hashes) and hashes == self._recorded()

    def remove(self) -> None:
        """Remove the files: numba would load them."""
        for name in self._hashes():
            (self.folder / name).unlink(missing_ok=True)

    def record(self) -> None:
        """Record the hashes; numba has compiled again if another CPU or numba wrote the files."""
        hashes = self._hashes()
        if hashes != self._recorded():
            with suppress(UserError):  # a full disk
                write_json(self._record, hashes)


def _sources() -> str:
    """A digest of all source files in this folder."""
    digest = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _remove_outdated(folder: Path, sources: str) -> None:
    """Remove machine code of other source files, for any CPU, and its records."""
    for file in [*folder.glob("*.nb[ci]"), *folder.glob("*.json")]:
        if f"-{sources}p" not in file.name:
            with suppress(OSError):
                file.unlink()
