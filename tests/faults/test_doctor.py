"""`seq2seq doctor`: what a bug report needs, of this machine and of a run."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from seq2seq import __version__
from seq2seq.config import Config, load_config
from seq2seq.export.folder import Trained, seal
from seq2seq.extras import EXTRAS
from seq2seq.optimization.precision import PrecisionChoice
from seq2seq.runs.doctor import _last_lines
from seq2seq.runs.environment import log_header, machine_facts
from seq2seq.sealed_records import write_record
from seq2seq.version import UPDATE
from tests.cli.conftest import Outcome, Runner, checkpoint_of, shared_run, train_tiny

pytestmark = pytest.mark.usefixtures("kernels")  # the doctor loads them


def test_everything_that_a_report_needs_is_there(seq2seq: Runner, tmp_path: Path) -> None:
    outcome = seq2seq("doctor", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert list(facts) == [
        "versions",
        "extras",
        "processor",
        "memory",
        "disk",
        "devices",
        "chosen",
        "environment",
    ]
    assert facts["versions"]["seq2seq"] == __version__
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["python"].startswith(platform.python_version())
    assert set(facts["extras"]) == set(EXTRAS)
    assert " free" in facts["disk"]["cache"]
    assert facts["devices"]["cpu"]
    assert set(facts["chosen"]) == {"device", "training in", "translating in", "ranks", "long texts"}
    assert facts["chosen"]["long texts"] == "with kernels compiled by numba"
    assert facts["environment"]["OMP_NUM_THREADS"] == "1"
    plain = seq2seq("doctor")
    assert plain.code == 0
    assert all(f"[{section}]" in plain.out for section in facts)
    assert len(plain.out.splitlines()) < 60


def test_homes_and_secrets_are_left_out(seq2seq: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reports are public; the name of the user is part of most paths."""
    home = tmp_path / "somebody"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(home / "cache"))
    monkeypatch.setenv("HF_TOKEN", "not-to-be-shown")
    said = seq2seq("doctor").out
    assert "somebody" not in said
    assert "~/cache" in said
    assert "not-to-be-shown" not in said
    assert "HF_TOKEN" in said


def test_what_cannot_be_had_is_a_fact_too() -> None:
    """`device: cuda:9` in a config, and the doctor would not have said anything else."""
    facts = machine_facts(load_config([], ["device=cuda:9"]), Path("/nowhere/at/all"))
    assert "cuda:9 is not there" in facts["chosen"]["device"]
    assert facts["memory"]


def test_gpus_are_named_with_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="H200", major=9, minor=0, total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    devices = machine_facts(load_config([], ["device=cpu"]), Path())["devices"]
    assert devices["cuda:1"] == "H200, 141.0 GiB, compute capability 9.0, CUDA 12.8"
    assert "cuda" not in devices


def test_the_header_of_a_log_is_one_line_of_it() -> None:
    header = log_header(Config(), PrecisionChoice("bf16", "as this run began"))
    assert "\n" not in header
    assert "(as this run began)" in header
    assert f"torch {torch.__version__}" in header
    assert "memory" in header
    assert len(header) < 500


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    steps = ("training.max_steps=4", "training.validate_every=2", "training.schedule.warmup_steps=1", "devices=1")

    def train(folder: Path) -> Outcome:
        return train_tiny(corpus, "gru", folder, *steps, "training.average_checkpoints=1")

    return shared_run(tmp_path_factory, "doctor", train)


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def test_a_whole_run_is_called_so(copied: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("doctor", copied, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)["run"]
    assert facts["model"] == "rnn"
    assert facts["last"] == "step-00000004"
    assert "whole" in facts["step-00000004"]
    assert facts["finished"] == "yes"
    assert f"torch {torch.__version__}" in facts["made with"]
    assert (facts["faults"], facts["remarks"], facts["verdict"]) == ([], [], "whole; finished")
    plain = seq2seq("doctor", copied)
    assert plain.code == 0
    assert plain.out.splitlines()[-1].split() == ["verdict", "whole;", "finished"]
    missing = seq2seq("doctor", copied.parent / "missing")
    assert (missing.code, missing.out) == (5, "")
    assert "no run directory" in missing.err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


Damage = Callable[[Path], object]
BROKEN: list[tuple[str, int, str, Damage]] = [
    ("tokenizer.missing", 5, "tokenizer is missing", lambda run: shutil.rmtree(run / "tokenizer")),
    ("tokenizer.missing", 5, "joint.model is missing", lambda run: (run / "tokenizer/joint.model").unlink()),
    ("tokenizer.damaged", 5, "expected SHA-256", lambda run: cut(run / "tokenizer/joint.model")),
    ("tokenizer.damaged", 5, "tokenizer.json", lambda run: cut(run / "tokenizer/tokenizer.json")),
    (
        "tokenizer.swapped",
        5,
        "not the one that the model",
        lambda run: (run / "data.json").write_text('{"tokenizer":"0"}'),
    ),
    ("run.damaged", 5, "attention.json is damaged", lambda run: (run / "attention.json").write_text("{")),
    ("checkpoint.missing", 5, "no checkpoint in", lambda run: shutil.rmtree(run / "checkpoints")),
    ("checkpoint.damaged", 5, "SHA-256", lambda run: [cut(path) for path in run.rglob("model.safetensors")]),
    (
        "checkpoint.mismatch",
        5,
        "differ in",
        lambda run: edit(run / "config.yaml", " hidden_size: 32", " hidden_size: 34"),
    ),
    ("run.damaged", 5, "config.yaml holds no settings", lambda run: (run / "config.yaml").write_text("")),
    ("run.damaged", 5, "has no `decoding`", lambda run: edit(run / "config.yaml", "\ndecoding:", "\n#", rest=False)),
    ("run.damaged", 5, "config.yaml is missing", lambda run: (run / "config.yaml").unlink()),
    ("run.damaged", 5, "not valid YAML", lambda run: (run / "config.yaml").write_text("a: [")),
    ("run.damaged", 5, "unknown key", lambda run: edit(run / "config.yaml", "seed:", "sed:")),
    ("run.damaged", 5, "not UTF-8", lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe")),
    ("run.damaged", 5, "results.json is damaged", lambda run: (run / "results.json").write_text("[]")),
    ("run.damaged", 5, "data.json is damaged", lambda run: (run / "data.json").write_text("[" * 100_000)),
    ("run.damaged", 5, "valid.source", lambda run: (run / "valid.source").write_bytes(b"\xff\n")),
    ("run.damaged", 5, "test.source is damaged", lambda run: (run / "test.source").unlink()),
    ("run.damaged", 5, "test.source is damaged", lambda run: (run / "test.source").write_text("one\n")),
]


def mark(run: Path, name: str, target: str) -> None:
    (run / "checkpoints" / name).write_text(target)


def edit(path: Path, before: str, after: str, *, rest: bool = True) -> None:
    text = path.read_text()
    assert before in text
    start, _, end = text.partition(before)
    path.write_text(start + after + end * rest)


@pytest.mark.fault(19, 20, 23)
@pytest.mark.parametrize(
    ("code", "exit_code", "said", "damage"), BROKEN, ids=lambda value: "" if callable(value) else str(value)[:30]
)
def test_a_broken_run_is_called_so(
    code: str, exit_code: int, said: str, damage: Damage, copied: Path, seq2seq: Runner
) -> None:
    """The doctor called runs healthy that no command could use, and damaged YAML kept even the versions back."""
    damage(copied)
    outcome = seq2seq("doctor", copied)
    assert outcome.code == exit_code
    assert f"torch            {torch.__version__}" in outcome.out  # the machine is told all the same
    *_, verdict = outcome.out.splitlines()
    assert verdict.split()[:2] == ["verdict", "broken:"]
    first, *rest = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert first.endswith(f"[{code}]")
    assert said in verdict
    assert rest[-1].startswith("  hint: ")
    parsed = seq2seq("doctor", copied, "--json")
    assert parsed.code == exit_code
    assert code in [fault["code"] for fault in json.loads(parsed.out)["run"]["faults"]]


REMARKS: list[tuple[str, Damage]] = [
    ("checkpoint step-00000002 cannot be used", lambda run: cut(run / "checkpoints/step-00000002/model.safetensors")),
    ("checkpoint step-00000002 cannot", lambda run: (run / "checkpoints/step-00000002/manifest.json").unlink()),
    ("can translate, but training cannot resume", lambda run: cut(checkpoint_of(run, "best") / "training.safetensors")),
    ("best names step-9, which is gone", lambda run: mark(run, "best", "step-9")),
    ("best is missing or damaged", lambda run: (run / "checkpoints/best").unlink()),
    ("last is missing", lambda run: (run / "checkpoints/last").write_text("..")),
    ("data.json is missing or incomplete", lambda run: (run / "data.json").unlink()),
    ("env.json is missing or damaged", lambda run: (run / "env.json").unlink()),
    ("train.log is missing", lambda run: (run / "train.log").unlink()),
    ("metrics.jsonl is missing", lambda run: (run / "metrics.jsonl").unlink()),
    ("metrics.jsonl: line 1 is damaged", lambda run: edit(run / "metrics.jsonl", "{", "")),
    ("test.hyp is damaged", lambda run: edit(run / "test.hyp", "\n", " \n")),
]


@pytest.mark.fault(17, 18, 19)
@pytest.mark.parametrize(("said", "damage"), REMARKS, ids=lambda value: "" if callable(value) else str(value)[:30])
def test_what_is_only_a_pity_is_a_remark(said: str, damage: Damage, copied: Path, seq2seq: Runner) -> None:
    damage(copied)
    if "step-00000002" in said:
        mark(copied, "best", "step-00000004")
    outcome = seq2seq("doctor", copied)
    assert outcome.code == 0, outcome.err
    assert said in outcome.out
    assert outcome.out.splitlines()[-1].split(maxsplit=1)[1] == "usable, though one thing is wrong; finished"


@pytest.mark.fault(21)
def test_a_lost_config_is_written_anew(copied: Path, corpus: Path, seq2seq: Runner) -> None:
    """An empty config.yaml was taken for the defaults: every command ended in a model that "differs"."""
    config = copied / "config.yaml"
    before = config.read_text()
    config.write_text("# nothing is left\n")
    for command in ("translate", "evaluate"):
        outcome = seq2seq(command, copied, stdin=b"a\n")
        assert outcome.code == 5
        assert f"error: {config} holds no settings  [run.damaged]" in outcome.err
        assert "remove it and repeat the command that trained the run" in outcome.err
    steps = ("training.max_steps=4", "training.validate_every=2", "training.schedule.warmup_steps=1", "devices=1")
    again = "gru", copied, *steps, "training.average_checkpoints=1"
    outcome = train_tiny(corpus, *again)
    assert outcome.code == 5
    assert f"error: {config} holds no settings" in outcome.err
    config.unlink()
    assert train_tiny(corpus, *again).code == 0
    assert without_folder(config.read_text()) == without_folder(before)


def without_folder(config: str) -> list[str]:
    """The lines of a config but for the one that names the run directory."""
    return [line for line in config.splitlines() if not line.startswith("run_directory:")]


@pytest.mark.fault(21, 22)
def test_a_wrong_line_in_a_runs_own_config_is_damage(copied: Path, corpus: Path, seq2seq: Runner) -> None:
    """A bit that had flipped, or a key of a newer version, was called a mistake of the user's, with exit code 2."""
    config = copied / "config.yaml"
    edit(config, "\ntraining:\n", "\ntraining:\n  warp_speed: 9\n")
    line = 1 + config.read_text().splitlines().index("  warp_speed: 9")
    text = corpus / "corpus.en"
    for arguments in (
        ("translate", copied),
        ("translate", copied, "--engine", "ctranslate2"),
        ("evaluate", copied),
        ("score", copied, "--source", text, "--target", text),
        ("align", copied),
        ("export", copied, "--format", "ctranslate2"),
        ("train", "--source", text, "--target", corpus / "corpus.de", "-o", copied, "devices=1"),
        (
            "train",
            "--source",
            text,
            "--target",
            corpus / "corpus.de",
            "-o",
            copied / "x",
            f"training.init_from={copied}",
        ),
    ):
        outcome = seq2seq(*arguments, stdin=b"a\n")
        assert outcome.code == 5, (arguments, outcome.err)
        assert f"error: {config} is damaged: unknown key `training.warp_speed`  [run.damaged]" in outcome.err
        assert f"  --> {config}:{line}\n  hint: put a copy of it back, or mend it (" in outcome.err
        assert outcome.err.rstrip().endswith(f"if a newer version wrote it: {UPDATE}")
    for arguments in (("train", config), ("config", "show", config)):  # as a file of the user's
        assert seq2seq(*arguments).code == 2


@pytest.mark.fault(19)
def test_a_lost_mark_of_the_best_is_told(copied: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """Copied without its links, a run was used at its last step, which may be far from the best."""
    best = copied / "checkpoints" / "best"
    mark(copied, "best", "step-00000002")
    expected = seq2seq("translate", copied, stdin=b"a man sleeps\n")
    assert "checkpoint" not in expected.err
    results = json.loads((copied / "results.json").read_text())
    write_record(copied / "results.json", {**results, "checkpoint": "step-00000002"})
    best.unlink()
    for arguments in (("translate", copied), ("evaluate", copied, "--split", "valid"), ("align", copied)):
        outcome = seq2seq(*arguments, stdin=b"a man sleeps\n")
        assert outcome.code == 0, outcome.err
        (said,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ") and "best" in line]
        assert said.startswith(f"warning: {best} is missing or damaged; the records of the run name step-00000002")
        if "translate" in arguments:
            assert outcome.out == expected.out
    command = said.partition("to write it again: ")[2].removesuffix(")")
    subprocess.run(["sh", "-c", command], check=True)
    again = seq2seq("translate", copied, stdin=b"a man sleeps\n")
    assert again.out == expected.out
    assert "checkpoint" not in again.err
    mark(copied, "best", "step-9")
    (copied / "results.json").unlink()
    shutil.rmtree(copied / "checkpoints" / "step-00000002")
    outcome = seq2seq("translate", copied, "-q", stdin=b"a\n")
    assert f"warning: {best} names step-9, which is gone, so the last checkpoint is used" in outcome.err
    assert outcome.err.count(f"warning: {best}") == 1
    assert "checkpoints/best" not in seq2seq("translate", copied, "--checkpoint", "last", stdin=b"a\n").err


def test_a_run_without_validation_has_no_best_to_miss(corpus: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """Nothing is lost there: the last checkpoint is what such a run is used by."""
    few = ("training.max_steps=2", "training.validate_every=2", "training.schedule.warmup_steps=1", "devices=1")
    assert train_tiny(corpus, "gru", tmp_path / "run", *few, "data.holdout=0").code == 0
    (tmp_path / "run" / "checkpoints" / "best").unlink()
    assert "checkpoint" not in seq2seq("translate", tmp_path / "run", stdin=b"a\n").err


def exported(run: Path, name: str) -> Path:
    """An export of nothing, with its list of hashes."""
    folder = run / "export" / name
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"0123456789")
    trained = cast(Trained, SimpleNamespace(name="run", checkpoint="step-00000004", weights="0"))
    seal(folder, trained, {"library": name.partition("-")[0], "quantization": "int8"})
    return folder


@pytest.mark.fault(18, 19)
def test_exports_in_a_run_are_examined(copied: Path, seq2seq: Runner) -> None:
    """The run was called whole, and the server that it was exported for refused what lay in it."""
    exported(copied, "huggingface")
    folder = exported(copied, "ctranslate2-int8")
    facts = json.loads(seq2seq("doctor", copied, "--json").out)["run"]
    assert facts["export/huggingface"] == facts["export/ctranslate2-int8"] == "whole, int8, of step-00000004"
    assert facts["verdict"] == "whole; finished"
    for damage in (
        lambda: (folder / "model.bin").write_bytes(b"0123456798"),
        lambda: (folder / "model.bin").unlink(),
        lambda: (folder / "export.json").write_text("{}"),
        lambda: (folder / "export.json").unlink(),
    ):
        damage()
        outcome = seq2seq("doctor", copied, "--json")
        facts = json.loads(outcome.out)["run"]
        assert outcome.code == 0  # the run itself can be used
        assert facts["export/ctranslate2-int8"].startswith("export/ctranslate2-int8")
        assert facts["remarks"] == ["export/ctranslate2-int8 cannot be used; export again"]
        assert facts["verdict"] == "usable, though one thing is wrong; finished"


def test_an_export_by_itself_is_examined(copied: Path, seq2seq: Runner) -> None:
    """A fresh, whole export was called an unsafe pickle."""
    folder = exported(copied, "ctranslate2")
    outcome = seq2seq("doctor", folder, "--json")
    assert outcome.code == 0, outcome.err
    section = json.loads(outcome.out)["run"]
    assert section["verdict"] == "whole"
    assert section["export"].endswith("int8, of step-00000004")
    for command in (("report", folder), ("compare", copied, folder), ("translate", copied, "--ensemble", folder)):
        outcome = seq2seq(*command, stdin=b"A cat.\n")
        assert (outcome.code, "is not a run directory" in outcome.err) == (5, True), outcome.err
    (folder / "model.bin").write_bytes(b"other")
    outcome = seq2seq("doctor", folder)
    assert outcome.code == 5
    assert "model.bin is missing or damaged" in outcome.err


def test_a_config_in_the_folder_of_the_run(corpus: Path, tmp_path: Path) -> None:
    """`seq2seq train exp/config.yaml -o exp`: the file is no damaged one of a run because it says little."""
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    outcome = train_tiny(corpus, "gru", tmp_path, "seed=2")
    assert outcome.code == 2
    assert "seed: 1 -> 2" in outcome.err


def test_a_refused_command_is_not_what_a_run_said_last(tmp_path: Path) -> None:
    """After a command with other settings, its error was shown as the run's own last message."""
    log = tmp_path / "train.log"
    refused = "Traceback (most recent call last):\n  File\nseq2seq.errors.ConfigError: other:\n    seed: 1 -> 2\n"
    log.write_text(f"2026-01-01 10:00:00 trained 9 steps\n2026-01-01 11:00:00 {refused}")
    assert _last_lines(log) == ["2026-01-01 10:00:00 trained 9 steps"]
