"""The runs of the command-line tests serve the tests of reports, too."""

from __future__ import annotations

from tests.cli.conftest import corpus, gru, seq2seq

__all__ = ["corpus", "gru", "seq2seq"]
