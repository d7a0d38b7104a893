"""Loops over numpy arrays and addresses, which `compile.py` compiles.

Their results do not depend on the other rows of a batch, nor on its order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from seq2seq.kernels import BLOCKS, LANES, LOG2_E
from seq2seq.kernels.vectors import CALCULUS, copy, exp2, floats, row_mixture, row_products

# In numba, float() of an fp32 number is that number: np.float64() widens it. An index counts from the end if it is
# negative, unless it is that of a `range` from 0 on: other loops would gather their numbers one by one.
Array = Any
"""A C-contiguous numpy array; the letters of shapes are those of `models/interface.py`."""

_LOG2_E = np.float32(LOG2_E)
_ZERO, _ONE = np.float32(0), np.float32(1)
_ADDED = 2048
"""Number of exponentials that are added in fp32, as the error grows with it; these sums are added in float64."""


def attention(
    out_at: int,  # fp32 [B K H E]
    projected_at: int,  # fp32 [B K P H E]: queries, for P = 3 keys and values too
    keys_at: int,  # fp32 [B H C E]
    values_at: int,  # fp32 [B H C E]
    bias_at: int,  # fp32 [B W S]: 0 where a place is seen; W is K, or 1 for all alike
    used: int,
    shape: tuple[int, int, int, int, int],  # B K P H E
    room: int,  # C
    biases: tuple[int, int],  # W S
) -> None:
    """Scaled dot-product attention of the K queries of every sentence to those of the `used` places that they see.

    New keys and values are first written into the last K of these places. E is a multiple of `LANES`. A query that sees
    nothing gets 0.
    """
    size, fan, parts, heads, width = shape
    kinds, most = biases
    bias = floats(bias_at, (size, kinds, most))
    step = width * 4  # bytes of a head
    scale = np.float32(np.float64(_LOG2_E) / np.sqrt(width))
    places = np.empty(used + 1, np.int64)
    weights = np.empty((used + LANES) * heads, np.float32)
    ahead = heads * room * step
    for sentence in range(size):
        if parts == 3:
            for row in range(fan):
                for head in range(heads):
                    place = ((sentence * heads + head) * room + used - fan + row) * step
                    given = projected_at + (((sentence * fan + row) * 3 + 1) * heads + head) * step
                    copy(keys_at + place, given, step)
                    copy(values_at + place, given + heads * step, step)
        count = 0
        for row in range(fan):
            if row < kinds:
                count = 0
                for place in range(used):
                    places[count] = place
                    count += bias[sentence, row, place] == _ZERO
            pitch = (count + LANES - 1) // LANES * LANES
            for head in range(heads):
                row_products(
                    weights.ctypes.data + head * pitch * 4,
                    projected_at + ((sentence * fan + row) * parts * heads + head) * step,
                    keys_at + (sentence * heads + head) * room * step,
                    places.ctypes.data,
                    count,
                    width,
                    ahead,
                )
            for head in range(heads):
                scores = floats(weights.ctypes.data + head * pitch * 4, (count,))
                top = scores[0] if count else _ZERO
                for i in range(count):
                    top = scores[i] if scores[i] > top else top
                for i in range(count):
                    scores[i] = (scores[i] - top) * scale
            for i in range(heads * pitch):  # the gaps between the heads as well: one long loop is faster
                weights[i] = exp2(weights[i], _ONE, _ZERO)
            for head in range(heads):
                scores = floats(weights.ctypes.data + head * pitch * 4, (count,))
                total = _ZERO
                for i in range(count):
                    total += scores[i]
                row_mixture(
                    out_at + ((sentence * fan + row) * heads + head) * step,
                    scores.ctypes.data,
                    values_at + (sentence * heads + head) * room * step,
                    places.ctypes.data,
                    count,
                    width,
                    ahead,
                    _ONE / total if count else _ZERO,
                )


def norm(
    out_at: int,  # fp32 [R D]
    x_at: int,  # fp32 [R D]
    gain_at: int,  # fp32 [D]
    shift_at: int,  # fp32 [D], or 0 for the root mean square
    epsilon: float,
    rows: int,
    width: int,
) -> None:
    """Layer normalisation or root mean square normalisation; see `models.layers.build_norm`."""
    out, x = floats(out_at, (rows, width)), floats(x_at, (rows, width))
    gain = floats(gain_at, (width,))
    for row in range(rows):
        mean = _ZERO
        if shift_at:
            for i in range(width):
                mean += x[row, i]
            mean /= np.float32(width)
        squares = _ZERO
        for i in range(width):
            squares += (x[row, i] - mean) * (x[row, i] - mean)
        scale = _ONE / np.sqrt(squares / np.float32(width) + epsilon)
        if shift_at:
            shift = floats(shift_at, (width,))
            for i in range(width):
                out[row, i] = (x[row, i] - mean) * scale * gain[i] + shift[i]
        else:
            for i in range(width):
                out[row, i] = x[row, i] * scale * gain[i]


def normalise(logits: Array, out: Array) -> None:
    """out[r] = log sum exp of logits[r] (fp32 [R V]) in float64; NaN where a row holds NaN or infinity."""
    rows, size = logits.shape
    maxima = np.empty(BLOCKS, np.float32)
    for row in range(rows):
        scores = logits[row]
        top = _block_maxima(scores, maxima) * _LOG2_E  # rounded, and so taken from the sum and added to it
        total = 0.0
        for begin in range(0, size, _ADDED):
            added, part = scores[begin : begin + _ADDED], _ZERO
            for i in range(len(added)):
                part += exp2(added[i], _LOG2_E, top)
            total += part
        out[row] = (np.float64(top) + np.log2(total)) / np.float64(_LOG2_E)


def choose(logits: Array, offsets: Array, totals: Array, places: Array) -> None:
    """The best tokens of every sentence, over all its hypotheses.

    totals[n] holds the largest logit + offset in falling order, places[n] their places w * V + v, where `logits` are
    fp32 [N W V] and `offsets` float64 [N W], -inf for a missing hypothesis. Equal totals are in order of their places.
    Where a sentence has fewer than `totals` has columns, the rest is -inf and 0. Exact, without sorting a vocabulary:
    the tokens of the best blocks set a bar, and other blocks are searched only if their maximum reaches it.
    """
    sentences, beams, size = logits.shape
    count = totals.shape[1]
    maxima = np.empty((beams, BLOCKS), np.float32)
    block_totals, blocks = np.empty(count, np.float64), np.empty(count, np.int64)
    for sentence in range(sentences):
        best, chosen = totals[sentence], places[sentence]
        best[:], chosen[:] = -np.inf, beams * size
        block_totals[:], blocks[:] = -np.inf, beams * BLOCKS
        for beam in range(beams):
            offset = offsets[sentence, beam]
            if offset > -np.inf:
                _block_maxima(logits[sentence, beam], maxima[beam])
                for block in range(BLOCKS):
                    total = np.float64(maxima[beam, block]) + offset
                    if total >= block_totals[count - 1]:
                        _insert(block_totals, blocks, total, beam * BLOCKS + block)
        for i in range(count):
            if block_totals[i] > -np.inf:
                beam, block = blocks[i] // BLOCKS, blocks[i] % BLOCKS
                maxima[beam, block] = -np.inf
                _insert_block(best, chosen, logits[sentence, beam], offsets[sentence, beam], block, beam * size)
        for beam in range(beams):
            offset = offsets[sentence, beam]
            if offset > -np.inf:
                for block in range(BLOCKS):
                    total = np.float64(maxima[beam, block]) + offset
                    if total >= best[count - 1] and total > -np.inf:
                        _insert_block(best, chosen, logits[sentence, beam], offset, block, beam * size)
        for i in range(count):
            if best[i] == -np.inf:
                chosen[i] = 0


@njit(fastmath=CALCULUS)
def _block_maxima(scores: Array, maxima: Array) -> Any:
    """Write the largest score of each block b into maxima[b]; returns the largest of all."""
    whole = len(scores) // BLOCKS * BLOCKS
    lines, rest = scores[:whole].reshape(-1, BLOCKS), scores[whole:]
    for block in range(BLOCKS):
        maxima[block] = lines[0, block]
    for line in range(1, len(lines)):
        for block in range(BLOCKS):
            score = lines[line, block]
            maxima[block] = score if score > maxima[block] else maxima[block]
    for block in range(len(rest)):
        maxima[block] = rest[block] if rest[block] > maxima[block] else maxima[block]
    top, other = maxima[0], maxima[1]
    for block in range(2, BLOCKS, 2):  # two independent maxima, which the CPU computes in parallel
        top = maxima[block] if maxima[block] > top else top
        other = maxima[block + 1] if maxima[block + 1] > other else other
    return other if other > top else top


@njit
def _insert_block(best: Array, chosen: Array, scores: Array, offset: float, block: int, first: int) -> None:
    """Insert all tokens of a block, where `first` is the place of token 0."""
    for token in range(block, len(scores), BLOCKS):
        total = np.float64(scores[token]) + offset
        if total >= best[-1]:
            _insert(best, chosen, total, first + token)


@njit
def _insert(best: Array, chosen: Array, total: float, place: int) -> None:
    """Insert into a list of falling totals, equal ones in order of their places; the last one is dropped.

    The caller first compares with the last total, as a call costs more.
    """
    i = len(best) - 1
    if total < best[i] or (total == best[i] and place > chosen[i]):
        return
    while i > 0 and (total > best[i - 1] or (total == best[i - 1] and place < chosen[i - 1])):
        best[i], chosen[i] = best[i - 1], chosen[i - 1]
        i -= 1
    best[i], chosen[i] = total, place
