"""Values of options that typer refuses, in the words of all other errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Runner


@pytest.mark.parametrize(
    ("option", "value", "what", "hint", "code"),
    [
        ("--beam-size", "0", "must be 1 or more, not 0", "--beam-size 1", "usage.value"),
        ("--top-p", "7", "must be 1 or less, not 7", "--top-p 1", "usage.value"),
        ("--beam-size", "five", "must be a whole number, not five", "seq2seq translate --help", "usage.command-line"),
        ("--length-penalty", "much", "must be a number, not much", "seq2seq translate --help", "usage.command-line"),
    ],
)
def test_values(option: str, value: str, what: str, hint: str, code: str, seq2seq: Runner) -> None:
    """typer prints the words of pydantic, which the user has never heard of."""
    outcome = seq2seq("translate", "run", option, value)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: invalid value for '{option}': {what}  [{code}]\n  --> seq2seq translate\n  hint: {hint}\n"
    )


@pytest.mark.parametrize(
    ("value", "what", "hint"),
    [
        (("translate", "run", "--precision", "int3"), "is none of auto, fp32, bf16, fp16 and int8", "--precision auto"),
        (("translate", "run", "--precision", ""), "is none of auto, fp32, bf16, fp16 and int8", "--precision auto"),
        (("align", "run", "--errors", "ignore"), "is neither strict nor replace", "--errors strict"),
        (("tokenizer", "encode", "run", "--side", "both"), "is neither source nor target", "--side source"),
        (("evaluate", "run", "--split", "train"), "is neither test nor valid", "--split test"),
        (("init", "--model", "Transformer"), "is none of auto, transformer and gru", "--model auto"),
    ],
)
def test_choices(value: tuple[str, ...], what: str, hint: str, seq2seq: Runner) -> None:
    outcome = seq2seq(*value)
    assert outcome.code == 2
    assert outcome.err == f"error: {' '.join(value[-2:])} {what}  [usage.choice]\n  hint: {hint}\n"


def test_several_references(tmp_path: Path, seq2seq: Runner) -> None:
    """Of `--references A --references B` only B was scored, and of `--references A B` neither."""
    texts = {"hyp": "the cat sat on the mat", "one": "a cat was on the rug", "two": "the cat sat on the mat"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text + "\n")
    hypotheses, one, two = (tmp_path / name for name in texts)
    for references in (("-r", one, "-r", two), ("-r", one, two), ("-r", two, "--references", one)):
        outcome = seq2seq("evaluate", "--hypotheses", hypotheses, *references, "--json")
        score = json.loads(outcome.out)[0]
        assert (round(score["value"]), score["signature"][:7]) == (100, "nrefs:2")


def test_a_system_without_file_locks_is_named() -> None:
    """On Windows, most commands ended with "this is a bug in seq2seq"."""
    hidden = "import sys, runpy; sys.modules |= dict.fromkeys(('fcntl', 'resource', 'termios', 'pwd', 'grp'))"
    program = f"{hidden}; sys.argv = ['seq2seq', 'train']; runpy.run_module('seq2seq', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this system lacks the file locks and signals of POSIX  [usage.system]\n")
    assert "WSL 2" in done.stderr
