"""The libraries that exports are made for; each is an extra of the package."""

from __future__ import annotations

import importlib
from typing import Any

from seq2seq.errors import UsageError


def import_ctranslate2() -> Any:
    """The module `ctranslate2`. Raises `UsageError` where it is not installed."""
    return _import("ctranslate2", "ctranslate2")


def import_transformers() -> Any:
    """The module `transformers`. Raises `UsageError` where it is not installed."""
    return _import("transformers", "huggingface")


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} is not usable here: {error}", hint=f"pip install 'seq2seq[{extra}]'", code="export.library"
        ) from None
