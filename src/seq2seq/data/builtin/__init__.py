"""Two tasks that the package carries: a small English-German grammar and a list of names."""

from __future__ import annotations

from functools import cache

from .corpus import DemoCorpus, demo_corpus
from .names import names

__all__ = ["BUILTIN_TASKS", "DemoCorpus", "builtin_pairs", "demo_corpus", "names"]

BUILTIN_TASKS = ("demo", "names")


@cache
def _default_corpus() -> DemoCorpus:
    return demo_corpus()


def builtin_pairs(name: str, split: str) -> list[tuple[str, str]]:
    """Pairs of a task that the package carries: `demo` (English, German) or `names` (name, language)."""
    if name not in BUILTIN_TASKS:
        raise ValueError(f"unknown built-in task {name!r}: one of {', '.join(BUILTIN_TASKS)}")
    if split not in ("train", "valid", "test"):
        raise ValueError(f"unknown split {split!r}: one of train, valid, test")
    if name == "names":
        return names(split)
    corpus = _default_corpus()
    return list({"train": corpus.train, "valid": corpus.valid, "test": corpus.test}[split])
