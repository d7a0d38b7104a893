"""Whole Transformer layers as single compiled calls: those of `models.transformer_layers` during search.

For few rows this saves the calls between a layer's parts (see `compiled_transformer`). For many rows the intermediate
results stay in the cache, as a few sentences at a time pass through a layer.

All tensors are given by address. `weights` are gain and shift of each sublayer's norm, then panels and bias of each
product, which are `int8` or fp32. With `pre` the norms come before their sublayers, else after them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from seq2seq.kernels import int8_products, loops, products
from seq2seq.kernels.vectors import CALCULUS, floats

_attention, _norm = (njit(loop, fastmath=CALCULUS, error_model="numpy") for loop in (loops.attention, loops.norm))
_product = njit(products.product, fastmath=CALCULUS, error_model="numpy")
_int8_product = _product
if int8_products.SUPPORTED:
    _int8_product = njit(int8_products.int8_product, fastmath=CALCULUS, error_model="numpy")
_NONE, _ZERO = np.float32(-np.inf), np.float32(0)


def encoder_layer(
    out: int,  # fp32 [B S D]
    x: int,  # fp32 [B S D]
    scratch: int,  # fp32, see `_parts`; room for the rows of `batch`, and for their keys and values [R 2 H E]
    weights: tuple[int, ...],
    bias: int,  # fp32 [B 1 S]
    sizes: tuple[int, int, int, int],  # D, H * E, H, inner units of the feed-forward block
    batch: tuple[int, int, int],  # B, S, sentences at a time
    epsilon: float,
    pre: bool,
    int8: bool,
) -> None:
    """Self-attention and the feed-forward block with relu."""
    width, inner, heads, units = sizes
    size, length, at_once = batch
    for begin in range(0, size, at_once):
        count = min(at_once, size - begin)
        rows, first = count * length, begin * length * width * 4
        entering, wide, context = _parts(scratch, rows, sizes)
        keys = context + rows * inner * 4
        room = (keys, keys + rows * inner * 4, bias + begin * length * 4)
        here, shape, alike = out + first, (count, length, 3, heads, inner // heads), (1, length)
        common = (entering, wide, context, rows, width, inner, epsilon, pre, int8)
        _attention_sublayer(here, x + first, weights[0:2], weights[4:8], room, length, shape, length, alike, common)
        _feed_forward(here, weights[2:4], weights[8:12], units, common)


def decoder_layer(
    out: int,  # fp32 [N W D]
    x: int,  # fp32 [N W D]
    scratch: int,  # fp32, see `_parts`
    weights: tuple[int, ...],
    cache: tuple[int, int, int],  # keys and values [B H C E], bias [B K C]
    memory: tuple[int, int, int],  # keys and values [N H P E], bias [N 1 S]
    sizes: tuple[int, int, int, int],  # D, H * E, H, inner units of the feed-forward block
    cache_sizes: tuple[int, int, int, int],  # B, K, C, used places
    memory_sizes: tuple[int, int, int, int, int],  # N, W, P, S, sentences at a time
    epsilon: float,
    pre: bool,
    int8: bool,
) -> None:
    """One position: self-attention over the cache, cross-attention over the memory, feed-forward block with relu."""
    width, inner, heads, units = sizes
    caches, fan, room, used = cache_sizes
    size, each, places, seen, at_once = memory_sizes
    head, per_sentence = inner // heads, caches // size
    for begin in range(0, size, at_once):
        count = min(at_once, size - begin)
        rows, first = count * each, begin * each * width * 4
        entering, wide, context = _parts(scratch, rows, sizes)
        common = (entering, wide, context, rows, width, inner, epsilon, pre, int8)
        here, firsts = out + first, begin * per_sentence * 4
        own = (cache[0] + firsts * inner * room, cache[1] + firsts * inner * room, cache[2] + firsts * fan * room)
        shape = (count * per_sentence, fan, 3, heads, head)
        _attention_sublayer(here, x + first, weights[0:2], weights[6:10], own, used, shape, room, (fan, room), common)
        firsts = begin * 4
        read = (memory[0] + firsts * inner * places, memory[1] + firsts * inner * places, memory[2] + firsts * seen)
        shape = (count, each, 1, heads, head)
        _attention_sublayer(here, here, weights[2:4], weights[10:14], read, seen, shape, places, (1, seen), common)
        _feed_forward(here, weights[4:6], weights[14:18], units, common)


@njit
def _attention_sublayer(out, x, norm, products, memory, seen, shape, room, biases, common):  # type: ignore[no-untyped-def]
    """Attention with norm and residual connection; `memory` to `biases` as in `loops.attention`."""
    entering, wide, context, rows, width, inner, epsilon, pre, int8 = common
    given = _sublayer_input(entering, x, norm[0], norm[1], epsilon, rows, width, pre)
    _linear(wide, given, products[0], products[1], _NONE, rows, width, shape[2] * inner, int8)
    _attention(context, wide, memory[0], memory[1], memory[2], seen, shape, room, biases)
    _linear(entering, context, products[2], products[3], _NONE, rows, inner, width, int8)
    _add(out, x, entering, norm[0], norm[1], epsilon, rows, width, pre)


@njit
def _feed_forward(out, norm, products, units, common):  # type: ignore[no-untyped-def]
    """The feed-forward block with norm and residual connection."""
    entering, wide, _, rows, width, _, epsilon, pre, int8 = common
    given = _sublayer_input(entering, out, norm[0], norm[1], epsilon, rows, width, pre)
    _linear(wide, given, products[0], products[1], _ZERO, rows, width, units, int8)
    _linear(entering, wide, products[2], products[3], _NONE, rows, units, width, int8)
    _add(out, out, entering, norm[0], norm[1], epsilon, rows, width, pre)


@njit
def _linear(out, x, weight, bias, least, rows, inner, columns, int8):  # type: ignore[no-untyped-def]
    """A product with packed weights."""
    if int8:
        _int8_product(out, x, weight, bias, least, rows, inner, columns)
    else:
        _product(out, x, weight, bias, least, rows, inner, columns)


@njit
def _parts(scratch, rows, sizes):  # type: ignore[no-untyped-def]
    """Addresses of a sublayer's input or output [R D], of projections or inner units [R 3 H E or units], of contexts
    [R H E]."""
    width, inner, _, units = sizes
    wide = scratch + rows * width * 4
    return scratch, wide, wide + rows * max(3 * inner, units) * 4


@njit
def _sublayer_input(entering, x, gain, shift, epsilon, rows, width, pre):  # type: ignore[no-untyped-def]
    """Address of a sublayer's input."""
    if not pre:
        return x
    _norm(entering, x, gain, shift, epsilon, rows, width)
    return entering


@njit
def _add(out, x, result, gain, shift, epsilon, rows, width, pre):  # type: ignore[no-untyped-def]
    """out = x + result, normalised where norms come after their sublayers."""
    total, one, other = floats(out, (rows * width,)), floats(x, (rows * width,)), floats(result, (rows * width,))
    for i in range(rows * width):
        total[i] = one[i] + other[i]
    if not pre:
        _norm(out, out, gain, shift, epsilon, rows, width)
