"""Configs for files of one's own: sizes that work, names that can be kept."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from seq2seq.cli.new_config import as_overrides, named_corpora, settings_for
from seq2seq.cli.train import _wanted_kind, _without_config
from seq2seq.config import load_config
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.files import read_lines
from seq2seq.tokenizers.pair import train_tokenizers
from tests.cli.conftest import Runner

SCRIPTS = {"ja": range(0x4E00, 0x5600), "am": range(0x1200, 0x1340), "de": [*range(97, 123)]}


@pytest.mark.parametrize(("language", "least", "most"), [("de", 500, 500), ("am", 600, 800), ("ja", 700, 3100)])
def test_the_vocabulary_fits_the_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, least: int, most: int
) -> None:
    """500 entries were chosen for 300 lines of Japanese, and then refused: the characters alone needed 1,300."""
    monkeypatch.chdir(tmp_path)
    letters, randomness = [chr(code) for code in SCRIPTS[language]], random.Random(1)
    frequencies = [1 / rank for rank in range(1, len(letters) + 1)]
    lines = ["".join(randomness.choices(letters, frequencies, k=20)) for _ in range(400)]
    Path(f"c.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("c.en").write_text("a small dog\n" * 400, encoding="utf-8")
    corpora = named_corpora("c.en", f"c.{language}", None, None, None)
    assert corpora is not None
    config = load_config([], as_overrides(settings_for(corpora)))
    assert least <= config.tokenizer.vocabulary_size <= most
    pair = train_tokenizers(config.tokenizer, lambda: zip(*map(read_lines, ("c.en", f"c.{language}")), strict=True), 1)
    frequent = lines[0][:1] + letters[0] * 3
    assert "<0x" not in "".join(pair.target.pieces(pair.target.encode([frequent])[0]))


@pytest.mark.parametrize(
    "command",
    [
        ("init", "-s", "caf\udce9.en", "-t", "c.de"),
        ("train", "-s", "c.en", "-t", "c.de", "-o", "r\udce9"),
        ("tokenizer", "train", "-s", "caf\udce9.en", "-t", "c.de", "-o", "tok"),
        ("data", "prepare", "data.train=[{source: caf\udce9.en, target: c.de}]"),
    ],
)
def test_a_name_that_is_not_utf8_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seq2seq: Runner, command: tuple[str, ...]
) -> None:
    """File names of old disks and zips ended in a UnicodeEncodeError, since configs and records are UTF-8."""
    monkeypatch.chdir(tmp_path)
    outcome = seq2seq(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert "not UTF-8" in outcome.err
    assert "\\xe9" in outcome.err
    assert not list(tmp_path.iterdir())


def test_the_hint_renames_a_file_whose_name_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seq2seq: Runner
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path(os.fsdecode(b"it's caf\xe9.en")).write_text("x\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    outcome = seq2seq("init", "-s", os.fsdecode(b"it's caf\xe9.en"), "-t", "c.de")
    subprocess.run(["bash", "-c", outcome.err.partition("rename it: ")[2]], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["it's café.en"]


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("preset=gru", "gru"),
        ("preset=transformer-base", "transformer"),
        ("model.kind=gru", "gru"),
        ("model.ff_size=64", "transformer"),
        ("model.cell=lstm", "gru"),
        ("model.dropout=0.1", "auto"),
    ],
)
def test_settings_of_the_command_line_ask_for_an_architecture(setting: str, kind: str) -> None:
    assert _wanted_kind({setting.partition("=")[0]}, [setting]) == kind


@pytest.mark.parametrize("preset", ["gru", "transformer-tiny", "transformer-base"])
def test_a_preset_is_what_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """Choices for the size of the corpus took its place: `preset=gru` trained a Transformer."""
    monkeypatch.chdir(tmp_path)
    for language in ("en", "de"):
        Path(f"c.{language}").write_text("a small dog\n" * 400, encoding="utf-8")
    corpora = named_corpora("c.en", "c.de", None, None, None)
    assert corpora is not None
    own = [f"preset={preset}"]
    _, suggested, reasons = _without_config(corpora, own, None, is_new=True)
    config, asked = load_config([], own, suggested), load_config([], own)
    assert config.model == asked.model
    assert config.training.optimizer == asked.training.optimizer
    assert config.training.batch_size == asked.training.batch_size
    assert config.data.train == (corpora.train,)
    assert not any(key.startswith("model.") for key in reasons)


def test_keys_of_an_architecture_choose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a GRU was unknown, where no config said that the model is one."""
    monkeypatch.chdir(tmp_path)
    for language in ("en", "de"):
        Path(f"c.{language}").write_text("a small dog\n" * 400, encoding="utf-8")
    corpora = named_corpora("c.en", "c.de", None, None, None)
    assert corpora is not None
    _, suggested, _ = _without_config(corpora, ["model.cell=lstm"], None, is_new=True)
    assert load_config([], ["model.cell=lstm"], suggested).model.kind == "rnn"


@pytest.mark.parametrize("exchanged", [True, False])
def test_exchanged_sides_are_told_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], exchanged: bool
) -> None:
    """Only `data check` knew, and the run had false labels for its sides."""
    pytest.importorskip("py3langid")
    monkeypatch.chdir(tmp_path)
    english = ["The children are playing in the garden behind the house.", "Where is the nearest railway station?"]
    german = ["Die Kinder spielen im Garten hinter dem Haus.", "Wo ist der nächste Bahnhof von hier aus?"]
    for name, text in zip(("en", "de"), (german, english) if exchanged else (english, german), strict=True):
        Path(f"c.{name}").write_text("".join(f"{line}\n" for line in text * 100), encoding="utf-8")
    corpora = named_corpora("c.en", "c.de", None, None, None)
    assert corpora is not None
    settings_for(corpora)
    assert ("the source is de and the target en, named en and de" in capsys.readouterr().err) == exchanged


def test_faults_of_the_corpus_are_told_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever did not know of `data check` trained on misaligned lines or copies without a word."""
    monkeypatch.chdir(tmp_path)
    pairs = [pair for pair in builtin_pairs("demo", "train") if pair[0] != pair[1]][:300]
    for faulty in (0, 60):
        lines = [(left, left if number < faulty else right) for number, (left, right) in enumerate(pairs)]
        Path("c.tsv").write_text("".join(f"{left}\t{right}\n" for left, right in lines), encoding="utf-8")
        corpora = named_corpora(None, None, "c.tsv", None, None)
        assert corpora is not None
        settings_for(corpora)
        told = "faults in the first 300 pairs: source copied to target" in capsys.readouterr().err
        assert told == bool(faulty)


class _Articles:
    """Identifies English and German by their articles, in place of py3langid."""

    available = True

    def __call__(self, text: str, least: float = 0.0) -> str:
        words = set(text.casefold().split())
        return "en" if "the" in words else "de" if words & {"die", "das", "im", "der"} else ""


@pytest.mark.parametrize(
    ("names", "source", "expected"),
    [
        (("a.txt", "b.txt"), "the children of the house", ("en", "de")),
        (("a.txt", "b.de"), "the children of the house", ("en", "de")),
        (("a.fr", "b.txt"), "the children of the house", ("fr", "tgt")),
        (("a.txt", "b.txt"), "wo ist der bahnhof", ("src", "tgt")),
        (("a.txt", "b.txt"), "1 2 3", ("src", "tgt")),
    ],
)
def test_languages_that_no_name_tells_come_from_the_text(
    names: tuple[str, str],
    source: str,
    expected: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("seq2seq.checks.identified_languages.Identifier", _Articles)
    for name, line in zip(names, (source, "die kinder spielen im garten"), strict=True):
        Path(name).write_text(f"{line}\n" * 50, encoding="utf-8")
    corpora = named_corpora(*names, None, None, None)
    assert corpora is not None
    assert corpora.languages == expected
