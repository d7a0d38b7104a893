"""Compiled search on one core of a CPU: numba loops, and the modules that use them.

The loops replace operators that torch lacks, and operators that take longer to start than to run.
"""

from __future__ import annotations

LANES = 16
"""fp32 numbers in a vector of 512 bits, which LLVM splits for other CPUs. Heads are padded to a multiple of it."""

BLOCKS = 256
"""Tokens b, b + `BLOCKS`, b + 2 `BLOCKS`, ... of a vocabulary, which has at least `BLOCKS` tokens, are its block b. A
multiple of 32, for which torch's maximum over blocks is vectorised, too."""

LOG2_E = 12102203 / 2**23
"""log2(e) as fp32 holds it, so that a product with it and a division by it cancel."""
