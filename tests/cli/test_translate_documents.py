"""`seq2seq translate` of documents: their texts are translated as sentences, and all else stays."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.children import Child
from tests.cli.conftest import Runner, run_command

SENTENCES = ["The old man drinks a cup of tea.", "I am here.", "The man is old."]


@pytest.fixture(scope="module")
def translations(transformer: Path) -> list[str]:
    text = "".join(sentence + "\n" for sentence in SENTENCES)
    return run_command("translate", transformer, stdin=text.encode()).out.splitlines()


def test_a_web_page_keeps_its_tags(transformer: Path, translations: list[str], seq2seq: Runner, tmp_path: Path) -> None:
    """Tags were translated, or lost, as if they were words."""
    page = tmp_path / "page.html"
    page.write_text(f"<title>{SENTENCES[0]}</title>\n<p>The old <b>man</b> drinks a cup of tea. {SENTENCES[1]}</p>\n")
    outcome = seq2seq("translate", transformer, page, "-o", tmp_path / "out.html")
    assert outcome.code == 0, outcome.err
    written = (tmp_path / "out.html").read_text()
    first, second, _ = translations
    assert re.sub("</?b>", "", written) == f"<title>{first}</title>\n<p>{first} {second}</p>\n"
    assert re.findall("</?b>", written) == ["<b>", "</b>"]
    again = seq2seq("translate", transformer, page, "-o", tmp_path / "out.html", "--resume")
    assert "is complete and kept" in again.err


def test_a_table_gets_a_column(transformer: Path, translations: list[str], seq2seq: Runner, tmp_path: Path) -> None:
    """It was refused: "copy its sentences into a text file"."""
    table = tmp_path / "table.csv"
    table.write_text("id,source\n" + "".join(f"{n},{text}\n" for n, text in enumerate(SENTENCES)))
    outcome = seq2seq("translate", transformer, table)
    head, *rows = outcome.out.splitlines()
    assert head.startswith("id,source,")
    assert rows == [f"{n},{SENTENCES[n]},{translation}" for n, translation in enumerate(translations)]
    assert seq2seq("translate", transformer, table, "--column", "id").code == 0
    wrong = seq2seq("translate", transformer, table, "--column", "sauce")
    assert wrong.code == 2
    assert "did you mean 'source'?" in wrong.err


@pytest.mark.parametrize("option", [["--json"], ["--n-best", "2"], ["--wrapped"], ["--alignments"], ["--scores"]])
def test_options_of_lines_are_refused(option: list[str], transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>I am here.</p>\n")
    outcome = seq2seq("translate", transformer, tmp_path / "page.html", *option)
    assert outcome.code == 2
    assert option[0] in outcome.err


def test_a_column_belongs_to_a_table(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    (tmp_path / "text.en").write_text("I am here.\n")
    assert seq2seq("translate", transformer, tmp_path / "text.en", "--column", "en").code == 2


@pytest.mark.fault(47)
def test_a_killed_table_is_resumed(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    # Windows of up to 9,216 rows, mostly blank, so that several windows take little time.
    rows = (SENTENCES[n // 2048 % 3] if n % 2048 < 2 else "" for n in range(25_000))
    table.write_text("id\tsource\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(rows)))
    whole = seq2seq("translate", transformer, table).out
    halt = {"SEQ2SEQ_FAILPOINTS": "output.record=stop@2"}
    command = ("translate", transformer, table, "-o", tmp_path / "out.tsv")
    with Child(*command, folder=tmp_path / "log", environment=halt) as child:
        child.wait_until_stopped()
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    outcome = seq2seq(*command, "--resume")
    assert outcome.code == 0, outcome.err
    assert "are already translated" in outcome.err
    assert (tmp_path / "out.tsv").read_text() == whole
