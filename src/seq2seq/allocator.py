"""Keep freed memory in the process, in huge pages where the system has them.

glibc hands large blocks back to the system when they are freed, and every training step then pays for fresh, zeroed
pages: a fifth of the step's time. `scripts/bench/RESULTS.md` has the figures.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 1 << 21
_HEAP = 1 << 32


def keep_freed_memory() -> bool:
    """Tell glibc never to give memory back; False on systems with another C library."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    try:
        mallopt = library.mallopt
    except AttributeError:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    kept = all(mallopt(name, value) == 1 for name, value in settings)
    _ask_for_huge_pages(library)
    return kept


def _ask_for_huge_pages(library: ctypes.CDLL) -> None:
    """Mark the addresses that the heap will grow into, so that a fault brings 2 MiB and not 4 KiB.

    Nothing is taken: the block is freed at once, and its pages come when they are first written.
    """
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(_HEAP)
    if block:
        start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        library.madvise(start, _HEAP - _HUGE_PAGE, _MADV_HUGEPAGE)
        library.free(block)
