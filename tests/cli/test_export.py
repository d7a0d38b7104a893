"""`seq2seq export`, and translation with what it made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Runner, checkpoint_of

TEXT = b"the old man drinks tea\n\nThomas wrote nine small postcards.\n"


@pytest.fixture(scope="module")
def transformer_run(transformer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run, into which it is exported."""
    return Path(shutil.copytree(transformer, tmp_path_factory.mktemp("exported") / "transformer", symlinks=True))


def test_ctranslate2(seq2seq: Runner, transformer_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    made = seq2seq("export", transformer_run, "--format", "ctranslate2", "--sentences", 10)
    assert made.code == 0, made.err
    table = [line.split() for line in made.out.splitlines()]
    assert table[1][:3] == ["native", "fp32", "10/10"]
    assert table[2][:2] == ["ctranslate2", "float32"]
    assert f"seq2seq translate {transformer_run}/export/ctranslate2" in made.err
    expected = seq2seq("translate", transformer_run, stdin=TEXT)
    for arguments in ((transformer_run, "--engine", "ctranslate2"), (transformer_run / "export" / "ctranslate2",)):
        found = seq2seq("translate", *arguments, stdin=TEXT)
        assert found.code == 0, found.err
        assert found.out == expected.out
    assert found.out.split("\n")[1] == ""
    # The folder goes anywhere.
    moved = tmp_path / "moved"
    # It was passed over, and the hint of every refusal led back here.
    refused = seq2seq("translate", transformer_run / "export" / "ctranslate2", "--engine", "native", stdin=TEXT)
    assert (refused.code, refused.out) == (2, "")
    assert "is an export, which only ctranslate2 reads" in refused.err
    (transformer_run / "export" / "ctranslate2").rename(moved)
    assert seq2seq("translate", moved, stdin=TEXT).out == expected.out
    # A server started with it, and answered 500 to every text with a term.
    (tmp_path / "terms.tsv").write_text("old man\tGreis\n")
    for command in (("translate", moved), ("serve", moved, "--port", "0")):
        refused = seq2seq(*command, "--glossary", tmp_path / "terms.tsv", stdin=TEXT)
        assert (refused.code, refused.out) == (2, "")
        assert "an export cannot demand the phrases of a glossary" in refused.err


def test_quantization_and_json(seq2seq: Runner, transformer_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    arguments = ("--format", "ctranslate2", "--quantization", "int8", "-o", tmp_path / "small", "--sentences", 5)
    made = seq2seq("export", transformer_run, *arguments, "--json", "-q")
    assert made.code == 0, made.err
    record = json.loads(made.out)
    assert record["folder"] == str(tmp_path / "small")
    assert [engine["name"] for engine in record["engines"]][-1] == "ctranslate2 int8"
    assert record["signature"].startswith("nrefs:1")
    assert len(seq2seq("translate", tmp_path / "small", stdin=TEXT).out.splitlines()) == 3
    assert seq2seq("export", transformer_run, *arguments, "-q").out == f"{tmp_path / 'small'}\n"


def test_an_export_of_an_older_checkpoint_is_not_used(seq2seq: Runner, transformer_run: Path) -> None:
    pytest.importorskip("ctranslate2")
    other = sorted((transformer_run / "checkpoints").glob("step-*"))[0].name
    assert seq2seq("export", transformer_run, "--format", "ctranslate2", "--checkpoint", other).code == 0
    best = checkpoint_of(transformer_run, "best").name
    outcome = seq2seq("translate", transformer_run, "--engine", "ctranslate2", stdin=TEXT)
    assert outcome.code == (0 if best == other else 5)
    if outcome.code:
        assert "of another checkpoint" in outcome.err
        assert "seq2seq export" in outcome.err


def test_huggingface(seq2seq: Runner, transformer_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    made = seq2seq("export", transformer_run, "--format", "huggingface", "-o", tmp_path / "hf", "--sentences", 10)
    assert made.code == 0, made.err
    assert "10/10" in made.out
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "| BLEU |" in card
    assert "pip install sacremoses" not in made.err
    outcome = seq2seq("translate", tmp_path / "hf", stdin=TEXT)
    assert (outcome.code, "not a run directory but an export for huggingface" in outcome.err) == (5, True)


def test_only_an_earlier_export_is_replaced(seq2seq: Runner, transformer_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    (tmp_path / "a").touch()
    outcome = seq2seq("export", transformer_run, "--format", "ctranslate2", "-o", tmp_path)
    assert outcome.code == 2
    assert "no export" in outcome.err.splitlines()[0]
    assert "hint:" in outcome.err


def test_a_recurrent_model_says_that_no_format_exists(seq2seq: Runner, gru: Path) -> None:
    for name in ("ctranslate2", "huggingface"):
        outcome = seq2seq("export", gru, "--format", name)
        assert outcome.code == 2
        assert "recurrent" in outcome.err
        assert not (gru / "export" / name).exists()


def test_a_recurrent_model_has_no_other_engine(seq2seq: Runner, gru: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said to be not exported yet; the command of the hint then refused to export it."""
    monkeypatch.setitem(__import__("sys").modules, "ctranslate2", None)  # nobody shall install it for nothing
    outcome = seq2seq("translate", gru, "--engine", "ctranslate2", stdin=TEXT)
    assert outcome.code == 2
    assert "a recurrent model (model.kind: rnn) has no ctranslate2 engine" in outcome.err
    assert "[export.unsupported]" in outcome.err
    assert "hint: leave out --engine ctranslate2" in outcome.err
    assert seq2seq("translate", gru, stdin=TEXT).code == 0


def test_no_run_and_no_library(seq2seq: Runner, transformer_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seq2seq("export", "nowhere", "--format", "ctranslate2").code == 5
    monkeypatch.setitem(__import__("sys").modules, "ctranslate2", None)
    outcome = seq2seq("export", transformer_run, "--format", "ctranslate2")
    assert outcome.code == 2
    assert "pip install '.[ctranslate2]'" in outcome.err
