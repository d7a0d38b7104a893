"""The faster of two engines for a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seq2seq.errors import CheckpointError
from seq2seq.runs.faster_engine import faster_engine


@pytest.mark.parametrize(("first", "later", "is_faster"), [(9.0, 1.0, True), (0.1, 3.0, False)])
def test_the_faster_engine_is_that_of_the_second_time(
    first: float, later: float, is_faster: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an engine loads before its first long text takes seconds, and says nothing of the rest."""
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def run(*seconds: float) -> Any:
        times = iter(seconds)

        def stream(lines: Sequence[str], options: object) -> Iterator[str]:
            nonlocal now
            yield from lines
            now += next(times)

        return SimpleNamespace(translator=SimpleNamespace(stream=stream, outputs_cut=3))

    native, export = run(1.0, 2.0), run(first, later)
    chosen = faster_engine(native, lambda: export, iter(["a"] * 5000), SimpleNamespace())  # type: ignore[arg-type]
    assert chosen is (export if is_faster else native)
    assert chosen.translator.outputs_cut == 0
    assert f"native 500 lines/s, ctranslate2 {1000 / later:,.0f}" in capsys.readouterr().err


def test_without_an_export_the_engine_is_the_native_one(capsys: pytest.CaptureFixture[str]) -> None:
    def load_export() -> Any:
        raise CheckpointError("runs/a has not been exported for CTranslate2", code="export.missing")

    native: Any = SimpleNamespace()
    assert faster_engine(native, load_export, [], SimpleNamespace()) is native  # type: ignore[arg-type]
    assert "engine native: runs/a has not been exported" in capsys.readouterr().err
