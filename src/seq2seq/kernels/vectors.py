"""Vector operations of the loops: powers of two, and sums of products over rows of a table.

LLVM vectorises long loops by itself, but unrolls loops over the 16 to 64 numbers of an attention head into scalar code,
seven times as slow: these are generated as vector code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from seq2seq.kernels import LANES

CALCULUS = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be regrouped. NaN and infinity stay what they are."""


def _powers(degree: int) -> tuple[np.float32, ...]:
    """Coefficients of a polynomial that approximates 2^x for |x| <= 1/2, within 4e-9 for degree 6."""
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64) / 2
    fitted = np.polynomial.chebyshev.Chebyshev.fit(nodes, 2.0**nodes, degree, domain=[-0.5, 0.5])
    return tuple(np.float32(part) for part in fitted.convert(kind=np.polynomial.Polynomial).coef)


_C0, _C1, _C2, _C3, _C4, _C5, _C6 = _powers(6)
_LEAST = np.float32(-126)
_ROUNDING = np.float32(1.5 * 2**23)
"""Added to a small number, it leaves no bit for a fraction; the lowest bits of the sum are the rounded number."""
_BITS = np.int32(_ROUNDING.view(np.int32) - 127)
"""Less these bits, that sum is the exponent of a power of two."""


@njit(fastmath={"contract"})  # regrouping would lose the fraction of a large number
def exp2(x, factor, offset):  # type: ignore[no-untyped-def]
    """2^(factor * x - offset) in fp32, for exponents up to 0; no result is below the smallest normal number."""
    x = factor * x - offset
    x = _LEAST if x < _LEAST else x  # so written, NaN stays
    rounded = np.float32(x + _ROUNDING)
    part = x - (rounded - _ROUNDING)
    power = (((((_C6 * part + _C5) * part + _C4) * part + _C3) * part + _C2) * part + _C1) * part + _C0
    return power * np.int32((rounded.view(np.int32) - _BITS) << 23).view(np.float32)


FLOAT, INTEGER = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
_FLAGS = ("reassoc", "contract")
BYTES = LANES * 4
_Builder = Any


@njit
def floats(address: Any, shape: Any) -> Any:
    """The array of fp32 numbers at this address, C-contiguous."""
    return carray(_pointer(address), shape)


@intrinsic
def _pointer(_: Any, address: Any) -> Any:
    def generate(_: Any, build: _Builder, __: Any, arguments: Any) -> Any:
        return build.inttoptr(arguments[0], FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.intp), generate


@intrinsic
def copy(_: Any, out: Any, begin: Any, size: Any) -> Any:
    """`size` bytes from the address `begin` to the address `out`."""

    def generate(_: Any, build: _Builder, __: Any, arguments: Any) -> Any:
        out, begin = (build.inttoptr(address, ir.IntType(8).as_pointer()) for address in arguments[:2])
        cgutils.raw_memcpy(build, out, begin, arguments[2], 1)

    return types.void(*[types.intp] * 3), generate


@intrinsic
def row_products(_: Any, out: Any, vector: Any, rows: Any, places: Any, count: Any, size: Any, ahead: Any) -> Any:
    """out[i] = vector . rows[places[i]] for i < count.

    All are addresses: of fp32 numbers, of rows of `size` of them (a multiple of `LANES`), of 64-bit integers. The bytes
    `ahead` of the rows are prefetched into the cache, where the next call finds them.
    """

    def generate(_: Any, build: _Builder, __: Any, arguments: Any) -> Any:
        out, vector, rows, places, count, size, ahead = arguments
        pitch = build.mul(size, INTEGER(4))
        total = cgutils.alloca_once(build, VECTOR)
        with cgutils.for_range(build, count, intp=INTEGER) as loop:
            row = listed_row(build, rows, places, loop.index, pitch)
            build.store(splat(0.0), total)
            with cgutils.for_range_slice(build, INTEGER(0), pitch, INTEGER(BYTES), inc=True) as (offset, _):
                fetch(build, build.add(row, offset), ahead)
                product = build.fmul(load(build, vector, offset), load(build, row, offset), flags=_FLAGS)
                build.store(build.fadd(build.load(total), product, flags=_FLAGS), total)
            build.store(vector_sum(build, build.load(total)), at(build, out, build.mul(loop.index, INTEGER(4)), FLOAT))

    return types.void(*[types.intp] * 7), generate


@intrinsic
def row_mixture(
    _: Any, out: Any, weights: Any, rows: Any, places: Any, count: Any, size: Any, ahead: Any, factor: Any
) -> Any:
    """out = factor * the sum over i < count of weights[i] * rows[places[i]]; addresses as in `row_products`."""

    def generate(_: Any, build: _Builder, __: Any, arguments: Any) -> Any:
        out, weights, rows, places, count, size, ahead, factor = arguments
        pitch = build.mul(size, INTEGER(4))
        totals = [cgutils.alloca_once(build, VECTOR) for _ in range(2)]  # independent sums, which run in parallel
        whole = build.and_(count, INTEGER(-2))
        with cgutils.for_range_slice(build, INTEGER(0), pitch, INTEGER(BYTES), inc=True) as (offset, _):

            def add(place: Any, total: Any, offset: Any = offset) -> None:
                row = listed_row(build, rows, places, place, pitch)
                fetch(build, build.add(row, offset), ahead)
                weight = spread(build, load(build, weights, build.mul(place, INTEGER(4)), FLOAT))
                product = build.fmul(weight, load(build, row, offset), flags=_FLAGS)
                build.store(build.fadd(build.load(total), product, flags=_FLAGS), total)

            for total in totals:
                build.store(splat(0.0), total)
            with cgutils.for_range_slice(build, INTEGER(0), whole, INTEGER(2), inc=True) as (place, _):
                add(place, totals[0])
                add(build.add(place, INTEGER(1)), totals[1])
            with build.if_then(build.icmp_signed("<", whole, count)):
                add(whole, totals[0])
            mixture = build.fadd(build.load(totals[0]), build.load(totals[1]), flags=_FLAGS)
            build.store(build.fmul(mixture, spread(build, factor)), at(build, out, offset)).align = 4

    return types.void(*[types.intp] * 7, types.float32), generate


def splat(number: float) -> Any:
    return ir.Constant(VECTOR, [number] * LANES)


def spread(build: _Builder, number: Any) -> Any:
    """The number in every lane."""
    nothing = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = build.insert_element(nothing, number, ir.IntType(32)(0))
    return build.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def vector_sum(build: _Builder, vector: Any) -> Any:
    """The sum of all lanes."""
    kind = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
    add = cgutils.get_or_insert_function(build.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
    return build.call(add, [FLOAT(0.0), vector], fastmath=("reassoc",))


def at(build: _Builder, address: Any, offset: Any, kind: Any = VECTOR) -> Any:
    """Pointer `offset` bytes behind `address`."""
    return build.inttoptr(build.add(address, offset), kind.as_pointer())


def load(build: _Builder, address: Any, offset: Any, kind: Any = VECTOR) -> Any:
    return build.load(at(build, address, offset, kind), align=8 if kind is INTEGER else 4)


NEAR, FAR = 3, 2
"""Caches to prefetch into: the first one, or the one behind it."""


def fetch(build: _Builder, address: Any, ahead: Any, cache: int = NEAR) -> None:
    kind, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    fetch = cgutils.get_or_insert_function(
        build.module, ir.FunctionType(ir.VoidType(), [kind, number, number, number]), "llvm.prefetch.p0"
    )
    build.call(fetch, [build.inttoptr(build.add(address, ahead), kind), number(0), number(cache), number(1)])


def listed_row(build: _Builder, rows: Any, places: Any, index: Any, pitch: Any) -> Any:
    """Address of rows[places[index]]."""
    place = load(build, places, build.mul(index, INTEGER(8)), INTEGER)
    return build.add(rows, build.mul(place, pitch))
