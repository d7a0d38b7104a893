"""`--target-tag` of every command that reads source text; scores by target tag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seq2seq.config.sources import TextSource
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.runs import load as loading
from seq2seq.runs.loaded_run import LoadedRun
from tests.cli.conftest import Runner

TEXT = ["The old man drinks a cup of tea.", "", "I am here."]


@pytest.fixture
def tagged(transformer: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedRun:
    """The run that every command loads: as if it had been trained with a target tag before every text."""
    loaded = loading.load(transformer, threads=1)
    loaded.translator.tags = TargetTags(("<2de>", "<2fr>"))
    data = loaded.config.data
    sources = tuple(source.model_copy(update={"target_tag": "de"}) for source in data.train)
    loaded.config = loaded.config.model_copy(update={"data": data.model_copy(update={"train": sources})})
    pairs = [(f"<2{tag}> {line}", line) for tag in ("de", "fr", "fr") for line in TEXT if line]
    monkeypatch.setattr(loaded.directory, "load_pairs", lambda split: pairs)
    monkeypatch.setattr(loading, "load", lambda *given, **options: loaded)
    return loaded


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The text without tags, with tags, and a text of its length."""
    texts = {"plain": TEXT, "typed": [line and f"<2fr> {line}" for line in TEXT], "target": ["Ein Mann.", "", "Hier."]}
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return {name: tmp_path / name for name in texts}


@pytest.mark.parametrize(
    "words",
    [
        ("translate", "RUN", "plain", "--max-length", "3"),
        ("align", "RUN", "-s", "plain", "-t", "target", "--json"),
        ("score", "RUN", "-s", "plain", "-t", "target"),
        ("evaluate", "RUN", "-s", "plain", "-r", "target", "-b", "1"),
    ],
    ids=lambda words: words[0],
)
def test_the_tag_is_put_before_every_text(
    words: tuple[str, ...], tagged: LoadedRun, files: dict[str, Path], seq2seq: Runner
) -> None:
    """Only `translate` and `align` knew the option, and without it the model chose a language itself, with exit 0."""
    plain = [files.get(word, word) for word in words]
    typed = [files["typed"] if word == "plain" else files.get(word, word) for word in words]
    expected = seq2seq(*typed)
    assert expected.code == 0, expected.err
    assert "<2fr>" not in expected.out
    outcome = seq2seq(*plain, "--target-tag", "fr")
    assert (outcome.code, outcome.out) == (0, expected.out)
    for wrong, message in (((), "--target-tag is missing"), (("--target-tag", "xx"), "knows no target tag xx")):
        outcome = seq2seq(*plain, *wrong)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
        assert "de, fr" in outcome.err


def test_scores_by_target_tag(tagged: LoadedRun, seq2seq: Runner, tmp_path: Path) -> None:
    """Two languages were scored as one, which hides that the model writes one of them badly."""
    short = ("evaluate", "RUN", "-b", "1")
    found = json.loads(seq2seq(*short, "--json").out)
    names = [metric["name"] for metric in found if "target_tag" not in metric]
    assert [(metric["target_tag"], metric["name"]) for metric in found if "target_tag" in metric] == [
        (tag, name) for tag in ("de", "fr") for name in names
    ]
    assert "target tag fr" in seq2seq(*short).out
    one = seq2seq(*short, "--target-tag", "fr", "--json")
    assert [metric["value"] for metric in json.loads(one.out)] == [
        metric["value"] for metric in found if metric.get("target_tag") == "fr"
    ]
    assert "4 sentences" in one.err
    assert seq2seq(*short, "--target-tag", "xx").code == 2
    assert seq2seq("evaluate", "--hypotheses", "a", "-r", "b", "--target-tag", "fr").code == 2


def test_a_student_requires_the_tags_of_its_teacher(tagged: LoadedRun, tmp_path: Path) -> None:
    """Its corpus has the tags within its text."""
    data = tagged.config.data
    learned = TextSource(source="x.distilled/train.en", target="x.distilled/train.de")
    for train, required in (
        ((learned,), True),
        ((learned, *data.train), True),
        ((TextSource(source="a", target="b"),), False),
    ):
        tagged.config = tagged.config.model_copy(update={"data": data.model_copy(update={"train": train})})
        assert tagged.target_tags.required == required


def test_errors_about_tags_name_the_option_and_what_is_there(
    tagged: LoadedRun, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = seq2seq("check", "RUN")
    assert checked.code == 2
    assert "--target-tag is missing" in checked.err
    monkeypatch.setattr(tagged.directory, "load_pairs", lambda split: [("<2fr> x", "y")])
    evaluated = seq2seq("evaluate", "RUN", "--target-tag", "de")
    assert "has no text with <2de>" in evaluated.err
    assert "hint: its tags: fr" in evaluated.err
