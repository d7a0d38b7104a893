"""Data that changed between stop and resume, ends of training that were interrupted, and records of a run that lie."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.manifest import FileRecord, write_manifest
from seq2seq.cli.compare import _row
from seq2seq.config import Config, load_config
from seq2seq.config.settings import TrainingSettings
from seq2seq.data.demo import builtin_pairs
from seq2seq.errors import CheckpointError, ConfigError, UserError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.reports.report import report
from seq2seq.reports.run_summary import find_runs
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.estimate import announce
from seq2seq.runs.evaluate import average_checkpoints
from seq2seq.runs.run_config import check_run_config, save_run_config
from seq2seq.runs.run_data import check_data, input_changes, prepare_data, save_data
from seq2seq.runs.train import _load_result
from seq2seq.sealed_records import DataRecord, Estimate, read_record, write_record
from seq2seq.training.metrics_log import Validation, _drop_later_lines
from tests.faults.conftest import Failpoint
from tests.faults.test_doctor import trained
from tests.parallel_text import write_pairs
from tests.training.test_trainer import Copying, make_trainer, tiny_model

__all__ = ["trained"]

# -- data that changed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    """A run of a few lines that has saved a checkpoint, and its config."""
    folder = tmp_path_factory.mktemp("begun")
    write_pairs(folder, builtin_pairs("demo", "train")[:40], "a")
    settings = [f"data.train=[{{source: {folder}/a.en, target: {folder}/a.de}}]", "data.holdout=4"]
    config = load_config([], [*settings, "tokenizer.kind=word", f"run_directory={folder}/run"])
    directory = RunDirectory(folder / "run")
    directory.create()
    save_run_config(directory, config, {})
    save_data(directory, prepare_data(config, directory, None))
    (directory.checkpoints / "step-00000001").mkdir(parents=True)
    return folder, config


def test_an_equal_test_set_of_an_earlier_run_is_not_kept_twice(begun: tuple[Path, Config], tmp_path: Path) -> None:
    """It was translated and scored twice, with the same rows in every table."""
    _, config = begun
    directory = RunDirectory(tmp_path)
    directory.create()
    prepared = prepare_data(config, directory, None)
    assert prepared.test_pairs
    save_data(directory, prepared, list(prepared.test_pairs))
    assert not directory.load_pairs("old_test")
    save_data(directory, prepared, prepared.test_pairs[:1])
    assert directory.load_pairs("old_test") == prepared.test_pairs[:1]


def test_the_old_value_of_a_single_changed_setting_is_in_the_hint(begun: tuple[Path, Config]) -> None:
    """It may be one that the tool has fitted to another setting, which no file of the user holds."""
    folder, config = begun
    with pytest.raises(ConfigError, match="seed: 1 -> 7") as refused:
        check_run_config(RunDirectory(folder / "run"), config.model_copy(update={"seed": 7}))
    assert "put the old values back (seed=1), or" in str(refused.value.hint)


@pytest.fixture
def corpus_kept(begun: tuple[Path, Config]) -> Iterator[None]:
    """The corpus is as before after the test."""
    texts = {begun[0] / name: (begun[0] / name).read_bytes() for name in ("a.en", "a.de")}
    yield
    for path, text in texts.items():
        path.write_bytes(text)
    (begun[0] / "run" / "results.json").unlink(missing_ok=True)


@pytest.mark.fault(50)
@pytest.mark.usefixtures("corpus_kept")
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("edit", ["append", "sort", "replace"])
def test_a_changed_corpus_is_refused_before_anything_is_written(
    edit: str, finished: bool, begun: tuple[Path, Config]
) -> None:
    """The tokenizer of the new text used to replace the run's own, and every checkpoint spoke another vocabulary."""
    folder, config = begun
    directory = RunDirectory(folder / "run")
    if finished:
        write_record(directory.results, {"checkpoint": "step-00000001", "test": None})
    check_data(directory, config)
    pairs = builtin_pairs("demo", "train")[: 41 if edit == "append" else 40]
    if edit == "replace":
        pairs[3] = (pairs[3][0].swapcase(), pairs[3][1].swapcase())  # as many bytes as before
    write_pairs(folder, sorted(pairs) if edit == "sort" else pairs, "a")
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="are not those that it was started with") as caught:
        check_data(directory, config)
    for name in ("a.en", "a.de"):
        assert f"\n    {folder / name}: " in caught.value.what
    assert (caught.value.code, caught.value.exit_code) == ("config.data-changed", 2)
    assert f"training.init_from={directory.path}" in (caught.value.hint or "")
    assert before == {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    record = directory.load_data_record()
    assert record is not None
    assert len(list(input_changes(record, config, skip_unavailable=True))) == 2  # as the doctor sees it


@pytest.mark.fault(50)
@pytest.mark.usefixtures("corpus_kept")
def test_a_finished_run_does_not_need_its_corpus(begun: tuple[Path, Config]) -> None:
    folder, config = begun
    directory = RunDirectory(folder / "run")
    (folder / "a.en").unlink()
    with pytest.raises(UserError):
        check_data(directory, config)
    write_record(directory.results, {"checkpoint": "step-00000001", "test": None})
    check_data(directory, config)


@pytest.mark.fault(50)
def test_a_dataset_that_moved_is_refused_until_its_revision_is_pinned(
    begun: tuple[Path, Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = "{hub: a/b, source: en, target: de%s}"
    config, pinned = (
        load_config([], [f"data.train=[{source % pin}]", "data.holdout=0", f"run_directory={tmp_path}"])
        for pin in ("", f", revision: {'a' * 40}")
    )
    directory = RunDirectory(tmp_path)
    directory.create()
    save_run_config(directory, config, {})
    (directory.checkpoints / "step-00000001").mkdir(parents=True)
    settings = config.data.train[0].model_dump(exclude={"weight"})
    write_record(directory.data_record, {"inputs": {"train": [{"settings": settings, "revision": "a" * 40}]}})
    monkeypatch.setattr("seq2seq.data.hub.hub_revision", lambda source: source.revision or "b" * 40)
    with pytest.raises(ConfigError, match=f"a/b: revision a+ -> b+ .`revision: {'a' * 40}` names the old one"):
        check_data(directory, config)
    check_run_config(directory, pinned)
    check_data(directory, pinned)


@pytest.mark.fault(50)
@pytest.mark.usefixtures("corpus_kept")
def test_the_same_corpus_prepared_otherwise_keeps_the_tokenizer(
    begun: tuple[Path, Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another version of a library trains another vocabulary from the same text."""
    folder, config = begun
    directory = RunDirectory(folder / "run")
    smaller = config.tokenizer.model_copy(update={"vocabulary_size": 60})
    own = directory.load_data_record()
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    from seq2seq.data import prepare as module

    train = module.train_tokenizers
    monkeypatch.setattr(module, "train_tokenizers", lambda settings, *rest: train(smaller, *rest))
    prepared = prepare_data(config, directory, None)
    assert own is not None
    assert prepared.tokenizers.fingerprint == own.tokenizer
    assert "the run keeps its own" in capsys.readouterr().err


@pytest.mark.fault(57)
def test_a_flipped_bit_of_held_out_text_is_named(begun: tuple[Path, Config], tmp_path: Path) -> None:
    """Scores were computed against the damaged references without a word."""
    run = shutil.copytree(begun[0] / "run", tmp_path / "run")
    directory = RunDirectory(run)
    for name in ("valid.source", "valid.target", "test.source", "test.target"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(CheckpointError, match=rf"{name} is damaged: its SHA-256"):
            directory.load_pairs(name.partition(".")[0])
        (run / name).write_bytes(whole)


# -- interrupted ends -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """In place of SIGKILL."""


END_POINTS = ["save.begin", "save.before_manifest", "save.before_rename", "save.after_rename", "save.before_best"]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has done its steps but not its end."""
    folder = tmp_path_factory.mktemp("stepped")
    make_trainer(folder, tiny_model("gru"), average_checkpoints=3).fit(Copying())
    return folder


def end(folder: Path, bleu: float = 99.0) -> dict[str, bytes]:
    """The end of training, with this BLEU for the average; the files of all checkpoints."""
    trainer = make_trainer(folder, tiny_model("gru"), average_checkpoints=3)
    trainer.fit(Copying())
    trainer.validate = lambda step, stop: Validation(step, 0.01, 1.0, MetricResult("BLEU", bleu, "sig"), 0.0, [])
    average_checkpoints(trainer)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("checkpoints/*/*")}


def best_of(folder: Path) -> tuple[str, float | None]:
    best = CheckpointFolder(folder / "checkpoints").load_best()
    return best.path.name, best.state.best_metric


@pytest.mark.fault(51)
@pytest.mark.parametrize("point", [*END_POINTS, "write.before_rename"])
def test_an_interrupted_average_ends_with_the_same_best_model(
    point: str, stepped: Path, tmp_path: Path, failpoint: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average was compared with itself after the rerun, and `best` stayed at the last step."""
    for name in ("run", "expected"):
        shutil.copytree(stepped, tmp_path / name, symlinks=True)
    expected = end(tmp_path / "expected")
    assert best_of(tmp_path / "expected")[0] == "averaged"

    def kill(process: int, number: int) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("seq2seq.failpoints.os.kill", kill)
        failpoint(f"{point}=kill")
        with pytest.raises(Killed):
            end(tmp_path / "run")
    failpoint("")
    assert end(tmp_path / "run") == expected
    assert best_of(tmp_path / "run") == ("averaged", 99.0)


@pytest.mark.fault(51)
def test_a_later_worse_average_does_not_replace_the_best(stepped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stepped, tmp_path / "run", symlinks=True))
    for bleu, best in ((90.0, 90.0), (99.0, 99.0), (95.0, 99.0)):
        end(folder, bleu)
        assert best_of(folder) == ("averaged", best)


# -- records that lie -----------------------------------------------------------------------------------------------

ODD: list[Any] = [None, True, -1, 10**400, 1e999, float("nan"), "x", "\ud800", [], [None], {}, {"a": {}}, [[[]]]]


def variants(
    content: Any, path: tuple[Any, ...] = (), *, odd: Sequence[Any] = ODD
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Copies of a JSON value with one part left out or of an odd type, with the place of the part."""
    for value in odd:
        yield path, value
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in list(parts)[:12]:
        for place, value in variants(inner, (*path, key), odd=odd):
            changed = copy.copy(content)
            changed[key] = value
            yield place, changed
        if isinstance(content, dict):
            yield (*path, key), {name: value for name, value in content.items() if name != key}


def use(run: Path) -> None:
    """Everything that commands read of a run but the weights."""
    directory = RunDirectory(run)
    for task in (
        directory.load_results,
        directory.load_data_record,
        lambda: directory.save_auto_choices(batch_size=32),
        lambda: directory.load_pairs("test"),
        lambda: directory.load_pairs("valid"),
        lambda: _load_result(directory),
        lambda: CheckpointFolder(directory.checkpoints).validated(),
        lambda: _drop_later_lines(run / "metrics.jsonl", 2),
        lambda: list(input_changes(directory.load_data_record() or DataRecord(), CONFIG, skip_unavailable=True)),
    ):
        with suppress(CheckpointError):
            task()


CONFIG = load_config([], ["data.train=[{source: none.en, target: none.de}]"])


@pytest.mark.fault(57)
@pytest.mark.parametrize("name", ["data.json", "results.json", "auto.json", "metrics.jsonl"])
def test_a_record_of_odd_types_is_no_bug(name: str, trained: Path, tmp_path: Path) -> None:
    """17 crafted records ended in tracebacks of as many readers."""
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    text = '{"batch_size": 32, "precision": "bf16"}' if name == "auto.json" else (run / name).read_text()
    content = json.loads(text.splitlines()[0] if name == "metrics.jsonl" else text)
    if name in ("data.json", "results.json"):
        content = {key: value for key, value in content.items() if key not in ("check", "format")}
    tried = list(variants(content))
    for _, crafted in random.Random(name).sample(tried, min(60, len(tried))):
        (run / name).write_text(json.dumps(crafted) + "\n")
        use(run)


@pytest.mark.fault(57)
@pytest.mark.parametrize("name", ["data.json", "results.json", "env.json", "estimate.json", "metrics.jsonl"])
def test_a_report_on_odd_records_is_no_bug(name: str, trained: Path, tmp_path: Path) -> None:
    """A step of NaN, a loss of 1000 and a count of `x` ended in tracebacks of `report`, `compare` and `runs`."""
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    (run / "test.hyp").unlink()  # scores of texts take long
    shutil.rmtree(run / "validation")
    lines = (run / name).read_text().splitlines() if (run / name).exists() else ["{}"]
    kinds = {line.get("kind"): line for line in map(json.loads, lines)} if name == "metrics.jsonl" else {}
    content = list(kinds.values()) or json.loads("".join(lines))
    if name == "estimate.json":
        content = dict.fromkeys(Estimate.model_fields, 1)
    if name == "data.json":
        content["counts"]["too_long"] = 1
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in ("check", "format")}
    tried = [crafted for _, crafted in variants(content, odd=[*ODD, 1e308, -1e308, 2**60])]
    diverged = [{"kind": "validation", "step": 4, "loss": 1000.0, "bleu": 0.0}] * (name == "metrics.jsonl")
    for crafted in (*random.Random(name).sample(tried, min(40, len(tried))), *diverged):
        rows = crafted if name == "metrics.jsonl" and isinstance(crafted, list) else [crafted]
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        with suppress(CheckpointError):
            report(run).encode()
        for summary in find_runs(tmp_path)[0]:
            assert _row(summary, tmp_path)
        with suppress(CheckpointError):
            if found := RunDirectory(run).load_estimate():
                announce(found, TrainingSettings())


@pytest.mark.fault(57)
@pytest.mark.parametrize("name", ["data.json", "results.json"])
def test_a_flipped_bit_of_a_record_is_named(name: str, trained: Path, tmp_path: Path) -> None:
    """A score of 31.4 may have been 21.4."""
    whole = (trained / name).read_bytes()
    dice = random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole) - 1)] ^= 1 << dice.randrange(8)
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            read_record(tmp_path / name, DataRecord, hint="remove it")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"{name} is damaged: it is a folder"):
        read_record(tmp_path / name, DataRecord, hint="remove it")


@pytest.mark.fault(57)
def test_a_training_state_of_odd_types_is_no_bug(trained: Path, tmp_path: Path) -> None:
    """With a manifest to match, since a stranger can compute hashes, too."""
    step = Path(shutil.copytree(trained / "checkpoints" / "step-00000004", tmp_path / "step-00000004"))
    content = json.loads((step / "state.json").read_text())
    names = [path.name for path in step.iterdir() if path.name != "manifest.json"]
    tried = list(variants(content))
    for place, crafted in random.Random(2).sample(tried, min(40, len(tried))):
        (step / "state.json").write_text(json.dumps(crafted))
        write_manifest(step, {name: FileRecord.of((step / name).read_bytes()) for name in names})
        try:
            state = CheckpointFolder(tmp_path).load_last()
        except CheckpointError:
            continue
        assert state is not None, place
        f"{state.state.step:08d} {state.state.seconds / 60:.1f} {state.state.best_metric or 0.0:.2f}"
