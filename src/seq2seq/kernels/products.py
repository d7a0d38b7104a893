"""Products with packed weights, in tiles that stay in registers (Goto and van de Geijn 2008).

Starting oneDNN from torch takes longer (15 us) than most of these products in one step of a search.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from seq2seq.kernels import LANES
from seq2seq.kernels.vectors import BYTES, FAR, FLOAT, INTEGER, VECTOR, at, copy, fetch, load, spread


def _features() -> set[str]:
    """Features of the CPU that numba compiles for: this one, or the one that the user has set for numba."""
    if config.CPU_FEATURES is not None:
        words = config.CPU_FEATURES.split(",")
        return {word[1:] for word in words if word.startswith("+")}
    try:
        return {name for name, there in binding.get_host_cpu_features().items() if there}
    except RuntimeError:  # unknown for this kind of CPU
        return set()


FEATURES = _features()

FUSED = "fma" in FEATURES or platform.machine().lower() not in ("x86_64", "amd64", "i686")
"""Whether this CPU has fused multiply-add; without it an x86 CPU would call a function for every number."""

ROWS = 6
VECTORS = 4 if "avx512f" in FEATURES else 1
"""Rows of a tile, and vectors in each row. Its 24 vectors leave 8 of AVX-512's 32 registers to the factors; its 12 (of
8 numbers, two for each of `LANES`) leave 4 of AVX's 16."""

PANEL = VECTORS * LANES
"""Columns of a tile: weights are packed in panels [K `PANEL`] of this many outputs."""


def product(
    out: int,  # fp32 [R M]
    x: int,  # fp32 [R K]
    panels: int,  # fp32 [M / PANEL, rounded up, K PANEL]
    bias: int,  # fp32 [M, rounded up]
    least: float,
    rows: int,
    inner: int,
    columns: int,
) -> None:
    """out = max(x weight^T + bias, least), where `least` is 0 for relu and -inf for the product itself.

    Tensors are given by address: passing arrays would take longer than multiplying them.
    """
    spare = np.empty(ROWS * PANEL, np.float32)
    for begin in range(0, columns, PANEL):
        panel, end = panels + begin * inner * 4, bias + begin * 4
        for row in range(0, rows, ROWS):
            count, given = min(rows - row, ROWS), x + row * inner * 4
            ahead = share_of_next(panel, row, rows, inner, columns - begin)
            if columns - begin >= PANEL:
                _tile(out + (row * columns + begin) * 4, columns, given, panel, end, least, inner, ahead, count)
                continue
            _tile(spare.ctypes.data, PANEL, given, panel, end, least, inner, ahead, count)
            for i in range(count):
                copy(out + ((row + i) * columns + begin) * 4, spare.ctypes.data + i * PANEL * 4, (columns - begin) * 4)


@njit
def share_of_next(panel: Any, row: Any, rows: Any, steps: Any, left: Any) -> Any:
    """Address of the vectors that the tile of this row prefetches, one at each of its `steps`.

    The tiles of a panel share the next one, whose first tile would otherwise wait for the memory, where all weights do
    not fit into a core's own cache. Tiles without a share, those of the last panel, and a tile that is alone name the
    start of their own panel, which is in the cache already. `left` is the number of columns from this panel on.
    """
    share = row // ROWS
    return panel + (VECTORS + share) * steps * BYTES if share < VECTORS and rows > ROWS and left > PANEL else panel


@intrinsic
def _tile(
    _: Any, out: Any, pitch: Any, x: Any, panel: Any, bias: Any, least: Any, inner: Any, ahead: Any, count: Any
) -> Any:
    """`PANEL` outputs of `count` rows, at most `ROWS`; rows of `out` are `pitch` numbers apart. The `inner` vectors
    from `ahead` on are prefetched."""

    def rows(build: Any, number: int, arguments: Sequence[Any]) -> None:
        out, pitch, x, panel, bias, least, inner, ahead, _ = arguments
        store_rows(build, _sums(build, number, x, panel, bias, inner, ahead), out, pitch, least)

    def generate(_: Any, build: Any, __: Any, arguments: Any) -> Any:
        call_tile(build, "seq2seq.tile", arguments, rows)

    return types.void(*[types.intp] * 5, types.float32, *[types.intp] * 3), generate


def call_tile(build: Any, name: str, arguments: Sequence[Any], rows: Callable[[Any, int, Sequence[Any]], None]) -> None:
    """Generate a call of the tile `name`, whose last argument is its number of rows, up to `ROWS`.

    The tile is a function of its own, as LLVM would copy the code for every number of rows to every product of a
    layer, and compile for twice as long.
    """
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    tile = cgutils.get_or_insert_function(build.module, kind, name)
    if tile.is_declaration:
        tile.linkage = "linkonce_odr"
        tile.attributes.add("noinline")
        inner = ir.IRBuilder(tile.append_basic_block())
        after = inner.append_basic_block()
        choice = inner.switch(tile.args[-1], after)
        for number in range(1, ROWS + 1):
            block = inner.append_basic_block()
            choice.add_case(INTEGER(number), block)
            inner.position_at_end(block)
            rows(inner, number, tile.args)
            inner.branch(after)
        inner.position_at_end(after)
        inner.ret_void()
    build.call(tile, arguments)


def store_rows(build: Any, values: Sequence[Sequence[Any]], out: Any, pitch: Any, least: Any) -> None:
    """Generate the code that writes the vectors of each row of a tile, or `least` where they are less."""
    down, floor = build.mul(pitch, INTEGER(4)), spread(build, least)
    for number, row in enumerate(values):
        row_at = build.add(out, build.mul(down, INTEGER(number)))
        for vector, value in enumerate(row):
            most = build.select(build.fcmp_ordered("<", value, floor), floor, value)  # so written, NaN stays
            build.store(most, at(build, row_at, INTEGER(vector * LANES * 4))).align = 4


def _sums(build: Any, rows: int, x: Any, panel: Any, bias: Any, inner: Any, ahead: Any) -> list[list[Any]]:
    """Generate the sums of a tile with this number of rows."""
    steps = [INTEGER(vector * LANES * 4) for vector in range(VECTORS)]
    totals = [[cgutils.alloca_once(build, VECTOR) for _ in steps] for _ in range(rows)]
    begins = [load(build, bias, step) for step in steps]
    for row in totals:
        for total, begin in zip(row, begins, strict=True):
            build.store(begin, total)
    fused = cgutils.get_or_insert_function(build.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
    wide = build.mul(inner, INTEGER(4))
    with cgutils.for_range(build, inner, intp=INTEGER) as loop:
        fetch(build, ahead, build.mul(loop.index, INTEGER(BYTES)), FAR)
        weights_at = build.add(panel, build.mul(loop.index, INTEGER(PANEL * 4)))
        weights = [load(build, weights_at, step) for step in steps]
        x_at = build.add(x, build.mul(loop.index, INTEGER(4)))
        for number, row in enumerate(totals):
            factor = spread(build, load(build, x_at, build.mul(wide, INTEGER(number)), FLOAT))
            for total, weight in zip(row, weights, strict=True):
                build.store(build.call(fused, [factor, weight, build.load(total)]), total)
    return [[build.load(total) for total in row] for row in totals]
