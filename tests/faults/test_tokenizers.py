"""Rows 23 and 25: a damaged, swapped or hostile vocabulary never translates, and never takes the process down."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError
from seq2seq.tokenizers import sentencepiece as subword
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers
from seq2seq.tokenizers.sentencepiece import parse_model, read_model
from tests.cli.conftest import run_command
from tests.tokenizers.test_tokenizer import foreign_model

PAIRS = [(f"the cat number {n} sat", f"die Katze {n} saß") for n in range(200)]


BPE = {"model_type": "bpe", "normalization_rule_name": "identity"}


def saved(folder: Path, kind: str, **more: object) -> TokenizerPair:
    settings = TokenizerSettings(**{"kind": kind, "vocabulary_size": 400, **more})  # type: ignore[arg-type]
    pair = train_tokenizers(settings, lambda: iter(PAIRS), 1)
    pair.save(folder)
    return pair


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def grow(content: bytes, chance: random.Random) -> bytes:
    return content + b"\0"


@pytest.mark.fault(23)
@pytest.mark.parametrize("damage", [truncate, flip, grow])
@pytest.mark.parametrize("kind", ["unigram", "word"])
def test_any_damage_ends_with_both_hashes(
    tmp_path: Path, kind: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    """A flipped byte often still loads, and translates with another vocabulary. Nothing says so but the hash."""
    saved(tmp_path / "t", kind)
    chance = random.Random(1)
    index = tmp_path / "t" / "tokenizer.json"
    (model,) = set((tmp_path / "t").iterdir()) - {index}
    content = model.read_bytes()
    for number in range(10):
        model.write_bytes(damage(content, chance))
        with pytest.raises(CheckpointError, match=r"expected SHA-256 [0-9a-f]{12}\.\.\., found [0-9a-f]{12}"):
            TokenizerPair.load(tmp_path / "t")
        if not number:
            outcome = run_command("tokenizer", "encode", tmp_path / "t", stdin=b"the cat\n")
            assert (outcome.code, outcome.out) == (5, "")
            assert f"--> {model}" in outcome.err
            assert "hint:" in outcome.err


@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_any_damage_to_the_index(tmp_path: Path, kind: str) -> None:
    """The index tells which file is which side: each of its bits matters."""
    saved(tmp_path / "t", kind, joint=False)
    index = tmp_path / "t" / "tokenizer.json"
    content, chance = index.read_bytes(), random.Random(2)
    for _ in range(30):
        index.write_bytes(flip(content, chance))
        with pytest.raises(CheckpointError):
            TokenizerPair.load(tmp_path / "t")
        index.write_bytes(truncate(content[:-2], chance))
        with pytest.raises(CheckpointError):
            TokenizerPair.load(tmp_path / "t")


@pytest.mark.fault(23)
def test_the_sides_swapped(tmp_path: Path) -> None:
    saved(tmp_path / "t", "unigram", joint=False)
    source, target = (tmp_path / "t" / f"{side}.model" for side in ("source", "target"))
    content = source.read_bytes()
    source.write_bytes(target.read_bytes())
    target.write_bytes(content)
    outcome = run_command("tokenizer", "encode", tmp_path / "t", stdin=b"the cat\n")
    assert outcome.code == 5
    assert "damaged or swapped: expected SHA-256" in outcome.err


@pytest.mark.fault(23)
@pytest.mark.parametrize("missing", ["joint.model", "tokenizer.json", ""])
def test_a_missing_file(tmp_path: Path, missing: str) -> None:
    saved(tmp_path / "t", "unigram")
    if missing:
        (tmp_path / "t" / missing).unlink()
    else:
        shutil.rmtree(tmp_path / "t")
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 't' / missing} is missing")):
        TokenizerPair.load(tmp_path / "t")
    outcome = run_command("tokenizer", "encode", tmp_path / "t", stdin=b"the cat\n")
    assert outcome.code == 5
    assert "[tokenizer.missing]" in outcome.err
    assert ("joint.model is missing" in outcome.err) == (missing == "joint.model")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nope", "hint: name a run, or a folder that `seq2seq tokenizer train -o` has written; there are: {}/tok"),
        ("tik", "hint: did you mean {}/tok?"),
        ("tok/joint.model", "hint: did you mean {}/tok?"),
        ("run", "error: {}/run/tokenizer is missing"),
    ],
)
def test_what_is_no_tokenizer(tmp_path: Path, name: str, hint: str) -> None:
    """Of a mistyped name it was said to put the run's own tokenizer folder back from a copy."""
    saved(tmp_path / "tok", "word")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    outcome = run_command("tokenizer", "encode", tmp_path / name, stdin=b"the cat\n")
    assert (outcome.code, outcome.out) == (5, "")
    assert hint.format(tmp_path) in outcome.err


def train_with(model: Path) -> tuple[int, str]:
    outcome = run_command(
        "data", "prepare", "data.train=[{builtin: names}]", "data.holdout=9", f"tokenizer.source_model={model}"
    )
    return outcome.code, outcome.err


@pytest.mark.fault(25)
def test_hostile_models_are_tried_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged model has crashed the library, and Python with it. Here a crash ends a process that does nothing else.

    Whatever passes must then work for every piece and character without a fault.
    """
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    models, chance, refused = [foreign_model(), foreign_model(**BPE)], random.Random(3), 0
    path = tmp_path / "foreign.model"
    for number in range(8):
        content = models[number % 2]
        for _ in range(1 if number % 3 else 30):
            content = flip(content, chance)
        path.write_bytes(truncate(content, chance) if number % 8 == 7 else content)
        try:
            tokenizer = read_model(path)
        except CheckpointError:
            refused += 1
            continue
        rows = tokenizer.encode(["the cat ä中😀\u2581 \0", *tokenizer.pieces(range(tokenizer.size))])
        assert len(tokenizer.decode(rows)) == len(rows)
    assert refused
    path.write_bytes(models[0][:1000])
    code, said = train_with(path)
    assert code == 5
    assert "damaged, or not a sentencepiece model" in said
    assert "Traceback" not in said


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "crash",
    ["import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "import time; time.sleep(60)", "bytearray(1 << 40)"],
    ids=["segfault", "hangs", "memory"],
)
def test_the_parent_survives_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    """What an older library does with a hostile model: whatever it is, the user reads one line."""
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subword, "_CHECK", crash)
    monkeypatch.setattr(subword, "_CHECK_SECONDS", 0.5)
    path = tmp_path / "foreign.model"
    path.write_bytes(foreign_model())
    code, said = train_with(path)
    assert code == 5
    assert re.search(rf"damaged, or not a sentencepiece model.*\n  --> {re.escape(str(path))}", said)


@pytest.mark.fault(25)
def test_the_trial_imports_nothing_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `sentencepiece.py` beside a downloaded model would be run by `python -c`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentencepiece.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    (tmp_path / "foreign.model").write_bytes(foreign_model())
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    assert read_model(Path("foreign.model")).size > 40
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(25)
def test_the_parser_of_models_takes_any_bytes() -> None:
    """Damage is a ValueError, nothing else."""
    model, chance = foreign_model(**BPE), random.Random(4)
    for _ in range(100):
        try:
            pieces = parse_model(flip(truncate(model, chance), chance)).pieces
        except ValueError:
            continue
        assert all(isinstance(piece.score, float) for piece in pieces)


def test_a_tokenizer_is_replaced_by_force_alone_and_other_files_never(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"some words number {number}\n" for number in range(300)), encoding="utf-8")
    folder, notes = tmp_path / "tok", tmp_path / "notes"
    command = ("tokenizer", "train", "-s", text, "-t", text, "vocabulary_size=300", "kind=char")
    assert run_command(*command, "-o", folder).code == 0
    index = (folder / "tokenizer.json").read_bytes()
    refused = run_command(*command, "-o", folder)
    assert (refused.code, "--force replaces it" in refused.err) == (2, True)
    assert run_command(*command, "-o", folder, "--force").code == 0
    (folder / "tokenizer.json").unlink()  # as where the command was killed while it wrote
    assert run_command(*command, "-o", folder).code == 2
    assert run_command(*command, "-o", folder, "--force").code == 0
    assert (folder / "tokenizer.json").read_bytes() == index
    notes.mkdir()
    (notes / "diary.txt").touch()
    assert run_command(*command, "-o", notes, "--force").code == 2
    assert [path.name for path in notes.iterdir()] == ["diary.txt"]
