"""Products with packed weights in 8-bit integers: sums are exact, so a row has the same bits in every batch.

Inputs are rounded to 8 bits row by row as they come, weights once, output by output (Wu et al. 2016, section 6;
Bhandare et al. 2019). x weight^T is the sum of integer products times both scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from seq2seq.kernels import LANES
from seq2seq.kernels.products import FEATURES, PANEL, ROWS, VECTORS, call_tile, share_of_next, store_rows
from seq2seq.kernels.vectors import BYTES, CALCULUS, FAR, FLOAT, INTEGER, VECTOR, copy, fetch, floats, load, spread

_BITS = 512 if {"avx512f", "avx512vnni"} <= FEATURES else 256 if "avxvnni" in FEATURES else 0

SUPPORTED = _BITS > 0
"""True where one instruction of the CPU multiplies four pairs of bytes and adds them to 32 bits (VNNI)."""

GROUP = 4
"""Inputs whose products one such addition takes."""

LARGEST = 127
"""Largest magnitude of a rounded number."""

SHIFT = 128
"""Offset of rounded inputs, as the instruction multiplies unsigned with signed bytes."""

_FLAGS = ("contract",)
_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)
_HALF, _ZERO, _LEAST = np.float32(0.5), np.float32(0), np.float32(1e-36)
_MAGNITUDE, _INFINITY = np.int32(0x7FFFFFFF), np.int32(0x7F800000)


def int8_product(
    out: int,  # fp32 [R M]
    x: int,  # fp32 [R K]
    panels: int,  # int8 [M / PANEL, rounded up, K / GROUP, rounded up, PANEL, GROUP]
    ends: int,  # [3, M, rounded up]: scale and bias in fp32, sums to begin with in int32
    least: float,
    rows: int,
    inner: int,
    columns: int,
) -> None:
    """`products.product` in integers."""
    groups = (inner + GROUP - 1) // GROUP
    whole = (columns + PANEL - 1) // PANEL * PANEL
    rounded = np.empty((rows, groups * GROUP), np.uint8)
    scales = np.empty(rows, np.float32)
    _round(rounded, scales, x, rows, inner)
    pitch = groups * 4
    spare = np.empty(ROWS * PANEL, np.float32)
    for begin in range(0, columns, PANEL):
        panel, end = panels + begin * pitch, ends + begin * 4
        for row in range(0, rows, ROWS):
            count = min(rows - row, ROWS)
            given, scale = rounded.ctypes.data + row * pitch, scales.ctypes.data + row * 4
            ahead = share_of_next(panel, row, rows, groups, columns - begin)
            if columns - begin >= PANEL:
                here = out + (row * columns + begin) * 4
                _tile(here, columns, given, scale, panel, end, whole, least, groups, ahead, count)
                continue
            _tile(spare.ctypes.data, PANEL, given, scale, panel, end, whole, least, groups, ahead, count)
            for i in range(count):
                copy(out + ((row + i) * columns + begin) * 4, spare.ctypes.data + i * PANEL * 4, (columns - begin) * 4)


@njit(fastmath=CALCULUS)
def _round(rounded: Any, scales: Any, x_at: Any, rows: Any, inner: Any) -> None:
    """Round every row to -127 ... 127 times a scale of its own, which is NaN where the row holds NaN or infinity."""
    x = floats(x_at, (rows, inner))
    bits = x.view(np.int32)
    for row in range(rows):
        top = 0
        for i in range(inner):  # without their signs, numbers are in the order of their bits: a loop for vectors
            top = max(top, bits[row, i] & _MAGNITUDE)
        largest = np.int32(top).view(np.float32) if top < _INFINITY else _ZERO
        scales[row] = largest / np.float32(LARGEST) if top < _INFINITY else np.float32(np.nan)
        factor = np.float32(LARGEST) / largest if largest > _LEAST else _ZERO  # finite
        if top < _INFINITY:
            here = rounded[row]
            for i in range(inner):
                here[i] = np.int32(np.floor(x[row, i] * factor + _HALF)) + SHIFT
            for i in range(inner, len(here)):
                here[i] = SHIFT


@intrinsic
def _tile(
    _: Any,
    out: Any,
    pitch: Any,
    x: Any,
    scales: Any,
    panel: Any,
    ends: Any,
    whole: Any,
    least: Any,
    groups: Any,
    ahead: Any,
    count: Any,
) -> Any:
    """`PANEL` outputs of `count` rows; see `products._tile`."""

    def rows(build: Any, number: int, arguments: Sequence[Any]) -> None:
        out, pitch, x, scales, panel, ends, whole, least, groups, ahead, _ = arguments
        end = build.mul(whole, INTEGER(4))
        steps = [INTEGER(vector * LANES * 4) for vector in range(VECTORS)]
        factors = [load(build, ends, step) for step in steps]
        biases = [load(build, build.add(ends, end), step) for step in steps]
        values = []
        begins = build.add(ends, build.add(end, end))
        for row, sums in enumerate(_sums(build, number, x, panel, begins, groups, ahead)):
            scale = spread(build, load(build, scales, INTEGER(row * 4), FLOAT))
            scaled = [build.fmul(scale, factor, flags=_FLAGS) for factor in factors]
            products = [
                build.fmul(build.sitofp(total, VECTOR), by, flags=_FLAGS)
                for total, by in zip(sums, scaled, strict=True)
            ]
            values.append([build.fadd(one, bias, flags=_FLAGS) for one, bias in zip(products, biases, strict=True)])
        store_rows(build, values, out, pitch, least)

    def generate(_: Any, build: Any, __: Any, arguments: Any) -> Any:
        call_tile(build, "seq2seq.int8_tile", arguments, rows)

    return types.void(*[types.intp] * 7, types.float32, *[types.intp] * 3), generate


def _sums(build: Any, rows: int, x: Any, panel: Any, begins: Any, groups: Any, ahead: Any) -> list[list[Any]]:
    """Generate the integer sums of a tile."""
    steps = [INTEGER(vector * LANES * 4) for vector in range(VECTORS)]
    totals = [[cgutils.alloca_once(build, _WORDS) for _ in steps] for _ in range(rows)]
    for row in totals:
        for total, step in zip(row, steps, strict=True):
            build.store(load(build, begins, step, _WORDS), total)
    with cgutils.for_range(build, groups, intp=INTEGER) as loop:
        fetch(build, ahead, build.mul(loop.index, INTEGER(BYTES)), FAR)
        offset = build.mul(loop.index, INTEGER(PANEL * 4))
        weights = [load(build, panel, build.add(offset, step), _WORDS) for step in steps]
        x_at = build.add(x, build.mul(loop.index, INTEGER(4)))
        for number, row in enumerate(totals):
            step = build.mul(groups, INTEGER(4 * number))
            factor = spread(build, load(build, x_at, step, _WORD))
            for total, weight in zip(row, weights, strict=True):
                build.store(_add_products(build, build.load(total), factor, weight), total)
    return [[build.load(total) for total in row] for row in totals]


def _add_products(build: Any, total: Any, x: Any, weight: Any) -> Any:
    """total + the products of the `GROUP` numbers in each lane."""
    if _BITS == 512:
        return _vnni(build, total, x, weight)
    halves = [ir.Constant(ir.VectorType(_WORD, LANES // 2), list(range(i, i + LANES // 2))) for i in (0, LANES // 2)]
    low, high = (
        _vnni(build, *(build.shuffle_vector(part, part, half) for part in (total, x, weight))) for half in halves
    )
    return build.shuffle_vector(low, high, ir.Constant(ir.VectorType(_WORD, LANES), list(range(LANES))))


def _vnni(build: Any, total: Any, x: Any, weight: Any) -> Any:
    kind = ir.FunctionType(total.type, [total.type] * 3)
    add = cgutils.get_or_insert_function(build.module, kind, f"llvm.x86.avx512.vpdpbusd.{_BITS}")
    return build.call(add, [total, x, weight])
