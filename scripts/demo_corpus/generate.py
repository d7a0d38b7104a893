"""Writes the built-in pairs: `python -m scripts.demo_corpus.generate`, from the root of the repository."""

from __future__ import annotations

import bz2
import zlib
from pathlib import Path

from .corpus import DemoCorpus, Pair, demo_corpus

OUTPUT = Path(__file__).resolve().parents[2] / "src" / "seq2seq" / "data" / "demo_pairs.tsv.bz2"
_NAMES = Path(__file__).with_name("names.tsv")


def names() -> DemoCorpus:
    """(name, language) pairs; the splits hold about 80, 10 and 10 percent of them."""
    splits = DemoCorpus([], [], [])
    for line in _NAMES.read_text(encoding="utf-8").splitlines()[1:]:
        name, language = line.split("\t")
        bucket = zlib.crc32(name.encode()) % 10
        (splits.valid if bucket == 0 else splits.test if bucket == 1 else splits.train).append((name, language))
    return splits


def compressed() -> bytes:
    """The content of the file: task, split and the two sides of a pair on every line.

    bz2, because it is smaller than xz here and its format holds neither a name nor a time.
    """
    tasks = {"demo": demo_corpus(), "names": names()}
    lines = [
        _line(task, split, pair)
        for task, splits in tasks.items()
        for split, pairs in splits._asdict().items()
        for pair in pairs
    ]
    return bz2.compress("".join(lines).encode())


def _line(task: str, split: str, pair: Pair) -> str:
    return "\t".join((task, split, *pair)) + "\n"


if __name__ == "__main__":
    OUTPUT.write_bytes(compressed())
    print(f"{OUTPUT}: {OUTPUT.stat().st_size:,} bytes")
