"""Output files that are written at once, and those that would replace an input."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from seq2seq.cli.input import check_output
from seq2seq.cli.output import write_whole
from seq2seq.errors import UsageError
from tests.cli.conftest import Runner


def test_a_page_goes_into_a_pipe_and_does_not_replace_it(tmp_path: Path) -> None:
    """`seq2seq report RUN -o /dev/null` by root put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "a page")
        assert os.read(reader, 100) == b"a page"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.fixture
def place(transformer: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run and its corpus, which the config names by relative paths."""
    shutil.copytree(corpus, tmp_path / "data")
    for name in ("mine", "other"):
        config = shutil.copytree(transformer, tmp_path / "runs" / name, symlinks=True) / "config.yaml"
        text = config.read_text(encoding="utf-8")
        assert str(corpus) in text
        config.write_text(text.replace(str(corpus), "data"), encoding="utf-8")
    (tmp_path / "x.en").write_text("A dog runs.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    "command",
    [
        "evaluate runs/mine -o FILE",
        "translate runs/mine x.en -o FILE",
        "translate runs/mine x.en -o FILE --resume",
        "align runs/mine -s x.en -o FILE",
        "report runs/mine -o FILE",
        "compare runs/mine runs/other --html FILE",
    ],
)
def test_a_corpus_of_the_run_is_never_replaced(
    command: str, place: Path, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only inputs of the command line were safe: `evaluate runs/mine -o data/test.de` replaced the references."""
    before = (place / "data" / "corpus.de").read_bytes()
    for folder, up in ((place, ""), (place / "runs", "../")):
        monkeypatch.chdir(folder)
        words = command.replace("FILE", "data/corpus.de").split()
        outcome = seq2seq(*(f"{up}{word}" if "/" in word or word == "x.en" else word for word in words))
        assert outcome.code == 2
        assert "corpus.de is a corpus of the run " in outcome.err
        assert "[usage.same-file]" in outcome.err
        assert (place / "data" / "corpus.de").read_bytes() == before


def test_other_files_may_be_replaced(place: Path, seq2seq: Runner) -> None:
    """Corpora that are gone, and those of the hub, keep nobody from writing a report."""
    page, config = place / "page.html", place / "runs" / "mine" / "config.yaml"
    shutil.rmtree(place / "data")
    page.write_text("old", encoding="utf-8")
    assert seq2seq("report", "runs/mine", "-o", page).code == 0
    text = config.read_text(encoding="utf-8").replace("target: data/corpus.de", "target: de\n    hub: some/where")
    config.write_text(text, encoding="utf-8")
    page.write_text("old", encoding="utf-8")
    outcome = seq2seq("report", "runs/mine", "-o", page)
    assert outcome.code == 0, outcome.err
    assert page.read_text(encoding="utf-8").startswith("<!")


def test_corpora_of_an_export_and_members_of_archives_are_safe(tmp_path: Path) -> None:
    export, archive = tmp_path / "export", tmp_path / "corpus.zip"
    export.mkdir()
    archive.write_bytes(b"PK")
    sides = f"source: {archive}/a.en, target: {archive}/a.de"
    (export / "settings.yaml").write_text(f"data: {{train: [{{{sides}}}]}}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is a corpus of the run"):
        check_output(archive, runs=[export])
    with pytest.raises(UsageError, match="is the input"):
        check_output(archive, [archive / "a.en"])
    (export / "settings.yaml").write_text("data: {train: [\n", encoding="utf-8")  # told where the export is loaded
    check_output(archive, runs=[export])
