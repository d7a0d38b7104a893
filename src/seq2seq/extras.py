"""Extras of the package: optional libraries, which are imported only when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from seq2seq.errors import UsageError

EXTRAS = {
    "ctranslate2": ("ctranslate2",),
    "huggingface": ("transformers",),
    "mimalloc": ("cmeel-mimalloc",),
    "mtdata": ("mtdata",),
    "langid": ("py3langid",),
    "tune": ("optuna",),
    "serve": ("starlette", "uvicorn"),
}
"""Packages of each extra, as in pyproject.toml."""


def install(extra: str) -> str:
    """The remedy for a missing extra."""
    return f"pip install '.[{extra}]' in the clone of seq2seq"


def import_library(name: str) -> Any:
    """Import a module of an extra's package. Raises `UsageError` if it is not installed, or cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = next(extra for extra, packages in EXTRAS.items() if name.partition(".")[0] in packages)
        what = f"{name} is not usable here: {error}"
        raise UsageError(what, hint=install(extra), code="export.library") from None
