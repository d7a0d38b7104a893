"""Configs for the user's own files: two texts, tables, translation memories."""

from __future__ import annotations

from pathlib import Path

import pytest

from seq2seq.cli.new_config import as_overrides, config_for, named_corpora, settings_for
from seq2seq.cli.options import split_arguments
from seq2seq.config import load_config
from seq2seq.config.sources import CsvSource, TextSource, TmxSource, TsvSource
from seq2seq.errors import ConfigError, UsageError

NOUNS = ("A dog", "Hund"), ("Snow", "Schnee"), ("The old man", "Opa"), ("My car", "Auto"), ("Everyone", "Alle")
PAIRS = [(f"{NOUNS[n % 5][0]} has number {n}.", f"{NOUNS[n % 5][1]} mit Nummer {n}.") for n in range(40)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("all.tsv").write_text("id\ten\tde\n" + "".join(f"{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(PAIRS)))
    Path("some.csv").write_text("".join(f'"{b}","{a}"\n' for a, b in PAIRS[:12]))
    Path("v.en").write_text("a dog\n")
    Path("v.de").write_text("ein Hund\n")
    units = "".join(
        f'<tu><tuv xml:lang="en-GB"><seg>{a}</seg></tuv><tuv xml:lang="de"><seg>{b}</seg></tuv></tu>' for a, b in PAIRS
    )
    Path("all.tmx").write_text(f'<tmx version="1.4"><header srclang="en-GB"/><body>{units}</body></tmx>')


@pytest.mark.usefixtures("files")
def test_a_table_and_its_held_out_sets() -> None:
    corpora = named_corpora(None, None, "all.tsv", ["v.en", "v.de"], ["all.tsv"])
    assert corpora is not None
    assert corpora.train == TsvSource(tsv="all.tsv", source="en", target="de")
    assert corpora.valid == [TextSource(source="v.en", target="v.de")]
    assert (corpora.test, corpora.languages) == ([corpora.train], ("en", "de"))
    Path("my.yaml").write_text(config_for(corpora, kind="auto", name="my"))
    written, direct = load_config(["my.yaml"], []), load_config([], [], as_overrides(settings_for(corpora)))
    assert written.model_dump(exclude={"name"}) == direct.model_dump(exclude={"name"})
    assert written.data.train == (corpora.train,)
    assert "holdout" not in Path("my.yaml").read_text()


@pytest.mark.usefixtures("files")
def test_columns_and_languages_can_be_named() -> None:
    corpora = named_corpora("de", "en", "all.tsv", None, ["v.de", "v.en"])
    assert corpora is not None
    assert (corpora.train, corpora.languages) == (TsvSource(tsv="all.tsv", source="de", target="en"), ("de", "en"))
    text = config_for(corpora, kind="gru", name="my")
    assert "pairs for validation, never trained on" in text
    corpora = named_corpora("1", "0", "some.csv", None, None)
    assert corpora is not None
    assert corpora.train == CsvSource(csv="some.csv", source=1, target=0)
    corpora = named_corpora(None, None, "all.tmx", None, None)
    assert corpora is not None
    assert corpora.train == TmxSource(tmx="all.tmx", source="en", target="de")
    assert "tmx: all.tmx" in config_for(corpora, kind="auto", name="my")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("source", "pairs", "valid", "message"),
    [
        ("v.en", None, None, "belong together"),
        (None, None, ["v.en"], "--valid needs --pairs"),
        (None, "all.tsv", ["v.en", "v.de", "v.en"], "given 3 times"),
        ("fr", "all.tsv", None, "no column 'fr'"),
    ],
)
def test_options_that_do_not_fit(source: str | None, pairs: str | None, valid: list[str] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        named_corpora(source, None, pairs, valid, None)


def test_a_corpus_is_no_config() -> None:
    """`train corpus.tsv` was answered with a lesson about tabs in YAML."""
    with pytest.raises(ConfigError, match=r"seq2seq train --pairs a\.tsv\.gz"):
        split_arguments(["a.tsv.gz", "seed=3"])
    assert split_arguments(["my.yaml", "data.train=[{tsv: a.tsv}]"]) == (["my.yaml"], ["data.train=[{tsv: a.tsv}]"])
