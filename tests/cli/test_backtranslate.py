"""`seq2seq backtranslate`: aligned files, reasons for every dropped line, and nothing translated twice."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from statistics import median

import pytest

from seq2seq import failpoints
from seq2seq.config import load_config
from seq2seq.data.demo import builtin_pairs
from seq2seq.decoding.workers import Parallelism
from seq2seq.synthesis.translations import read_translations
from tests.cli.conftest import Runner

ODD = {"": "empty", "\u200b": "empty", "12 : 30 !": "no letter", "word " * 300: "too long"}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Sentences that the run was neither trained nor tested on, as monolingual text is."""
    return list(dict.fromkeys(source for source, _ in builtin_pairs("demo", "train")[2000:2030]))


@pytest.fixture
def mono(texts: list[str], transformer: Path, tmp_path: Path) -> list[Path]:
    """Two files, the second with lines that make no pair."""
    first, second = tmp_path / "first.en", tmp_path / "second.en.gz"
    first.write_text("".join(f"{text}\n" for text in texts[:20]), encoding="utf-8")
    held_out = (transformer / "valid.source").read_text(encoding="utf-8").splitlines()[0]
    lines = [texts[20], *ODD, f"  {texts[3]} ", held_out, *texts[21:]]
    second.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return [first, second]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_pairs_are_aligned_and_every_dropped_line_has_a_reason(
    transformer: Path, mono: list[Path], texts: list[str], seq2seq: Runner, tmp_path: Path
) -> None:
    outcome = seq2seq("backtranslate", transformer, *mono, "-o", tmp_path / "bt", "--json", "--max-ratio", 99)
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    sources, targets = lines_of(tmp_path / "bt.de"), lines_of(tmp_path / "bt.en")
    assert len(sources) == len(targets) == facts["kept"]
    assert set(targets) <= set(texts)
    assert {key: facts[key] for key in ("read", "empty", "no letter", "too long", "duplicate", "held out")} == {
        "read": len(texts) + len(ODD) + 2,
        "empty": 2,
        "no letter": 1,
        "too long": 1,
        "duplicate": 1,
        "held out": 1,
    }
    receipt = [row.split("\t") for row in lines_of(tmp_path / "bt.receipt.tsv")[1:]]
    assert len(receipt) == facts["read"] - facts["kept"]
    second = str(mono[1])
    expected = [[second, str(number), "dropped", reason] for number, reason in enumerate(ODD.values(), start=2)]
    assert [row[:4] for row in receipt if row[3] in ODD.values()] == expected
    # Each source is what the run says of its target.
    outcome = seq2seq("translate", transformer, tmp_path / "bt.en")
    assert outcome.out.split("\n")[:-1] == sources


def test_the_config_reads_both_corpora(
    transformer: Path, mono: list[Path], seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own corpus with exchanged sides, and the tagged one, in one command."""
    monkeypatch.chdir(tmp_path)
    outcome = seq2seq("backtranslate", transformer, mono[0], "-o", "bt", "--max-ratio", 99)
    assert outcome.code == 0, outcome.err
    assert "tag: BT" in outcome.out
    assert "next: seq2seq train CONFIG bt.yaml" in outcome.err
    data = load_config(["bt.yaml"]).data
    own = load_config([transformer / "config.yaml"]).data
    assert [source.tag for source in data.train] == [None, "BT"]
    assert (data.train[0].source, data.train[0].target) == (own.train[0].target, own.train[0].source)
    assert (data.source_language, data.target_language, data.holdout) == ("de", "en", own.holdout)
    assert own.holdout
    outcome = seq2seq("backtranslate", transformer, mono[0], "-o", "untagged", "--tag", "none")
    assert (outcome.code, "synthetic ones would be among them" in outcome.err) == (2, True)
    outcome = seq2seq("data", "prepare", "bt.yaml", "tokenizer.vocabulary_size=400", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["corpora"][1] == len(lines_of(tmp_path / "bt.en"))
    assert json.loads(outcome.out)["overlap"] == {"valid": 0, "test": 0}


def test_an_interrupted_command_goes_on_and_filters_anew(
    transformer: Path, mono: list[Path], seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parallelism, "chunk_lines", 8)
    command = ("backtranslate", transformer, *mono, "--max-ratio", 99, "--workers", 1)
    whole = tmp_path / "whole"
    assert seq2seq(*command, "-o", whole).code == 0
    monkeypatch.setenv(failpoints.VARIABLE, "output.record=memory@3")
    failpoints.forget()
    outcome = seq2seq(*command, "-o", tmp_path / "bt")
    monkeypatch.delenv(failpoints.VARIABLE)
    failpoints.forget()
    assert outcome.code == 7
    assert not (tmp_path / "bt.en").exists()
    outcome = seq2seq(*command, "-o", tmp_path / "bt", "--resume")
    assert outcome.code == 0, outcome.err
    assert "16 lines of" in outcome.err
    names = ("de", "en", "receipt.tsv", "translations.tsv")
    for name in names:
        assert (tmp_path / f"bt.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    # A second time, the translations are only filtered: the worst half goes.
    outcome = seq2seq(*command, "-o", tmp_path / "bt", "--resume", "--drop-worst", 0.5, "--json")
    assert outcome.code == 0, outcome.err
    assert "nothing is translated again" in outcome.err
    facts = json.loads(outcome.out)
    assert facts["kept"] + facts["score"] == len(lines_of(whole.with_suffix(".en")))
    middle = median(found.score for found in read_translations(tmp_path / "bt.translations.tsv"))
    details = [row.split("\t") for row in lines_of(tmp_path / "bt.receipt.tsv")]
    assert 0 < len([row for row in details if row[3] == "score" and float(row[4]) <= middle]) == facts["score"]
    assert set(lines_of(tmp_path / "bt.en")) < set(lines_of(tmp_path / "whole.en"))


def test_translations_of_another_command_are_kept(
    transformer: Path, gru: Path, mono: list[Path], seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(transformer, tmp_path / "run")  # a shortlist is kept with it
    command = ("backtranslate", run, mono[0], "-o", "bt", "--max-ratio", 99)
    assert seq2seq(*command).code == 0
    before = Path("bt.translations.tsv").read_bytes()
    for words, code, what in (
        ((), 2, "exists  [usage.exists]\n  hint: --resume filters its translations again, if this run made them"),
        (("--resume", "-b", 2), 2, "beam_size: not given -> 2"),
        (("--resume", "--shortlist"), 2, "shortlist: not given -> yes"),
        (("--resume", mono[1]), 3, "other lines"),
    ):
        outcome = seq2seq(*command, *words)
        assert outcome.code == code
        assert what in outcome.err
        assert Path("bt.translations.tsv").read_bytes() == before
    outcome = seq2seq("backtranslate", gru, *command[2:], "--resume")
    assert (outcome.code, "(another run, or another checkpoint of it)" in outcome.err) == (2, True)


def test_a_config_of_the_user_is_not_replaced(
    transformer: Path, mono: list[Path], seq2seq: Runner, tmp_path: Path
) -> None:
    """`-o mine` beside mine.yaml: nothing says that the name stands for a config, too."""
    (tmp_path / "mine.yaml").write_text("name: mine\n", encoding="utf-8")
    for words in ((), ("--resume",)):
        outcome = seq2seq("backtranslate", transformer, mono[0], "-o", tmp_path / "mine", *words)
        assert (outcome.code, "mine.yaml exists" in outcome.err) == (2, True)
    assert [path.name for path in tmp_path.glob("mine*")] == ["mine.yaml"]


def test_a_damaged_file_of_translations_is_refused(
    transformer: Path, mono: list[Path], seq2seq: Runner, tmp_path: Path
) -> None:
    (tmp_path / "bt.translations.tsv").write_text("cut in the mid", encoding="utf-8")
    outcome = seq2seq("backtranslate", transformer, mono[0], "-o", tmp_path / "bt", "--resume")
    assert (outcome.code, "damaged" in outcome.err) == (3, True)


def test_text_of_the_wrong_side_is_refused(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """A forward model makes "translations" of its own language, and training on them does harm without a word."""
    run = shutil.copytree(transformer, tmp_path / "run", symlinks=True)
    pairs = builtin_pairs("demo", "train")[600:800]
    for number, side in enumerate(("source", "target")):
        (run / f"valid.{side}").write_text("".join(f"{pair[number]}\n" for pair in pairs), encoding="utf-8")
    (run / "data.json").unlink()
    text = tmp_path / "mono.de"
    text.write_text("".join(f"{target}\n" for _, target in pairs[:50]), encoding="utf-8")
    outcome = seq2seq("backtranslate", run, text, "-o", tmp_path / "bt")
    assert outcome.code == 3
    assert "data.direction" in outcome.err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--method", "greedy"), "none of beam, sampling and noised-beam"),
        (("--top-k", 10), "--top-k needs --method sampling"),
        (("--method", "sampling", "-b", 2), "--beam-size needs"),
        (("--method", "sampling", "--shortlist"), "--shortlist needs"),
        (("--tag", "bt"), "a capital letter"),
    ],
)
def test_options_that_do_not_fit(options: tuple[object, ...], what: str, seq2seq: Runner, tmp_path: Path) -> None:
    outcome = seq2seq("backtranslate", tmp_path, "x", "-o", tmp_path / "bt", *options)
    assert outcome.code == 2
    assert what in outcome.err
