"""`seq2seq distill`: a student of a run, from its translations to a comparison."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest

from seq2seq.config import load_config
from seq2seq.config.model import RNNSettings, TransformerSettings
from seq2seq.config.sources import is_distilled
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translation import Translation
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import load
from seq2seq.synthesis import distillation
from seq2seq.synthesis.distillation import nearest_to_reference, student_model
from seq2seq.synthesis.originals import Original
from tests.cli.conftest import Runner

FEW = ["training.max_steps=4", "training.validate_every=2", "training.schedule.warmup_steps=1"]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_a_student_learns_the_translations_of_its_teacher(
    transformer: Path, corpus: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = distillation.training_lines
    monkeypatch.setattr(distillation, "training_lines", lambda config: islice(every(config), 30))
    monkeypatch.setattr(distillation, "_TIMED", 5)
    extra = tmp_path / "mono.en"
    extra.write_text("The young woman sees a small red house.\n", encoding="utf-8")
    command = ("distill", transformer, "-o", tmp_path / "small", "--text", extra, "--json", *FEW)
    outcome = seq2seq(*command)
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert facts["student"]["parameters"] < facts["teacher"]["parameters"]
    assert set(facts["student"]["scores"]) == {"valid", "test"}
    assert facts["teacher"]["sentences_per_second"] > 0
    folder = tmp_path / "small.distilled"
    sources, targets = lines_of(folder / "train.en"), lines_of(folder / "train.de")
    assert len(sources) == len(targets) == facts["lines"]["kept"]
    teacher, student = RunDirectory(transformer), RunDirectory(tmp_path / "small")
    held_out = {source for split in ("valid", "test") for source, _ in teacher.load_pairs(split)}
    assert set(sources) <= {*lines_of(corpus / "corpus.en"), *lines_of(extra)} - held_out
    assert teacher.load_pairs("test") == student.load_pairs("test")
    assert (student.tokenizer / "joint.model").read_bytes() == (teacher.tokenizer / "joint.model").read_bytes()
    # The same command again translates and trains nothing.
    outcome = seq2seq(*command)
    assert outcome.code == 0, outcome.err
    assert "nothing is translated again" in outcome.err
    assert "is finished" in outcome.err
    # The config that it wrote is one for `train`.
    written = load_config([folder / "student.yaml"])
    assert (written.training.max_steps, written.run_directory) == (4, None)
    before = (folder / "student.yaml").read_bytes()
    outcome = seq2seq(*command, "model.dropout=0.3")
    assert (outcome.code, "config.changed" in outcome.err) == (2, True)
    assert (folder / "student.yaml").read_bytes() == before
    (learned,) = written.data.train
    assert learned.source == str(folder / "train.en")
    assert is_distilled(learned), "the report knows that its training text is easy"
    assert not any(map(is_distilled, load_config([transformer / "config.yaml"]).data.train))


def test_a_student_may_read_the_human_translations_too(transformer: Path, tmp_path: Path) -> None:
    """The corpora hold the teacher's validation and test pairs, which it had held out by lot."""
    teacher = load(transformer, threads=1)
    text = distillation.student_config(teacher, "same", ("a.en", "a.de"), tmp_path, genuine=True)
    (tmp_path / "student.yaml").write_text(text, encoding="utf-8")
    config = load_config([tmp_path / "student.yaml"])
    assert config.data.train[1:] == teacher.config.data.train
    assert config.data.cleaning.drop_test_overlap
    assert (config.model, config.data.holdout) == (teacher.config.model, 0)
    assert [source.source for source in config.data.test] == [str(transformer / "test.source")]


def test_a_student_of_a_fine_tuned_teacher_is_no_fine_tuning(transformer: Path, tmp_path: Path) -> None:
    """Its config kept the replay and the extended vocabulary, which need a run to start from."""
    teacher = load(transformer, threads=1)
    config = teacher.config
    training = config.training.model_copy(update={"init_from": "other", "replay": 0.5})
    tokenizer = config.tokenizer.model_copy(update={"extend": True})
    teacher.config = config.model_copy(update={"training": training, "tokenizer": tokenizer})
    text = distillation.student_config(teacher, "same", ("a.en", "a.de"), tmp_path, genuine=False)
    (tmp_path / "student.yaml").write_text(text, encoding="utf-8")
    student = load_config([tmp_path / "student.yaml"])
    assert (student.training.init_from, student.training.replay, student.tokenizer.extend) == (None, 0.0, False)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("small", (128, 512, 4, 5)), ("tiny", (64, 256, 4, 5))],
)
def test_students_are_deep_and_narrow(size: str, expected: tuple[int, ...]) -> None:
    student = student_model(TransformerSettings(attention_dropout=0.1, dropout=0.3), size)  # type: ignore[arg-type]
    assert (student.hidden_size, student.ff_size, student.num_heads, student.encoder_layers) == expected
    assert (student.decoder_layers, student.attention_dropout, student.dropout) == (1, 0.0, 0.1)
    TransformerSettings.model_validate(student.model_dump())


@pytest.mark.parametrize("width", [16, 48, 80, 200])
@pytest.mark.parametrize(
    "teacher",
    [
        TransformerSettings(),
        TransformerSettings(num_heads=8, positions="rotary"),
        TransformerSettings(attention="wide", decoder_layers=1, encoder_layers=1),
        RNNSettings(attention="multi_head"),
        RNNSettings(attention="none", input_feeding=False),
    ],
    ids=str,
)
def test_every_teacher_has_a_valid_student(teacher: TransformerSettings | RNNSettings, width: int) -> None:
    changed = teacher.model_copy(update={"hidden_size": width, "ff_size": 4 * width})
    for size in ("small", "tiny"):
        student = student_model(changed, size)  # type: ignore[arg-type]
        type(student).model_validate(student.model_dump())
        assert student.decoder_layers == 1


def test_of_several_translations_the_nearest_to_the_reference_is_taken() -> None:
    found = [
        Translation(Line("a"), text, score, score, []) for text, score in (("der Hund", -1.0), ("ein alter Hund", -2.0))
    ]
    assert nearest_to_reference(Original("x", 1, "a", "ein alter Hund bellt"), found, "de") is found[1]
    assert nearest_to_reference(Original("x", 1, "a"), found, "de") is found[0]


def test_a_teacher_whose_corpus_is_gone_leaves_no_folder(
    transformer: Path, corpus: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student's config and tokenizer were left, in OUT.distilled."""
    monkeypatch.chdir(tmp_path)
    config = shutil.copytree(transformer, tmp_path / "teacher") / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(corpus), "gone"), encoding="utf-8")
    for options in ((), ("--text", "missing.en")):
        outcome = seq2seq("distill", "teacher", "-o", "student", *options)
        assert (outcome.code, "no such file: gone/corpus.en" in outcome.err) == (3, True)
    assert seq2seq("distill", transformer, "-o", "student", "--text", "missing.en").code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--size", "huge"), "none of small, tiny and same"),
        (("--mbr", 4, "-b", 2), "exclude each other"),
        (("--near-reference", "-b", 1), "a beam of 1 has one"),
        (("other.yaml",), "other.yaml is not a setting"),
        (("-o", "teacher"), "is the teacher"),
    ],
)
def test_options_that_do_not_fit(
    options: tuple[object, ...], what: str, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = () if "-o" in options else ("-o", tmp_path / "out")
    (tmp_path / "teacher").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = seq2seq("distill", tmp_path / "teacher", *output, *options)
    assert outcome.code == 2
    assert what in outcome.err
