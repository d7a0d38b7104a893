"""Row 48: whatever is wrong with a config, the answer is one line, the file and line, and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from seq2seq.config import Config, load_config
from seq2seq.config.yaml import read_value
from seq2seq.errors import ConfigError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_config import config_changes, save_run_config
from tests.cli.conftest import run_command
from tests.faults.bad_configs import TRAPS, BadConfig, leaves, mutations


def check(bad: BadConfig, path: Path, said: str) -> None:
    """One line of cause with its code, the place, and a hint."""
    lines = said.splitlines()
    assert bad.what in lines[0]
    assert lines[0].endswith("]"), "no code at the end"
    if bad.line is not None:
        assert f"  --> {path}:{bad.line}" in lines
    assert bad.hint in next(line for line in lines if line.startswith("  hint: "))
    assert len(said) < 900


@pytest.mark.fault(48)
@pytest.mark.parametrize("bad", [*TRAPS, *mutations(seed=1, count=60)], ids=lambda bad: bad.name)
def test_a_trap_or_slip_is_named_with_its_line_and_a_remedy(bad: BadConfig, tmp_path: Path) -> None:
    """Groups that hold themselves, 5,000 digits and a preset in brackets ended in a traceback; many had no remedy.

    Slips are of quick typing: a letter too few, a key one level too high or twice, a word for a number.
    """
    path = tmp_path / "my.yaml"
    path.write_bytes(bad.content)
    with pytest.raises(ConfigError) as caught:
        load_config([path])
    check(bad, path, caught.value.report())


@pytest.mark.fault(48)
def test_every_message_is_ours() -> None:
    """Words of the library behind the settings showed through: "be have at most 2 items after validation", "greater
    than or equal to 1 or auto"."""
    theirs = re.compile(
        r"Input|a valid|after valid|should|equal to|items|union|NoneType|None|True|False|constrained|tuple"
    )
    forms = [f"{'.'.join(path)}=VALUE" for path, _ in leaves(Config().model_dump(mode="json"))]
    forms += [
        f"data.train=[{{source: a, target: b, {key}: VALUE}}]" for key in ("weight", "target_tag", "tag", "reverse")
    ]
    forms += ["model=VALUE", "training.optimizer.betas=[0.9, VALUE]", "data.train=[{tsv: a, source: VALUE}]"]
    for form in forms:
        for value in ("", "x", "-1", "0.5", "1e999", "true", "[]", "[x, 1, 2]", "{a: 1}", "9" * 30, "[{source: 3}]"):
            said = explanation(form.replace("VALUE", value))
            assert not theirs.search(said), said
            assert not said or "  hint: " in said, said


def explanation(setting: str) -> str:
    """What is said of a setting; nothing where it is taken."""
    try:
        load_config([], [setting])
    except ConfigError as error:
        return str(error).replace(setting, "")
    return ""


@pytest.mark.fault(48)
@pytest.mark.parametrize("command", [("config", "show"), ("train",), ("data", "prepare")], ids=" ".join)
def test_every_command_answers_alike(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    for bad in TRAPS[::15]:
        path.write_bytes(bad.content)
        outcome = run_command(*command, path)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        assert outcome.err.count("error: ") == 1
        check(bad, path, outcome.err.removeprefix("error: "))


@pytest.mark.fault(21)
def test_a_changed_setting_is_told_with_both_values_unless_it_only_steers() -> None:
    """Every key of the tree: resuming with another value would not continue the run but make another one of it."""
    before = Config()
    steering = set()
    for path, value in leaves(before.model_dump(mode="json")):
        tree = before.model_dump(mode="json")
        group = tree
        for name in path[:-1]:
            group = group[name]
        group[path[-1]] = "something else"
        after = cast(Config, SimpleNamespace(model_dump=lambda mode, tree=tree: tree))  # wrong types do not matter
        changes = config_changes(before, after)
        key = ".".join(path)
        if changes:
            before_and_after = changes[0].removeprefix(f"{key}: ").partition(" -> ")
            assert read_value(before_and_after[0], "a=b") == value  # as a config would have it
            assert (len(changes), before_and_after[2]) == (1, "something else")
        if not changes:
            steering.add("decoding" if path[0] == "decoding" else key)
    assert {"decoding", "device", "threads", "training.max_steps", "training.patience"} <= steering
    assert not {"seed", "training.batch_size", "model.dropout", "data.holdout"} & steering
    assert len(steering) < 22


@pytest.mark.fault(21)
def test_a_change_within_a_list_is_told_by_its_leaves(tmp_path: Path) -> None:
    """Both lists of corpora were printed whole, as Python dicts; that one file had another name was hard to see."""
    corpora = ["{source: a.en, target: a.de}", "{source: b.en, target: b.de}"]
    before = load_config([], [f"data.train=[{corpora[0]}, {corpora[1]}]", f"run_directory={tmp_path}"])
    directory = RunDirectory(tmp_path)
    directory.create()
    save_run_config(directory, before, {})
    given = ["data.train=[{source: a.en, target: c.de, weight: 2}]", "training.optimizer.betas=[0.9, 0.5]"]
    given += ["training.ema_decay=0.5"]
    with pytest.raises(ConfigError) as caught:
        save_run_config(directory, load_config([directory.config], given), {})
    first, *told = caught.value.report().splitlines()
    assert first == f"the run in {tmp_path} was started with other settings:  [config.changed]"
    assert sorted(told[:5]) == [
        "    data.train.0.target: a.de -> c.de",
        "    data.train.0.weight: 1.0 -> 2.0",
        "    data.train.1: {weight: 1.0, source: b.en, target: b.de} -> not there",
        "    training.ema_decay: null -> 0.5",
        f"    training.optimizer.betas: {list(before.training.optimizer.betas)} -> [0.9, 0.5]",
    ]
    assert not any("{'" in line or "None" in line for line in told)
    with pytest.raises(ConfigError) as caught:
        save_run_config(directory, load_config([directory.config], ["model={kind: gru}", "seed=7"]), {})
    told = [line for line in caught.value.report().splitlines() if line.startswith("    ")]
    assert len(told) == 11
    assert re.fullmatch(r"    and \d+ more", told[-1])


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("content", "seed"),
    [(b"", 1), (b"# nothing\n", 1), (b"\xef\xbb\xbfseed: 3\r\nname: x\r\n", 3), (b"training:\nseed: 4\n", 4)],
)
def test_what_is_odd_but_right_is_taken(content: bytes, seed: int, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(content)
    assert load_config([tmp_path / "my.yaml"]).seed == seed


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["training.max_steps", "=", "3"], "no config file training.max_steps", "training.max_steps=VALUE"),
        (["seed=1", "training.max_steps=3k"], "`training.max_steps`", "max_steps: 3000"),
        (["training.freeze=[*]"], "not valid YAML", "quote it"),
        (["a\0b.yaml"], "cannot read", "permissions"),
    ],
)
def test_slips_on_the_command_line(arguments: list[str], what: str, hint: str) -> None:
    """Spaces around = made the key a file that there is not, without a word of why."""
    outcome = run_command("config", "show", *arguments)
    assert outcome.code == 2
    assert what in outcome.err
    assert hint in outcome.err


# -- what a preset or a run decides -----------------------------------------------------------------------------------


def test_a_preset_gives_way_to_a_short_try(capsys: pytest.CaptureFixture[str]) -> None:
    """`max_steps=50` was refused where a preset had more warm-up steps; now the warm-up is shortened with a notice."""
    schedule = load_config([], ["preset=demo-gru", "training.max_steps=50"]).training.schedule
    assert schedule.warmup_steps == 5
    assert "shortened to 5 updates" in capsys.readouterr().err
    assert load_config([], ["preset=demo-gru", "training.max_steps=1"]).training.schedule.warmup_steps == 0
    assert load_config([], ["preset=demo-gru", "training.max_steps=51"]).training.schedule.warmup_steps == 50


def test_a_warmup_gives_way_to_a_short_try_of_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A schedule that the tool had chosen was refused beside the warm-up of the user, and so was `max_steps=2` beside
    a config with a warm-up of its own."""
    warmup, steps = "training.schedule.warmup_steps=60", "training.max_steps=20"
    chosen = load_config([], [warmup, steps], ["training.schedule.kind=cosine"])
    assert chosen.training.schedule.warmup_steps == 2
    (tmp_path / "my.yaml").write_text("training: {max_steps: 300, schedule: {kind: wsd, warmup_steps: 30}}\n")
    assert load_config([tmp_path / "my.yaml"], [steps]).training.schedule.warmup_steps == 2
    assert capsys.readouterr().err.count("shortened to 2 updates") == 2
    (tmp_path / "my.yaml").write_text("training: {max_steps: 30, schedule: {kind: wsd, warmup_steps: 30}}\n")
    with pytest.raises(ConfigError, match="must be below"):
        load_config([tmp_path / "my.yaml"])


def test_fine_tuning_takes_the_sizes_of_the_run(tmp_path: Path) -> None:
    """`training.init_from` wanted every size of the model spelled out, and warned of a vocabulary that a preset had
    set."""
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000002").mkdir(parents=True)
    (run / "config.yaml").write_text(
        "seed: 9\nmodel: {kind: gru, hidden_size: 34, dropout: 0.3}\n"
        "tokenizer: {vocabulary_size: 777, source_model: gone.model}\n"
    )
    for path in (run, run / "checkpoints", run / "checkpoints" / "step-00000002"):
        config = load_config([], ["preset=transformer-tiny", f"training.init_from={path}", "model.dropout=0.1"])
        assert (config.model.kind, config.model.hidden_size, config.model.dropout) == ("rnn", 34, 0.1)
        assert (config.tokenizer.vocabulary_size, config.tokenizer.source_model) == (777, None)
        assert config.seed == 1
    # What the tool suggests gives way to the run; what the user says does not, and is checked against the run later.
    suggested = ["preset=transformer-tiny", "tokenizer.vocabulary_size=500"]
    config = load_config([], [f"training.init_from={run}"], suggested)
    assert config.tokenizer.vocabulary_size == 777
    assert load_config([], [f"training.init_from={run}", "model.hidden_size=2"]).model.hidden_size == 2
    assert load_config([], ["training.init_from=nowhere"]).model.kind == "transformer"
