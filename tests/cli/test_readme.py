"""Every command of the README runs, in the order in which it is read."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import SHORT, Runner

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Settings that make a training short; the model's kind is the command's own affair.
QUICK = [*(setting for setting in SHORT if "holdout" not in setting), "model.hidden_size=32"]
QUICK += ["training.max_steps=20", "training.validate_every=10"]


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_readme_commands_run_in_order(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seq2seq: Runner
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("corpus.en", "corpus.de"):
        shutil.copy(corpus / name, name)
    for name, source in (("input.en", "corpus.en"), ("reference.de", "corpus.de")):
        Path(name).write_text("".join(line + "\n" for line in Path(source).read_text().split("\n")[:5]))
    for command in commands():
        words = shlex.split(command)
        assert words[0] == "seq2seq"
        if words[1] == "demo":
            continue  # test_main_job.py runs it, shortened
        stdin = b""
        if "<" in words:
            stdin = Path(words.pop()).read_bytes()
            words.remove("<")
        outcome = seq2seq(*words[1:], *(QUICK if words[1] == "train" else []), stdin=stdin)
        assert outcome.code == 0, f"{command}\n{outcome.err}"
    assert Path("output.de").read_text().count("\n") == 5

    (block,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})


def test_readme_names_what_exists() -> None:
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
    for folder in re.findall(r"^      (\w+)/ ", README, flags=re.MULTILINE):
        assert (ROOT / "src" / "seq2seq" / folder).is_dir(), folder
    for name in re.findall(r"\b(?:scripts|configs)/[\w./-]+\w", README):
        assert (ROOT / name).exists(), name


def test_exit_codes_are_those_of_the_readme() -> None:
    from seq2seq import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UserError)]
    assert {kind.exit_code for kind in kinds} == {2, 3, 4, 5, 6, 7, 8}
    assert all(f"{code} " in README.partition("## Exit codes")[2].partition("##")[0] for code in range(9))
