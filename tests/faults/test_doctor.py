"""`seq2seq doctor`: what a bug report needs, of this machine and of a run."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seq2seq import __version__
from seq2seq.config import Config, load_config
from seq2seq.experiment.machine import log_header, machine_facts
from tests.cli.conftest import Runner, train_tiny


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
    assert set(facts["extras"]) == {"ctranslate2", "huggingface"}
    assert " free" in facts["disk"]["cache"]
    assert facts["devices"]["cpu"]
    assert set(facts["chosen"]) == {"device", "precision", "ranks"}
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
    header = log_header(Config())
    assert "\n" not in header
    assert f"torch {torch.__version__}" in header
    assert "memory" in header
    assert len(header) < 500


def test_a_run_is_looked_at(corpus: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """Which checkpoints are whole decides what can be done; a bug report without it needs a second mail."""
    steps = ("training.max_steps=4", "training.validate_every=2", "training.schedule.warmup_steps=1", "devices=1")
    assert train_tiny(corpus, "gru", tmp_path / "run", *steps).code == 0
    folders = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    damaged = folders[0] / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outcome = seq2seq("doctor", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)["run"]
    assert facts["model"] == "gru"
    assert "damaged" in facts[folders[0].name]
    assert "whole" in facts[folders[-1].name]
    assert facts["last"] == folders[-1].name
    assert facts["finished"] == "yes"
    assert f"torch {torch.__version__}" in facts["made with"]
    missing = seq2seq("doctor", tmp_path / "missing")
    assert missing.code == 5
    assert "no run directory" in missing.err
