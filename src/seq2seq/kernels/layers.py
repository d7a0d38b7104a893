"""Whole layers of a Transformer in one call each: what those of `models.transformer_layers` do while searching.

For few rows the calls between a layer's parts, 150 from Python, take longer than the parts themselves; for many rows
the results between them stay in the cache, as some sentences go through a layer at a time.

All tensors are given by address. `weights` are gain and shift of the norm of each block, then panels and bias of each
product. Norms come before their blocks where `pre` says so, else behind them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from seq2seq.kernels import loops, products
from seq2seq.kernels.vectors import CALCULUS, floats

_attend, _norm = (njit(loop, fastmath=CALCULUS, error_model="numpy") for loop in (loops.attend, loops.norm))
_product = njit(products.product, fastmath=CALCULUS, error_model="numpy")
_NONE, _ZERO = np.float32(-np.inf), np.float32(0)


def encoder_layer(
    out: int,  # fp32 [B S D]
    x: int,  # fp32 [B S D]
    scratch: int,  # fp32, as many as `sizes.scratch_size` says for the rows at a time
    weights: tuple[int, ...],
    bias: int,  # fp32 [B 1 S]
    sizes: tuple[int, int, int, int],  # D, H * E, H, inner units of the feed-forward block
    batch: tuple[int, int, int],  # B, S, sentences at a time
    epsilon: float,
    pre: bool,
) -> None:
    """Attention of all positions to all, and the feed-forward block with relu."""
    width, inner, heads, units = sizes
    size, length, at_once = batch
    for begin in range(0, size, at_once):
        count = min(at_once, size - begin)
        rows, first = count * length, begin * length * width * 4
        entering, wide, context = _parts(scratch, rows, sizes)
        keys = context + rows * inner * 4
        room = (keys, keys + rows * inner * 4, bias + begin * length * 4)
        here, shape, alike = out + first, (count, length, 3, heads, inner // heads), (1, length)
        block = (entering, wide, context, rows, width, inner, epsilon, pre)
        _attention(here, x + first, weights[0:2], weights[4:8], room, length, shape, length, alike, block)
        _feed_forward(here, weights[2:4], weights[8:12], units, block)


def decoder_layer(
    out: int,  # fp32 [N W D]
    x: int,  # fp32 [N W D]
    scratch: int,  # fp32, as many as `sizes.scratch_size` says
    weights: tuple[int, ...],
    past: tuple[int, int, int],  # keys and values [B H C E], bias [B K C]
    memory: tuple[int, int, int],  # keys and values [N H P E], bias [N 1 S]
    sizes: tuple[int, int, int, int],  # D, H * E, H, inner units of the feed-forward block
    own: tuple[int, int, int, int],  # B, K, C, filled places
    others: tuple[int, int, int, int, int],  # N, W, P, S, sentences at a time
    epsilon: float,
    pre: bool,
) -> None:
    """One position: attention to the past, to the memory, and the feed-forward block with relu."""
    width, inner, heads, units = sizes
    pasts, fan, room, filled = own
    size, each, places, seen, at_once = others
    head, apart = inner // heads, pasts // size
    for begin in range(0, size, at_once):
        count = min(at_once, size - begin)
        rows, first = count * each, begin * each * width * 4
        entering, wide, context = _parts(scratch, rows, sizes)
        block = (entering, wide, context, rows, width, inner, epsilon, pre)
        here, firsts = out + first, begin * apart * 4
        kept = (past[0] + firsts * inner * room, past[1] + firsts * inner * room, past[2] + firsts * fan * room)
        shape = (count * apart, fan, 3, heads, head)
        _attention(here, x + first, weights[0:2], weights[6:10], kept, filled, shape, room, (fan, room), block)
        firsts = begin * 4
        read = (memory[0] + firsts * inner * places, memory[1] + firsts * inner * places, memory[2] + firsts * seen)
        shape = (count, each, 1, heads, head)
        _attention(here, here, weights[2:4], weights[10:14], read, seen, shape, places, (1, seen), block)
        _feed_forward(here, weights[4:6], weights[14:18], units, block)


@njit
def _attention(out, x, norm, products, memory, seen, shape, room, biases, block):  # type: ignore[no-untyped-def]
    """A block of attention and what is around it; `memory`, `seen` and what follows as in `loops.attend`."""
    entering, wide, context, rows, width, inner, epsilon, pre = block
    given = _entering(entering, x, norm[0], norm[1], epsilon, rows, width, pre)
    _product(wide, given, products[0], products[1], _NONE, rows, width, shape[2] * inner)
    _attend(context, wide, memory[0], memory[1], memory[2], seen, shape, room, biases)
    _product(entering, context, products[2], products[3], _NONE, rows, inner, width)
    _leave(out, x, entering, norm[0], norm[1], epsilon, rows, width, pre)


@njit
def _feed_forward(out, norm, products, units, block):  # type: ignore[no-untyped-def]
    """The feed-forward block and what is around it."""
    entering, wide, _, rows, width, _, epsilon, pre = block
    given = _entering(entering, out, norm[0], norm[1], epsilon, rows, width, pre)
    _product(wide, given, products[0], products[1], _ZERO, rows, width, units)
    _product(entering, wide, products[2], products[3], _NONE, rows, units, width)
    _leave(out, out, entering, norm[0], norm[1], epsilon, rows, width, pre)


@njit
def _parts(scratch, rows, sizes):  # type: ignore[no-untyped-def]
    """Addresses of a block's input or result [R D], of what it makes of it [R 3 H E or units], of contexts [R H E]."""
    width, inner, _, units = sizes
    wide = scratch + rows * width * 4
    return scratch, wide, wide + rows * max(3 * inner, units) * 4


@njit
def _entering(entering, x, gain, shift, epsilon, rows, width, pre):  # type: ignore[no-untyped-def]
    """Address of a block's input."""
    if not pre:
        return x
    _norm(entering, x, gain, shift, epsilon, rows, width)
    return entering


@njit
def _leave(out, x, result, gain, shift, epsilon, rows, width, pre):  # type: ignore[no-untyped-def]
    """out = x joined by a block's result."""
    total, one, other = floats(out, (rows * width,)), floats(x, (rows * width,)), floats(result, (rows * width,))
    for i in range(rows * width):
        total[i] = one[i] + other[i]
    if not pre:
        _norm(out, out, gain, shift, epsilon, rows, width)
