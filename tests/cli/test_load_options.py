"""How `seq2seq translate` loads its run: the batch size, and the engine that `--engine auto` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from seq2seq.cli.load_options import LoadOptions
from tests.cli.conftest import Runner


def test_the_batch_size_is_that_of_every_engine(transformer: Path) -> None:
    """`--batch-size` did not reach the export that `--engine auto` had chosen."""
    loaded = LoadOptions(device="cpu", threads=1, batch_size=3).load(transformer)
    assert loaded.translator.settings.batch_sentences == 3


def test_engines_are_compared_where_both_have_the_options(
    transformer: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq.runs.faster_engine.WORTH_MEASURING", 1)
    text = tmp_path / "text"
    text.write_text("The old man drinks a cup of tea.\n")
    command = ("translate", transformer, text, "--max-length", 8)
    plain, auto = seq2seq(*command), seq2seq(*command, "--engine", "auto")
    assert (auto.code, auto.out) == (plain.code, plain.out) == (0, plain.out)
    assert "engine native: " in auto.err  # the run has no export
    for special in (("--sample",), ("--alignments",), ("--precision", "fp32")):
        assert "engine" not in seq2seq(*command, "--engine", "auto", *special).err
