"""Fine-tuning of a finished run: the recipe in its config, old pairs among the new, old and new test scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import checkpoint_of
from tests.parallel_text import write_pairs
from tests.runs.test_exact_resume import last_state
from tests.runs.test_exact_resume import run as train_and_stop

from seq2seq.checkpoints.checkpoint import load_checkpoint
from seq2seq.config import Config, load_config
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.order import Mixture
from seq2seq.errors import ConfigError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.doctor import examine
from seq2seq.runs.load import load
from seq2seq.runs.replay import earlier_data, training_mixture, with_replay
from seq2seq.runs.run_data import prepare_data
from seq2seq.runs.train import train

SIZE = [
    "model.hidden_size=16",
    "model.ff_size=32",
    "model.num_heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `old` on one corpus, and another corpus in `new`."""
    place = tmp_path_factory.mktemp("recipe")
    pairs = builtin_pairs("demo", "train")
    for name, some in (("corpus", pairs[:120]), ("new", pairs[300:340])):
        (place / name).mkdir()
        write_pairs(place / name, some)
    train_and_stop(place / "corpus", place / "old", [*SIZE, "training.optimizer.learning_rate=0.004"], None)
    return place


def tuned_config(place: Path, run: Path, *settings: str) -> Config:
    return load_config(
        [],
        [
            f"data.train=[{{source: {place}/new/corpus.en, target: {place}/new/corpus.de}}]",
            "data.holdout=4",
            f"training.init_from={place}/old",
            "training.metric=loss",
            "decoding.beam_size=1",
            "decoding.max_length_ratio=0.5",
            "devices=1",
            f"run_directory={run}",
            *settings,
        ],
    )


def test_the_recipe_is_in_the_config_and_the_scores_in_the_results(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rate, the steps and the warm-up of training from the start were taken, and what was lost was not seen."""
    config = tuned_config(folder, tmp_path / "run", "training.max_steps=4", "training.validate_every=2")
    train(config)
    said = capsys.readouterr().err
    text = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    stored = load_config([tmp_path / "run" / "config.yaml"]).training
    assert "learning_rate: 0.00133  # a third of the earlier peak" in said
    assert "# a third of the earlier peak" in text
    assert (stored.optimizer.learning_rate, stored.schedule.kind, stored.replay) == (0.00133, "constant", 0.5)
    assert stored.patience == 5
    assert "max_steps" not in said
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    for part in (results["start"]["test"], results["start"]["old_test"], results["old_test"], results["test"]):
        assert part["sentences"] == 4
        assert [metric["name"] for metric in part["metrics"]][:1] == ["BLEU"]
    old = json.loads((folder / "old" / "results.json").read_text(encoding="utf-8"))
    assert results["start"]["old_test"]["metrics"] == old["test"]["metrics"]  # decoded and scored alike
    assert results["start"]["checkpoint"] == checkpoint_of(folder / "old", "best").name
    assert RunDirectory(tmp_path / "run").load_pairs("old_test") == RunDirectory(folder / "old").load_pairs("test")
    assert examine(RunDirectory(tmp_path / "run")).verdict == "whole; finished"

    train(config)  # the same command prints the result of a finished run
    assert "is finished" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8") == text


def test_half_of_an_epoch_are_the_old_pairs(folder: Path, tmp_path: Path) -> None:
    config = tuned_config(folder, tmp_path / "run", "training.replay=0.5")
    old, directory = RunDirectory(folder / "old"), RunDirectory(tmp_path / "run")
    earlier = earlier_data(old)
    new = prepare_data(config, directory, earlier.tokenizers)
    joined = with_replay(new, config, directory)
    mixture = training_mixture(config, joined)
    assert mixture.sizes == (len(new.train), len(earlier.train))
    assert mixture.draws == (len(new.train), len(new.train))
    rows = np.concatenate([mixture.rows(seed=1, epoch=epoch, pool=0) for epoch in range(8)])
    assert set(rows.tolist()) == set(range(len(joined.train)))  # every old pair has its turn
    sources, _ = joined.train.rows([len(new.train)])
    assert np.array_equal(sources[0], earlier.train.rows([0])[0][0])
    assert Mixture((10, 6), (10, 3)).with_replay(Mixture((100, 50), (30, 10)), 0.2).draws == (10, 3, 2, 1)


def test_a_stopped_fine_tuning_goes_on_in_the_same_bits_and_needs_the_old_pairs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"training.init_from={folder}/old", "training.replay=0.4", "tokenizer.vocabulary_size=330"]
    train_and_stop(folder / "new", tmp_path / "whole", settings, None)
    train_and_stop(folder / "new", tmp_path / "parts", settings, 3)
    whole, parts = last_state(tmp_path / "whole"), last_state(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole.keys() | parts.keys())
    for name in ("start.json", "old_test.source", "old_test.hyp", "results.json"):
        texts = [(tmp_path / run / name).read_text(encoding="utf-8") for run in ("whole", "parts")]
        if name == "results.json":
            texts = [json.loads(text)["old_test"] for text in texts]
        assert texts[0] == texts[1], name

    (tmp_path / "parts" / "results.json").unlink()
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "empty"))
    (folder / "corpus").rename(folder / "hidden")
    try:
        longer = tuned_config(folder, tmp_path / "parts")
        stored = load_config([tmp_path / "parts" / "config.yaml"], ["training.max_steps=8"])
        with pytest.raises(ConfigError, match="this run repeats") as caught:
            train(stored)
        assert caught.value.code == "config.data-changed"
        assert longer.training.init_from in str(caught.value.hint)
        # A run that begins without them says so.
        train(tuned_config(folder, tmp_path / "without", "training.max_steps=1"))
        assert load_config([tmp_path / "without" / "config.yaml"]).training.replay == 0
        assert "not at hand" in (tmp_path / "without" / "config.yaml").read_text(encoding="utf-8")
    finally:
        (folder / "hidden").rename(folder / "corpus")
    train(stored)
    assert load_checkpoint(checkpoint_of(tmp_path / "parts", "last"), with_training=False).state.step == 8


def test_old_pairs_that_are_gone_are_done_without(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for by hand, too: a changed corpus is not the one of the run."""
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    config = tuned_config(folder, tmp_path / "run", "training.replay=0.5", "training.max_steps=1")
    before = (folder / "corpus" / "corpus.en").read_bytes()
    (folder / "corpus" / "corpus.en").write_bytes(before.replace(b"The", b"the"))
    try:
        train(config)
    finally:
        (folder / "corpus" / "corpus.en").write_bytes(before)
    assert "no pairs of the earlier run are repeated" in capsys.readouterr().err
    record = RunDirectory(tmp_path / "run").load_data_record()
    assert record is not None
    assert record.replay is None
    assert load(tmp_path / "run", device="cpu", threads=1).translate("A dog sleeps.") is not None


def test_a_rate_for_training_from_the_start_is_warned_of(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config of the first training, given again with `training.init_from`, brings its rate."""
    config = tuned_config(folder, tmp_path / "run", "training.optimizer.learning_rate=0.004", "training.max_steps=1")
    train(config)
    assert "warning: training.optimizer.learning_rate: 0.004 is a rate for training from the start" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("replay", [0, 0.5])
def test_held_out_pairs_that_the_earlier_run_has_read_are_said(
    replay: float, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A nightly export holds last night's pairs: nearly all new test pairs were in the training text of the run."""
    directory = RunDirectory(tmp_path / "run")
    data = f"data.train=[{{source: {folder}/corpus/corpus.en, target: {folder}/corpus/corpus.de}}]"
    earlier = earlier_data(RunDirectory(folder / "old"))
    for settings in ([], [data]):
        config = tuned_config(folder, tmp_path / "run", f"training.replay={replay}", "data.seed=5", *settings)
        with_replay(prepare_data(config, directory, earlier.tokenizers), config, directory)
        said = capsys.readouterr().err
        assert ("test sources are in the training text of" in said) == bool(settings)
        assert ("valid sources are in the training text of" in said) == bool(settings)
