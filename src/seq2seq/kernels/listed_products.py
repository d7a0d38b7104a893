"""Products with those rows of a weight matrix that a list names, without copies of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seq2seq.kernels.products import ROWS, VECTORS, call_tile
from seq2seq.kernels.vectors import (
    BYTES,
    FLOAT,
    INTEGER,
    VECTOR,
    at,
    fetch,
    floats,
    listed_row,
    load,
    splat,
    vector_sum,
)

_SUMS = 12 if VECTORS > 1 else 6
"""Sums of a tile, which run in parallel: half of the registers for vectors of `LANES` numbers."""

_LISTED = (4, 2, 1)
"""Listed rows that a tile may have at a time."""

_AHEAD = 8
"""Listed rows by which the cache is filled in advance: they lie apart, and the CPU cannot guess the next one."""

_FLAGS = ("reassoc", "contract")


def listed_product(
    out_at: int,  # fp32 [N W M]
    x_at: int,  # fp32 [N W D]
    weight_at: int,  # fp32 [V D]
    bias_at: int,  # fp32 [V], or 0
    tokens: Any,  # int64 [L M], M a multiple of 4
    counts: Any,  # int64 [L]
    lists: Any,  # int64 [N]
    sizes: tuple[int, int, int],  # W D V
) -> None:
    """out[n, w, i] = x[n, w] . weight[t] + bias[t] for t = tokens[lists[n], i]; -inf from i = counts[lists[n]] on.

    D is a multiple of `LANES`.
    """
    each, width, size = sizes
    most = tokens.shape[1]
    out = floats(out_at, (len(lists) * each, most))
    for sentence in range(len(lists)):
        own, count = tokens[lists[sentence]], counts[lists[sentence]]
        for row in range(sentence * each, (sentence + 1) * each, ROWS):
            here, given = out_at + row * most * 4, x_at + row * width * 4
            _tile(here, most, given, weight_at, own.ctypes.data, width, count, min(ROWS, (sentence + 1) * each - row))
        for row in range(sentence * each, (sentence + 1) * each):
            if bias_at:
                bias = floats(bias_at, (size,))
                for i in range(count):
                    out[row, i] += bias[own[i]]
            out[row, count:] = -np.inf


@intrinsic
def _tile(_: Any, out: Any, pitch: Any, x: Any, weight: Any, tokens: Any, inner: Any, count: Any, number: Any) -> Any:
    """The products of `number` inputs with `count` listed rows, rounded up to a multiple of 4; see `products._tile`."""

    def rows(build: Any, number: int, arguments: Sequence[Any]) -> None:
        out, pitch, x, weight, tokens, inner, count, _ = arguments
        at_once = next(rows for rows in _LISTED if rows * number <= _SUMS)
        wide, down = build.mul(inner, INTEGER(4)), build.mul(pitch, INTEGER(4))
        sums = [[cgutils.alloca_once(build, VECTOR) for _ in range(number)] for _ in range(at_once)]
        with cgutils.for_range_slice(build, INTEGER(0), count, INTEGER(at_once), inc=True) as (first, _):
            places = [build.add(first, INTEGER(i)) for i in range(at_once)]
            begins = [listed_row(build, weight, tokens, place, wide) for place in places]
            ahead = [build.add(place, INTEGER(_AHEAD)) for place in places]
            ahead = [build.select(build.icmp_signed("<", place, count), place, INTEGER(0)) for place in ahead]
            later = [listed_row(build, weight, tokens, place, wide) for place in ahead]
            for total in (total for own in sums for total in own):
                build.store(splat(0.0), total)
            with cgutils.for_range_slice(build, INTEGER(0), wide, INTEGER(BYTES), inc=True) as (offset, _):
                factors = [load(build, x, build.add(build.mul(wide, INTEGER(i)), offset)) for i in range(number)]
                for coming in later:
                    fetch(build, coming, offset)
                for begin, own in zip(begins, sums, strict=True):
                    row = load(build, begin, offset)
                    for factor, total in zip(factors, own, strict=True):
                        product = build.fmul(factor, row, flags=_FLAGS)
                        build.store(build.fadd(build.load(total), product, flags=_FLAGS), total)
            for place, own in zip(places, sums, strict=True):
                for i, total in enumerate(own):
                    there = build.add(build.mul(down, INTEGER(i)), build.mul(place, INTEGER(4)))
                    build.store(vector_sum(build, build.load(total)), at(build, out, there, FLOAT))

    def generate(_: Any, build: Any, __: Any, arguments: Any) -> Any:
        call_tile(build, "seq2seq.listed_tile", arguments, rows)

    return types.void(*[types.intp] * 8), generate
