"""Failpoints; the command runner, the corpus and the runs of the command-line tests serve the fault tests, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from seq2seq import failpoints
from tests.cli.conftest import corpus, gru, run, seq2seq, transformer

__all__ = ["Failpoint", "corpus", "failpoint", "gru", "run", "seq2seq", "transformer"]

Failpoint = Callable[[str], None]


@pytest.fixture
def failpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failpoint]:
    """`failpoint("write=eio@3-4")` sets failpoints for the rest of the test, in place of those set before."""

    def plan(text: str) -> None:
        monkeypatch.setenv(failpoints.VARIABLE, text)
        failpoints.forget()

    yield plan
    monkeypatch.undo()
    failpoints.forget()
