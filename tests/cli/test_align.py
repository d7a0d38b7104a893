"""`seq2seq align`: links and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import Outcome, Runner, train_tiny

PAIRS = ["The man sleeps .", "", "The old woman drinks tea ."], ["Der Mann schläft .", "", "Die alte Frau trinkt Tee ."]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("align")
    for name, lines in zip(("a.en", "a.de"), PAIRS, strict=True):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder / "a.en", folder / "a.de"


@pytest.fixture(scope="session")
def backward(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the other direction."""
    swapped = tmp_path_factory.mktemp("swapped")
    for name, other in (("corpus.en", "corpus.de"), ("corpus.de", "corpus.en")):
        (swapped / name).write_bytes((corpus / other).read_bytes())
    folder = tmp_path_factory.mktemp("runs") / "backward"
    outcome = train_tiny(swapped, "transformer", folder, "training.max_steps=10", "training.validate_every=10")
    assert outcome.code == 0, outcome.err
    return folder


def links(row: str) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in (link.split("-") for link in row.split())}


def test_given_pairs(seq2seq: Runner, run: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = seq2seq("align", run, "--source", files[0], "--target", files[1])
    assert outcome.code == 0, outcome.err
    rows = outcome.out.split("\n")
    assert rows[1] == rows[3] == ""
    for row, source, target in zip(rows[:3], *PAIRS, strict=True):
        assert sorted(j for _, j in links(row)) == list(range(len(target.split())))
        assert all(i < len(source.split()) for i, _ in links(row))
    kept = tmp_path / "links"
    assert seq2seq("align", run, "-s", files[0], "-t", files[1], "-o", kept, "--layer", "1").code == 0
    assert kept.read_text(encoding="utf-8").count("\n") == 3
    found = seq2seq("align", run, "-s", files[0], "-t", files[1], "--json").out.splitlines()
    assert [json.loads(line)["links"] for line in found] == [
        [list(link) for link in sorted(links(r))] for r in rows[:3]
    ]


def test_translations_come_with_their_links(seq2seq: Runner, run: Path) -> None:
    text = "".join(line + "\n" for line in PAIRS[0]).encode()
    outcome = seq2seq("align", run, stdin=text)
    assert outcome.code == 0, outcome.err
    rows = [row.split("\t") for row in outcome.out.splitlines()]
    assert [row[0] for row in rows] == seq2seq("translate", run, stdin=text).out.splitlines()
    for row, source in zip(rows, PAIRS[0], strict=True):
        assert sorted(j for _, j in links(row[1])) == list(range(len(row[0].split()) if source else 0))


def test_both_directions(seq2seq: Runner, run: Path, backward: Path, files: tuple[Path, Path]) -> None:
    given = ("-s", files[0], "-t", files[1])

    def rows(*arguments: object) -> list[set[tuple[int, int]]]:
        outcome = seq2seq("align", *arguments)
        assert outcome.code == 0, outcome.err
        return [links(row) for row in outcome.out.split("\n")[:3]]

    forward = rows(run, *given)
    other = [{(i, j) for j, i in row} for row in rows(backward, "-s", files[1], "-t", files[0])]
    union = rows(run, *given, "--reverse", backward, "--symmetrise", "union")
    both = rows(run, *given, "--reverse", backward, "--symmetrise", "intersection")
    assert union == [one | two for one, two in zip(forward, other, strict=True)]
    assert both == [one & two for one, two in zip(forward, other, strict=True)]
    grown = rows(run, *given, "--reverse", backward)
    assert all(few <= some <= many for few, some, many in zip(both, grown, union, strict=True))


@pytest.mark.parametrize("kind", ["svg", "png", "html", "txt"])
def test_pictures(seq2seq: Runner, run: Path, files: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{kind}"
    given = ("-s", files[0], "-t", files[1], "--line", "3")
    outcome = seq2seq("align", run, *given, "--picture", path, "--layer", "all", "--head", "all")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    content = path.read_bytes()
    match kind:
        case "svg":
            assert "schläft" not in content.decode()
            assert "trinkt" in "".join(ElementTree.fromstring(content).itertext())
        case "png":
            assert content.startswith(b"\x89PNG")
        case "html":
            assert b"trinkt" in content
        case "txt":
            assert "trinkt" in content.decode()


def test_picture_in_the_terminal(seq2seq: Runner, run: Path) -> None:
    outcome = seq2seq("align", run, "--picture", "-", stdin=b"The man sleeps .\n")
    assert outcome.code == 0, outcome.err
    assert "</s>" in outcome.out


def assert_told(outcome: Outcome, code: int, message: str) -> None:
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_mistakes(seq2seq: Runner, run: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    given = ("-s", files[0], "-t", files[1])
    assert_told(seq2seq("align", run, "-t", files[1]), 2, "--target needs --source")
    assert_told(seq2seq("align", run, *given, "--layer", "9"), 2, "no layer 9: the model has one layer")
    assert_told(seq2seq("align", run, *given, "--layer", "last"), 2, "--layer last is neither")
    assert_told(seq2seq("align", run, *given, "--head", "0"), 2, "--head 0 is neither")
    assert_told(seq2seq("align", run, *given, "--head", "all"), 2, "--head all is for pictures")
    assert_told(seq2seq("align", run, *given, "--symmetrise", "both", "--reverse", run), 2, "no symmetrisation both")
    assert_told(seq2seq("align", run, *given, "--symmetrise", "union"), 2, "--symmetrise needs --reverse")
    assert_told(seq2seq("align", run, *given, "--picture", "a.gif"), 2, "no such kind of picture")
    assert_told(seq2seq("align", run, *given, "--picture", tmp_path / "no" / "a.svg"), 2, "cannot write")
    assert_told(seq2seq("align", run, *given, "--picture", "-", "--line", "4"), 2, "--line 4 is beyond the end")
    assert_told(seq2seq("align", run, *given, "--picture", "-", "--reverse", run), 2, "--picture shows one run")
    assert_told(seq2seq("align", run, *given, "--line", "2"), 2, "--line is for pictures")
    assert_told(seq2seq("align", run, *given, "--target-tag", "fr"), 2, "the run knows no target tag fr")
    assert_told(seq2seq("align", run, *given, "-o", tmp_path / "no" / "links"), 2, "cannot write")
    assert_told(seq2seq("align", run, *given, "--errors", "ignore"), 2, "--errors ignore")
    assert_told(seq2seq("align", run, "-s", tmp_path / "none"), 3, "no such file")
    short = tmp_path / "short.de"
    short.write_text("Der Mann .\n", encoding="utf-8")
    outcome = seq2seq("align", run, "-s", files[0], "-t", short)
    assert_told(outcome, 3, "the source has 3 lines, the target 1")
    assert_told(seq2seq("align", tmp_path), 5, "error: ")
    (tmp_path / "bad.en").write_bytes(b"a\xff\n")
    assert_told(seq2seq("align", run, "-s", tmp_path / "bad.en"), 3, "not UTF-8")
    assert seq2seq("align", run, "-s", tmp_path / "bad.en", "--errors", "replace").code == 0
