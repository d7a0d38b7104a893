"""Scores of each corpus of a test set, at the end of a training, by `evaluate` and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seq2seq.config.sources import BuiltinSource, TextSource, short_names
from seq2seq.data.demo import builtin_pairs
from tests.cli.conftest import Runner, train_tiny
from tests.parallel_text import write_pairs

SETS = {"news2019": builtin_pairs("demo", "test")[:12], "talks": builtin_pairs("demo", "test")[12:30]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files of two test sets."""
    folder = tmp_path_factory.mktemp("sets")
    for name, pairs in SETS.items():
        write_pairs(folder, pairs, name)
    return {name: [folder / f"{name}.en", folder / f"{name}.de"] for name in SETS}


def test_every_corpus_is_scored(sets: dict[str, list[Path]], corpus: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """Each has the scores that it has alone, wherever they are shown; the whole set has scores of its own."""
    tests = ", ".join(f"{{source: {source}, target: {target}}}" for source, target in sets.values())
    run = tmp_path / "run"
    trained = train_tiny(corpus, "gru", run, f"data.test=[{tests}]", "training.max_steps=10")
    assert trained.code == 0, trained.err
    assert [line for line in trained.out.split("\n") if line.startswith("corpus ")] == [
        f"corpus {name}" for name in SETS
    ]
    recorded = json.loads((run / "results.json").read_bytes())["test"]
    assert recorded["sentences"] == 30
    found = json.loads(seq2seq("evaluate", run, "--json").out)
    assert [metric for metric in found if "corpus" not in metric] == recorded["metrics"]
    for name, (source, target) in sets.items():
        alone = json.loads(seq2seq("evaluate", run, "--source", source, "--references", target, "--json").out)
        assert all("corpus" not in metric for metric in alone)
        assert [metric for metric in found if metric.get("corpus") == name] == [
            metric | {"corpus": name} for metric in alone
        ]
        assert recorded["by_corpus"][name] == alone
        assert f"corpus {name}" in (run / "report.html").read_text(encoding="utf-8")
    again = train_tiny(corpus, "gru", run, f"data.test=[{tests}]", "training.max_steps=10")
    assert again.out == trained.out
    shown = seq2seq("evaluate", run).out
    assert shown.startswith(trained.out.rstrip("\n"))
    assert "corpus" not in seq2seq("evaluate", run, "--split", "valid").out


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a/news2019.en", "a/news2019.de.gz"), ["news2019"]),
        (("x/test.en", "x/test.de", "y/test.en", "y/test.de"), ["x/test.en | x/test.de", "y/test.en | y/test.de"]),
        (("t.en", "t.de", "t.en", "t.de", "u.en", "u.de"), ["t.en | t.de", "t.en | t.de (2)", "u.en | u.de"]),
        ((".en", ".de"), [".en | .de"]),
    ],
)
def test_names_tell_corpora_apart(files: tuple[str, ...], names: list[str]) -> None:
    sources = [TextSource(source=files[n], target=files[n + 1]) for n in range(0, len(files), 2)]
    assert short_names(sources) == names
    assert short_names([]) == []
    assert short_names([BuiltinSource(builtin="demo", split="test")]) == ["demo (test)"]
