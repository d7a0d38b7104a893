"""Row 49: tokens and passwords are neither printed nor stored, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.errors import UserError
from seq2seq.sanitize import redact
from tests.cli.conftest import Outcome, Runner, run_command, train_tiny

TOKEN = "hf_CanaryCanaryCanaryCanary"
PASSWORD = "canary-in-the-mine"
ENVIRONMENT = {
    "HF_TOKEN": TOKEN,
    "MY_API_KEY": PASSWORD,
    "HF_ENDPOINT": f"http://me:{PASSWORD}@127.0.0.1:9",  # nobody listens there
    "HTTPS_PROXY": f"http://me:{PASSWORD}@127.0.0.1:9",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with secrets, and a folder for temporary files."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def assert_clean(outcome: Outcome, *folders: Path) -> None:
    """No secret in what was printed, nor in any file."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for text in (outcome.out.encode(), outcome.err.encode(), *(path.read_bytes() for path in files)):
        assert TOKEN.encode() not in text
        assert PASSWORD.encode() not in text


@pytest.mark.fault(49)
def test_a_run_keeps_no_secret(corpus: Path, secrets: Path) -> None:
    """A run's folder is what people copy and publish: log, config, environment and cache hold nothing of theirs."""
    steps = ("training.max_steps=2", "training.validate_every=2", "training.schedule.warmup_steps=1", "devices=1")
    outcome = train_tiny(corpus, "gru", secrets / "run", *steps)
    assert outcome.code == 0, outcome.err
    assert (secrets / "run" / "env.json").exists()
    assert "GiB" in (secrets / "run" / "train.log").read_text(encoding="utf-8")  # the machine, for bug reports
    assert_clean(outcome, secrets)
    assert_clean(run_command("doctor", secrets / "run", "--json"))


@pytest.mark.fault(49)
def test_a_crash_tells_no_secret(secrets: Path, seq2seq: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of libraries may quote a request with its headers; crash logs are what people attach to reports."""

    def broken(*arguments: object) -> None:
        raise RuntimeError(f"GET http://me:{PASSWORD}@host with Authorization: Bearer {TOKEN}")

    monkeypatch.setattr("seq2seq.config.reference.reference_lines", broken)
    outcome = seq2seq("config", "reference")
    assert outcome.code == 1
    assert_clean(outcome, secrets)
    assert len(list((secrets / "tmp").glob("*.log"))) == 1
    assert_clean(seq2seq("--debug", "config", "reference"), secrets)


@pytest.mark.fault(49)
@pytest.mark.parametrize(
    "arguments",
    [
        ("train", f"hf_token={TOKEN}"),
        ("train", f"data.train=[{{hub: a/b, source: a, tokn: {TOKEN}}}]"),
        ("data", "prepare", f"data.train=[{{source: 'https://me:{PASSWORD}@host/a', target: b}}]"),
        ("data", "prepare", f"data.train=[{{source: 'https://host/a?token={PASSWORD}', target: b}}]"),
        ("translate", f"https://me:{PASSWORD}@host/run"),
        ("--debug", "translate", f"https://me:{PASSWORD}@host/run"),
        ("help", "errors", TOKEN),
        (f"--token={TOKEN}",),
    ],
)
def test_what_is_typed_is_not_repeated(arguments: tuple[str, ...], secrets: Path, seq2seq: Runner) -> None:
    """Terminals are recorded, and pasted into reports."""
    outcome = seq2seq(*arguments)
    assert outcome.code in (2, 5)
    assert outcome.err
    assert_clean(outcome, secrets)


@pytest.mark.fault(49)
@pytest.mark.parametrize("url", [f"https://me:{PASSWORD}@host/a", f"https://host/a?x=1&token={PASSWORD}"])
def test_a_password_in_a_config_is_refused(url: str, tmp_path: Path, seq2seq: Runner) -> None:
    """It would be kept in the config.yaml of the run."""
    (tmp_path / "my.yaml").write_text(f"data:\n  train:\n    - source: {url}\n      target: b\n")
    outcome = seq2seq("config", "show", tmp_path / "my.yaml")
    assert outcome.code == 2
    assert f"{tmp_path}/my.yaml:3" in outcome.err
    assert "[config.secret]" in outcome.err
    assert_clean(outcome)


@pytest.mark.fault(49)
def test_a_failing_download_tells_no_secret(tmp_path: Path) -> None:
    """With HF_ENDPOINT=http://user:password@host the address is part of every message of the libraries beneath."""
    command = [sys.executable, "-m", "seq2seq", "--debug", "data", "download", "a/b", "-s", "x", "-t", "y"]
    places = {"HF_HOME": str(tmp_path / "hf"), "SEQ2SEQ_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    environment = {**os.environ, **ENVIRONMENT, **places, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "data")], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode in (3, 4), done.stderr
    assert_clean(Outcome(done.returncode, done.stdout, done.stderr), tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/x", "https://***@host/x"),
        ("http://host/x?a=1&token=abc&b=2", "http://host/x?a=1&token=***&b=2"),
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer ***"),
        (f"key {TOKEN}.", "key ***."),
        ("https://me:pa@ss@host/x", "https://***@host/x"),
        ("https://host/x?sv=1&sig=ab%2B&key=K1&pwd=p#f", "https://host/x?sv=1&sig=***&key=***&pwd=***"),
        (
            "https://s3/x?X-Amz-Credential=A/b&X-Amz-Signature=0f",
            "https://s3/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("{'Authorization': 'Token abc', 'X-Api-Key': 'abc'}", "{'Authorization': 'Token ***', 'X-Api-Key': '***'}"),
        ("Proxy-Authorization: abcdef", "Proxy-Authorization: ***"),
        ("ghp_CanaryCanaryCanary github_pat_CanaryCanary_Canary", "*** ***"),
        ("AKIAIOSFODNN7EXAMPLE sk-CanaryCanaryCanary12 sk-ant-api03-CanaryCanaryCanary_Ca-nary9", "*** *** ***"),
        (
            "corpora/sk-en.OpenSubtitles2018 cs-sk-OpenSubtitles2018v20",
            "corpora/sk-en.OpenSubtitles2018 cs-sk-OpenSubtitles2018v20",
        ),
        ("key=value", "key=value"),
        ("training.max_tokens=256", "training.max_tokens=256"),
        ("mail me@host.org", "mail me@host.org"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_what_is_a_secret(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert str(UserError(text, where=text, hint=text)) == f"{shown}\n  --> {shown}\n  hint: {shown}"


def test_variables_that_name_places_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path in HF_TOKEN_PATH would otherwise be cut out of every message."""
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/somebody/token")
    monkeypatch.setenv("NO_TOKEN", "1")
    monkeypatch.setenv("CI_JOB_TOKEN", "/home/some")
    assert redact("cannot read /home/somebody/token: 1") == "cannot read ***body/token: 1"
