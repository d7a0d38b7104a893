"""The corpus of the command-line tests serves the tests of runs, too."""

from __future__ import annotations

from tests.cli.conftest import corpus

__all__ = ["corpus"]
