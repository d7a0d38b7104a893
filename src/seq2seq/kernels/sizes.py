"""Numbers that loops and torch have to agree on."""

from __future__ import annotations

LANES = 16
"""Numbers in a vector (512 bits; LLVM makes several of it for a CPU with shorter ones): the width of a head is a
multiple of it."""

BLOCKS = 256
"""Tokens b, b + `BLOCKS`, b + 2 `BLOCKS`, ... of a vocabulary are block b; it has at least so many. A multiple of 32,
for which torch's maximum over blocks is vectorised, too."""

LOG2_E = 12102203 / 2**23
"""log2(e) as fp32 holds it, so that a product with it and a division by it cancel."""


def scratch_size(rows: int, width: int, inner: int, units: int) -> int:
    """Numbers that so many rows need between the parts of a layer: see `transformer.py`, and an encoder's keys and
    values."""
    return rows * (width + max(3 * inner, units) + inner + 2 * inner)
