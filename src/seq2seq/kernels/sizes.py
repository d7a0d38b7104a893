"""Sizes that the loops are built for."""

from __future__ import annotations

LANES = 16
"""Numbers in a vector (512 bits; LLVM makes several of it for a CPU with shorter ones): the width of a head is a
multiple of it."""

BLOCKS = 256
"""Tokens b, b + `BLOCKS`, b + 2 `BLOCKS`, ... of a vocabulary are block b; it has at least so many."""
