"""Parallel text in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_pairs(folder: Path, pairs: Sequence[Sequence[str]], name: str = "corpus") -> tuple[Path, Path]:
    """Write the two sides to NAME.en and NAME.de, one pair a line."""
    files = folder / f"{name}.en", folder / f"{name}.de"
    for side, path in enumerate(files):
        path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8", newline="\n")
    return files
