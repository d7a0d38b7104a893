"""Versions of what decides the numbers of a run."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def environment() -> dict[str, str]:
    """Versions of what decides the numbers."""
    packages = (
        "seq2seq",
        "torch",
        "numpy",
        "sentencepiece",
        "datasets",
        "sacrebleu",
        "safetensors",
        "pydantic",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **versions,
    }
