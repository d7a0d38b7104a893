"""Compiling the loops, or loading what was compiled before; the search does without them where that fails.

numba keeps machine code in `__pycache__` beside Python's own, or in the user's cache where that cannot be written. To
load it takes 0.8 s, most of it numba itself, and to compile it the first time 8 to 20 s: worth it only for long texts,
and therefore asked for. A process that is forked afterwards has the loops as well.
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
    """The compiled loops; see `loops.py`, `products.py` and `transformer.py`."""

    attend: Callable[..., None]
    norm: Callable[..., None]
    fill: Callable[..., None]
    normalise: Callable[..., None]
    choose: Callable[..., None]
    product: Callable[..., None]
    encoder_layer: Callable[..., None]
    decoder_layer: Callable[..., None]


_SIGNATURES = {
    "attend": "void(i8, i8, i8, i8, i8, i8, UniTuple(i8, 5), i8, UniTuple(i8, 2))",
    "norm": "void(i8, i8, i8, i8, f4, i8, i8)",
    "fill": "void(i8[:,::1], i8[::1], i8[::1])",
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
"""What to tell who waits for it."""

_kernels: Kernels | None = None
_in_use: ContextVar[Kernels | None] = ContextVar("kernels", default=None)
_reason: str | None = None
"""Why there are none; nothing where there are, None before anybody has asked."""


def load(compiling: Callable[[], object] = lambda: None) -> str:
    """Have the loops from now on, if they can be had. Returns why not; nothing where they are there.

    `compiling` is called once where they are not kept from an earlier time.
    """
    global _kernels, _reason
    if _reason is None:
        # Whatever goes wrong in a library that compiles for a CPU that we have never seen: torch can do it all.
        try:
            _kernels, _reason = _somehow_compiled(compiling), ""
        except Exception as error:
            _reason = " ".join(f"{type(error).__name__}: {error}".split())
    return _reason


@contextmanager
def in_use() -> Iterator[None]:
    """Have what this thread computes within done by the loops, if this process has them.

    Nothing else may be: what a training computes must not depend on whether it has translated before.
    """
    token = _in_use.set(_kernels)
    try:
        yield
    finally:
        _in_use.reset(token)


def used() -> Kernels | None:
    """The loops, within `in_use`."""
    return _in_use.get()


def _somehow_compiled(compiling: Callable[[], object]) -> Kernels:
    tell = cache(compiling)  # at most once
    with suppress(Exception):
        return _compiled(tell, cached=True)
    with suppress(Exception):  # what is kept may be damaged
        return _compiled(tell, cached=True, anew=True)
    return _compiled(tell, cached=False)  # it can be kept nowhere


def _compiled(compiling: Callable[[], object], cached: bool, anew: bool = False) -> Kernels:
    from numba import config, njit

    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")

    from seq2seq.kernels import layers as transformer
    from seq2seq.kernels import loops, products, vectors

    sources = _sources()
    version = f"{sources}p{products.PANEL}"  # weights are kept in other panels on another CPU

    def compiled(name: str, signature: str) -> Any:
        plain = next(getattr(file, name) for file in (products, transformer, loops) if hasattr(file, name))
        function = FunctionType(plain.__code__, plain.__globals__, name)
        # numba keeps it by this name. It looks at a loop's own file for changes, and not at what the loop calls.
        function.__module__, function.__qualname__ = plain.__module__, f"{name}-{version}"
        made = njit(cache=cached, fastmath=vectors.CALCULUS, error_model="numpy")(function)
        mine: list[Path] = []
        if cached:
            folder = Path(made.stats.cache_path)
            _forget_others(folder, sources)
            mine = list(folder.glob(f"*.{name}-{version}-*.nb[ci]"))
        for file in mine if anew else []:
            file.unlink(missing_ok=True)
        if anew or not mine:
            compiling()
        made.compile(signature)
        made.disable_compile()
        return made

    return Kernels(**{name: compiled(name, signature) for name, signature in _SIGNATURES.items()})


def _sources() -> str:
    """A digest of all source files here."""
    digest = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _forget_others(folder: Path, sources: str) -> None:
    """Machine code that was made of other source files goes, for whatever CPU."""
    for file in folder.glob("*.nb[ci]"):
        if f"-{sources}p" not in file.name:
            with suppress(OSError):
                file.unlink()
