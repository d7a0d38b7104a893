"""Compilation of the loops with numba, or loading of their machine code; search uses torch if that fails.

numba keeps machine code in `__pycache__` beside Python's own, or in the user's cache if that is not writable. Loading
takes 0.8 s, most of it for numba itself, and compiling 8 to 20 s. This pays only for long texts, so it is done on
demand. A process that is forked afterwards has the loops as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple


class Kernels(NamedTuple):
    """The compiled loops; see `loops.py`, `products.py` and `layers.py`."""

    attention: Callable[..., None]
    norm: Callable[..., None]
    normalise: Callable[..., None]
    choose: Callable[..., None]
    product: Callable[..., None]
    encoder_layer: Callable[..., None]
    decoder_layer: Callable[..., None]


_SIGNATURES = {
    "attention": "void(i8, i8, i8, i8, i8, i8, UniTuple(i8, 5), i8, UniTuple(i8, 2))",
    "norm": "void(i8, i8, i8, i8, f4, i8, i8)",
    "normalise": "void(f4[:,::1], f8[::1])",
    "choose": "void(f4[:,:,::1], f8[:,::1], f8[:,::1], i8[:,::1])",
    "product": "void(i8, i8, i8, i8, f4, i8, i8, i8)",
    "encoder_layer": "void(i8, i8, i8, UniTuple(i8, 12), i8, UniTuple(i8, 4), UniTuple(i8, 3), f4, b1)",
    "decoder_layer": (
        "void(i8, i8, i8, UniTuple(i8, 18), UniTuple(i8, 3), UniTuple(i8, 3), UniTuple(i8, 4), UniTuple(i8, 4),"
        " UniTuple(i8, 5), f4, b1)"
    ),
}

COMPILING = "compiling for this CPU: up to half a minute, once on a machine"
"""Message shown during compilation."""

_kernels: Kernels | None = None
_in_use: ContextVar[Kernels | None] = ContextVar("kernels", default=None)
_reason: str | None = None
"""Reason for missing loops: empty if they are loaded, None before `load`."""


def load(compiling: Callable[[], object] = lambda: None) -> str:
    """Load the loops, or compile them. Returns the reason of a failure, or an empty text.

    `compiling` is called once, before loops are compiled that have not been cached.
    """
    global _kernels, _reason
    if _reason is None:
        # Any error, since numba may not support this CPU; torch can compute everything without it.
        try:
            _kernels, _reason = _load_or_compile(compiling), ""
        except Exception as error:
            _reason = " ".join(f"{type(error).__name__}: {error}".split())
    return _reason


def loaded() -> Kernels | None:
    """The loops, if `load` has found them."""
    return _kernels


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
        return _compiled(notify, cached=True)
    with suppress(Exception):  # the cached machine code may be damaged
        return _compiled(notify, cached=True, renew=True)
    return _compiled(notify, cached=False)  # no folder is writable


def _compiled(compiling: Callable[[], object], cached: bool, renew: bool = False) -> Kernels:
    from numba import config, njit

    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")

    from seq2seq.kernels import layers, loops, products, vectors

    sources = _sources()
    version = f"{sources}p{products.PANEL}"  # another CPU may have panels of another width

    def compiled(name: str, signature: str) -> Any:
        plain = next(getattr(file, name) for file in (products, layers, loops) if hasattr(file, name))
        function = FunctionType(plain.__code__, plain.__globals__, name)
        # The name in numba's cache. numba checks a loop's own file for changes, but not the files of its callees.
        function.__module__, function.__qualname__ = plain.__module__, f"{name}-{version}"
        made = njit(cache=cached, fastmath=vectors.CALCULUS, error_model="numpy")(function)
        files: list[Path] = []
        if cached:
            folder = Path(made.stats.cache_path)
            _remove_outdated(folder, sources)
            files = list(folder.glob(f"*.{name}-{version}-*.nb[ci]"))
        for file in files if renew else []:
            file.unlink(missing_ok=True)
        if renew or not files:
            compiling()
        made.compile(signature)
        made.disable_compile()
        return made

    return Kernels(**{name: compiled(name, signature) for name, signature in _SIGNATURES.items()})


def _sources() -> str:
    """A digest of all source files in this folder."""
    digest = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _remove_outdated(folder: Path, sources: str) -> None:
    """Remove machine code of other source files, for any CPU."""
    for file in folder.glob("*.nb[ci]"):
        if f"-{sources}p" not in file.name:
            with suppress(OSError):
                file.unlink()
