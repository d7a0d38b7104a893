"""Compiling the loops, or loading what was compiled before; the search does without them where that fails.

numba keeps machine code beside the module, or in the user's cache where that folder cannot be written. To load it takes
0.4 s, most of it numba itself, and to compile it the first time some seconds: worth it only for long texts, and
therefore asked for. A process that is forked afterwards has the loops as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple


class Kernels(NamedTuple):
    """The compiled loops; see `loops.py`."""

    attend: Callable[..., None]
    normalise: Callable[..., None]
    choose: Callable[..., None]


_ATTEND = "void(f4[:,:,:,:,::1], f4[:,:,:,::1], f4[:,:,:,::1], i8, f4[:,:,::1], f4[:,:,:,::1])"
_NORMALISE = "void(f4[:,::1], f8[::1])"
_CHOOSE = "void(f4[:,:,::1], f8[:,::1], f8[:,::1], i8[:,::1])"

_kernels: Kernels | None = None
_reason = "not asked for yet"


def load() -> None:
    """Have the loops from now on, if they can be had; `missing` tells why not."""
    global _kernels, _reason
    if _kernels is not None or _reason != "not asked for yet":
        return
    # Whatever goes wrong, in a library that compiles for a CPU that we have never seen: torch does it all as well.
    try:
        try:
            _kernels = _compiled(cached=True)
        except (OSError, RuntimeError):  # nowhere to keep machine code
            _kernels = _compiled(cached=False)
        _reason = ""
    except Exception as error:
        _reason = " ".join(f"{type(error).__name__}: {error}".split())
        logging.getLogger(__name__).debug("no compiled loops: %s", _reason)


def loaded() -> Kernels | None:
    """The loops, if this process has them."""
    return _kernels


def missing() -> str:
    """Why there are none; nothing where there are."""
    return _reason


def _compiled(cached: bool) -> Kernels:
    from numba import njit

    from seq2seq.kernels import loops, vectors

    def compiled(signature: str, function: Callable[..., None]) -> Any:
        return njit(signature, cache=cached, fastmath=vectors.CALCULUS, error_model="numpy")(function)

    return Kernels(
        compiled(_ATTEND, loops.attend), compiled(_NORMALISE, loops.normalise), compiled(_CHOOSE, loops.choose)
    )
