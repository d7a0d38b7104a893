"""`seq2seq align`: links and pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Outcome, Runner, shared_run, train_tiny

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
    steps = ("training.max_steps=10", "training.validate_every=10", "training.schedule.warmup_steps=3")
    settings = (*steps, "data.holdout=2", "decoding.beam_size=1")
    languages = ("data.source_language=de", "data.target_language=en")

    def train(folder: Path) -> Outcome:
        return train_tiny(swapped, "transformer", folder, *settings, *languages)

    return shared_run(tmp_path_factory, "backward", train)


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


def test_both_directions(seq2seq: Runner, transformer: Path, backward: Path, files: tuple[Path, Path]) -> None:
    given = ("-s", files[0], "-t", files[1])

    def rows(*arguments: object) -> list[set[tuple[int, int]]]:
        outcome = seq2seq("align", *arguments)
        assert outcome.code == 0, outcome.err
        return [links(row) for row in outcome.out.split("\n")[:3]]

    forward = rows(transformer, *given)
    other = [{(i, j) for j, i in row} for row in rows(backward, "-s", files[1], "-t", files[0])]
    union = rows(transformer, *given, "--reverse", backward, "--symmetrise", "union")
    both = rows(transformer, *given, "--reverse", backward, "--symmetrise", "intersection")
    assert union == [one | two for one, two in zip(forward, other, strict=True)]
    assert both == [one & two for one, two in zip(forward, other, strict=True)]
    grown = rows(transformer, *given, "--reverse", backward)
    assert all(few <= some <= many for few, some, many in zip(both, grown, union, strict=True))


def test_two_runs_of_one_direction_are_not_made_one(
    seq2seq: Runner, transformer: Path, backward: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """--reverse took a run of the same direction, and what came out was nonsense.

    What the models make of the text decides; where they have learnt too little for that, as here, the languages that
    their configs name, and a run is not its own reverse.
    """
    given = ("-s", files[0], "-t", files[1])
    other, unnamed = tmp_path / "other", tmp_path / "unnamed"
    for copy, source, target in ((other, "en", "de"), (unnamed, "src", "tgt")):
        shutil.copytree(backward, copy, symlinks=True)
        config = (copy / "config.yaml").read_text(encoding="utf-8")
        config = config.replace("source_language: de", f"source_language: {source}")
        (copy / "config.yaml").write_text(config.replace("target_language: en", f"target_language: {target}"))
    for wrong in (transformer, other):
        outcome = seq2seq("align", transformer, *given, "--reverse", wrong, "-o", tmp_path / "links")
        assert_told(outcome, 2, f"{wrong} translates in the same direction as {transformer}")
        assert "hint: name a run that was trained with source and target exchanged" in outcome.err
        assert not (tmp_path / "links").exists()
    assert seq2seq("align", transformer, *given, "--reverse", unnamed).code == 0


def test_a_trained_model_tells_the_direction(
    seq2seq: Runner, transformer: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configs may be silent, or wrong: files that are called corpus.en have been seen to hold German."""
    monkeypatch.setattr("seq2seq.decoding.forced_decoding._CLEAR", 0.2)  # the run has learnt little
    copy = tmp_path / "copy"
    shutil.copytree(transformer, copy, symlinks=True)
    config = (copy / "config.yaml").read_text(encoding="utf-8")
    config = config.replace("source_language: en", "source_language: de")
    (copy / "config.yaml").write_text(config.replace("target_language: de", "target_language: en"))
    texts = []
    for name in ("corpus.en", "corpus.de"):
        texts.append(tmp_path / name)
        lines = (corpus / name).read_text(encoding="utf-8").splitlines()[:20]
        texts[-1].write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    outcome = seq2seq("align", transformer, "-s", texts[0], "-t", texts[1], "--reverse", copy)
    assert_told(outcome, 2, f"{copy} translates in the same direction as {transformer}")
    outcome = seq2seq("align", transformer, "-s", texts[0], "-t", texts[1])
    assert (outcome.code, outcome.err) == (0, "")
    exchanged = seq2seq("align", transformer, "-s", texts[1], "-t", texts[0])
    assert exchanged.code == 0
    assert f"warning: {transformer} seems to translate the other way" in exchanged.err


@pytest.mark.parametrize("kind", ["svg", "png", "html", "txt"])
def test_pictures(seq2seq: Runner, transformer: Path, files: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{kind}"
    given = ("-s", files[0], "-t", files[1], "--line", "3")
    outcome = seq2seq("align", transformer, *given, "--picture", path, "--layer", "all", "--head", "all")
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


def test_picture_in_the_terminal(seq2seq: Runner, transformer: Path) -> None:
    outcome = seq2seq("align", transformer, "--picture", "-", stdin=b"The man sleeps .\n")
    assert outcome.code == 0, outcome.err
    assert "</s>" in outcome.out


def assert_told(outcome: Outcome, code: int, message: str) -> None:
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_mistakes(seq2seq: Runner, transformer: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    given = ("-s", files[0], "-t", files[1])
    assert_told(seq2seq("align", transformer, "-t", files[1]), 2, "--target needs --source")
    outcome = seq2seq("align", transformer, *given, "--layer", "9")
    assert_told(outcome, 2, "no layer 9: the model has one layer")
    assert "hint: --layer 1, or mean" in outcome.err
    assert_told(seq2seq("align", transformer, *given, "--layer", "last"), 2, "--layer last is neither")
    assert_told(seq2seq("align", transformer, *given, "--head", "0"), 2, "--head 0 is neither")
    assert_told(seq2seq("align", transformer, *given, "--head", "all"), 2, "--head all is for pictures")
    assert_told(
        seq2seq("align", transformer, *given, "--symmetrise", "both", "--reverse", transformer),
        2,
        "--symmetrise both is none of intersection, ",
    )
    assert_told(seq2seq("align", transformer, *given, "--symmetrise", "union"), 2, "--symmetrise needs --reverse")
    assert_told(seq2seq("align", transformer, *given, "--picture", "a.gif"), 2, "no such kind of picture")
    assert_told(seq2seq("align", transformer, *given, "--picture", tmp_path / "no" / "a.svg"), 2, "cannot write")
    assert_told(seq2seq("align", transformer, *given, "--picture", "-", "--line", "4"), 2, "--line 4 is beyond the end")
    assert_told(
        seq2seq("align", transformer, *given, "--picture", "-", "--reverse", transformer), 2, "--picture shows one run"
    )
    assert_told(seq2seq("align", transformer, *given, "--line", "2"), 2, "--line is for pictures")
    # Links are of words, with or without it: it was taken in silence.
    assert_told(seq2seq("align", transformer, *given, "--subwords"), 2, "--subwords needs --picture")
    # The links were promised to a file, a picture was drawn, and the file was never written.
    drawn = ("--picture", tmp_path / "a.svg")
    outcome = seq2seq("align", transformer, *given, *drawn, "-o", tmp_path / "links")
    assert_told(outcome, 2, "--picture and --output exclude each other: it is drawn instead of links")
    assert_told(seq2seq("align", transformer, *given, *drawn, "--json"), 2, "--picture and --json exclude each other")
    assert not (tmp_path / "a.svg").exists()
    assert_told(seq2seq("align", transformer, *given, "--target-tag", "fr"), 2, "the run knows no target tag fr")
    assert_told(seq2seq("align", transformer, *given, "-o", tmp_path / "no" / "links"), 2, "cannot write")
    assert_told(seq2seq("align", transformer, *given, "--errors", "ignore"), 2, "--errors ignore")
    assert_told(seq2seq("align", transformer, "-s", tmp_path / "none"), 3, "no such file")
    short = tmp_path / "short.de"
    short.write_text("Der Mann .\n", encoding="utf-8")
    outcome = seq2seq("align", transformer, "-s", files[0], "-t", short)
    assert_told(outcome, 3, f"{files[0]} has 3 lines, but {short} has 1")
    assert_told(seq2seq("align", tmp_path), 5, "error: ")
    (tmp_path / "bad.en").write_bytes(b"a\xff\n")
    assert_told(seq2seq("align", transformer, "-s", tmp_path / "bad.en"), 3, "not UTF-8")
    assert seq2seq("align", transformer, "-s", tmp_path / "bad.en", "--errors", "replace").code == 0
