"""Fine-tuning by the command line: new files and a run are enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seq2seq.config import load_config
from seq2seq.data.demo import builtin_pairs
from tests.cli.conftest import Runner
from tests.parallel_text import write_pairs

QUICK = [
    "training.max_steps=3",
    "training.validate_every=3",
    "training.metric=loss",
    "decoding.beam_size=1",
    "decoding.max_length_ratio=1",
    "decoding.max_length_offset=1",
]


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options that name a new corpus of 60 pairs."""
    source, target = write_pairs(tmp_path_factory.mktemp("new"), builtin_pairs("demo", "train")[900:960], "new")
    return ["--source", source, "--target", target]


def test_new_files_and_a_run_are_enough(run: Path, new: list[object], seq2seq: Runner, tmp_path: Path) -> None:
    """A config of its own had to be written, and nothing told what the model had forgotten."""
    command = ["train", *new, "--init-from", run, "-o", tmp_path / "tuned", *QUICK]
    outcome = seq2seq(*command)
    assert outcome.code == 0, outcome.err
    assert "training.optimizer.learning_rate: 0.00167  # a third of the earlier peak" in outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["test", "set", "sentences", "metric", "before", "after", "signature"] in rows
    assert [row[:3] for row in rows if row[:1] in (["new"], ["old"])] == [
        ["new", "3", "BLEU"],
        ["new", "3", "chrF"],
        ["old", "20", "BLEU"],
        ["old", "20", "chrF"],
    ]
    assert "Before and after fine-tuning" in (tmp_path / "tuned" / "report.html").read_text(encoding="utf-8")
    assert f"pairs of {run}, 50% of an epoch" in (tmp_path / "tuned" / "report.html").read_text(encoding="utf-8")

    again = seq2seq(*command, "--json")
    assert again.code == 0, again.err
    found = json.loads(again.out)
    assert found["start"]["run"] == str(run)
    assert found["old_test"]["sentences"] == 20

    refused = seq2seq("train", *new, "-o", run)
    assert refused.code == 2
    assert f"training.init_from={run} fine-tunes this model" in refused.err


def test_init_writes_the_recipe_with_its_reasons(gru: Path, new: list[object], seq2seq: Runner, tmp_path: Path) -> None:
    outcome = seq2seq("init", *new, "--init-from", gru, "--budget", "5m", tmp_path / "tuned.yaml")
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "tuned.yaml").read_text(encoding="utf-8")
    assert "# a third of the earlier peak" in text
    config = load_config([tmp_path / "tuned.yaml"])
    assert (config.training.replay, config.training.budget_minutes, config.data.holdout) == (0.5, 5, 3)
    assert config.model == load_config([gru / "config.yaml"]).model
    assert seq2seq("init", *new, "--init-from", gru, "--model", "gru", "-").code == 2


def test_the_cost_of_a_fine_tuning_is_foreseen(gru: Path, new: list[object], seq2seq: Runner, tmp_path: Path) -> None:
    quick = [setting for setting in QUICK if "steps" not in setting and "every" not in setting]
    outcome = seq2seq("train", *new, "--init-from", gru, "--dry-run", "--budget", "20s", "--json", *quick)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert 1 <= found["steps"] <= 75
    assert found["budget_minutes"] == pytest.approx(1 / 3, rel=1e-3)


def test_a_model_with_an_extended_vocabulary_is_used_like_any_other(
    transformer: Path, seq2seq: Runner, tmp_path: Path
) -> None:
    """Resumed, translated with, exported; the vocabulary of the new run is fixed from its start."""
    lines = ["Кошка спит в доме.", "Собака видит дом.", "Дом большой."] * 10
    for name in ("new.en", "new.de"):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    tuned = tmp_path / "tuned"
    command = ["train", "--source", tmp_path / "new.en", "--target", tmp_path / "new.de", "--init-from", transformer]
    command += ["tokenizer.extend=true", "data.cleaning.drop_duplicates=false", "data.holdout=0", *QUICK, "-o", tuned]
    outcome = seq2seq(*command, "training.replay=0")
    assert outcome.code == 0, outcome.err
    assert "entries are new in the vocabulary" in outcome.err
    assert "single bytes" not in outcome.err
    vocabulary = (tuned / "tokenizer" / "joint.model").read_bytes()
    (tuned / "results.json").unlink()
    more = [setting.replace("max_steps=3", "max_steps=4") for setting in map(str, command)]
    resumed = seq2seq(*more, "training.replay=0")
    assert resumed.code == 0, resumed.err
    assert "resuming from step 3" in resumed.err
    assert (tuned / "tokenizer" / "joint.model").read_bytes() == vocabulary
    assert seq2seq("translate", tuned, stdin="Дом большой.\n".encode()).code == 0
    pytest.importorskip("ctranslate2")
    exported = seq2seq("export", tuned, "--format", "ctranslate2")
    assert exported.code == 0, exported.err
