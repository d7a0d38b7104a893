"""Built-in pairs: the English-German demo and a list of names.

`scripts/demo_corpus` writes the file.
"""

from __future__ import annotations

import bz2
from functools import cache
from pathlib import Path

DEMO_PAIRS = Path(__file__).with_name("demo_pairs.tsv.bz2")
"""Compressed lines of task, split, source and target."""


@cache
def _tables() -> dict[tuple[str, str], list[tuple[str, str]]]:
    tables: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for line in bz2.decompress(DEMO_PAIRS.read_bytes()).decode().splitlines():
        task, split, source, target = line.split("\t")
        tables.setdefault((task, split), []).append((source, target))
    return tables


def builtin_pairs(task: str, split: str) -> list[tuple[str, str]]:
    """Pairs of a built-in task: `demo` (English, German) or `names` (name, language).

    Raises:
        ValueError: no such task, or a split other than train, valid and test.
    """
    tables = _tables()
    if (task, split) not in tables:
        known = ", ".join(" ".join(key) for key in tables)
        raise ValueError(f"no built-in pairs {task} {split}: one of {known}")
    return list(tables[task, split])
