"""Findings about constructed translations and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from seq2seq.checks.diagnosis import (
    Diagnosis,
    TrainingPlan,
    diagnose,
    fine_tuning_findings,
    is_copy,
    main_script,
    repeats,
)

_SOURCES = [f"the number {n} stands in a line of its own here" for n in range(300)]
_REFERENCES = [f"die Zahl {n} steht hier in einer eigenen Zeile" for n in range(300)]
_PLAN = TrainingPlan(max_steps=100, warmup_steps=10)


def of_outputs(hypotheses: Sequence[str], length_penalty: float = 1.0) -> list[Diagnosis]:
    """Findings about translations of the first sources."""
    count = len(hypotheses)
    return diagnose(_SOURCES[:count], _REFERENCES[:count], hypotheses, [], _PLAN, length_penalty)


def of_curves(rows: Sequence[Mapping[str, Any]], plan: TrainingPlan) -> list[Diagnosis]:
    return diagnose([], [], [], rows, plan, 1.0)


def codes(hypotheses: list[str]) -> list[str]:
    return [finding.code for finding in of_outputs(hypotheses)]


def test_good_translations_have_no_findings() -> None:
    assert codes(_REFERENCES) == []
    assert codes([]) == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("empty", [""] * 12),
        ("copied", _SOURCES[:12]),
        ("repeated", [f"{n} und das und das und das und das und" for n in range(12)]),
        ("cut", [f"die {n}" for n in range(12)]),
        ("unknown", [f"die Zahl ⁇ steht hier in einer eigenen Zeile {n}" for n in range(12)]),
        ("identical", ["das ist immer derselbe Satz hier drin"] * 12),
    ],
)
def test_a_fault_of_some_lines_is_found_with_its_share(code: str, wrong: list[str]) -> None:
    found = of_outputs([*wrong, *_REFERENCES[12:]])
    assert [finding.code for finding in found] == [code]
    assert found[0].evidence.startswith("12 of 300 lines (4 %)")
    assert found[0].command.startswith("seq2seq ")


def test_faults_of_the_whole_text() -> None:
    assert "length" in codes([line + " " + line[:20] for line in _REFERENCES])
    assert "script" in codes([f"число {n} стоит здесь на отдельной строке" for n in range(300)])
    assert codes(_REFERENCES[:25]) == ["few-sentences"]


def validations(*rows: tuple[int, float, float]) -> list[dict[str, object]]:
    return [{"kind": "validation", "step": step, "bleu": bleu, "loss": loss} for step, bleu, loss in rows]


def trained(step: int, perplexity: float, epoch: float) -> dict[str, object]:
    return {"kind": "train", "step": step, "perplexity": perplexity, "epoch": epoch}


@pytest.mark.parametrize(
    ("rows", "plan", "expected"),
    [
        (validations((30, 10, 3), (60, 20, 2), (100, 20.1, 2)), _PLAN, []),
        (validations((30, 10, 3), (60, 20, 2), (100, 25, 1.9)), _PLAN, ["still-improving"]),
        (validations((30, 10, 3), (60, 20, 2), (70, 25, 1.9)), _PLAN, []),
        (validations((30, 10, 3), (60, 20, 2), (70, 25, 1.9)), _PLAN._replace(has_ended=True), ["still-improving"]),
        (validations((30, 10, 2), (60, 9, 2.2), (100, 9, 2.9)), _PLAN, ["overfitting"]),
        (validations((100, 10, 2)), _PLAN._replace(warmup_steps=1000), ["warm-up"]),
        ([{"kind": "validation", "step": "x", "loss": None}], _PLAN, []),
        ([*validations((100, 1, 3)), trained(100, 15, 1.5)], _PLAN, ["few-steps"]),
        ([*validations((100, 1, 3)), trained(100, 15, 1.5)], _PLAN._replace(warmup_steps=100), ["warm-up"]),
        ([*validations((5000, 1, 3)), trained(5000, 15, 1.5)], _PLAN, []),
        ([*validations((5000, 1, 3)), trained(5000, 15, 0.5)], _PLAN, ["few-steps"]),
        ([*validations((5000, 30, 1.7)), trained(5000, 1.6, 30)], _PLAN, ["gap"]),
        ([*validations((5000, 30, 1.7)), trained(5000, 1.6, 30)], _PLAN._replace(learns_translations=True), []),
        ([*validations((5000, 30, 1.7)), trained(5000, 3, 30)], _PLAN, []),
    ],
)
def test_curves(rows: list[dict[str, object]], plan: TrainingPlan, expected: list[str]) -> None:
    assert [finding.code for finding in of_curves(rows, plan)] == expected


@pytest.mark.parametrize(
    ("dropout", "remedy"), [(0.1, "model.dropout=0.2"), (0.3, "model.dropout=0.4"), (0.5, "model.word_dropout=0.1")]
)
def test_more_dropout_is_more_than_the_run_had(dropout: float, remedy: str) -> None:
    """A run with a dropout of 0.3 was advised to take 0.3."""
    rows = [*validations((5000, 30, 1.7)), trained(5000, 1.6, 30)]
    (finding,) = of_curves(rows, _PLAN._replace(dropout=dropout))
    assert f" {remedy} " in finding.command


def test_the_remedy_of_a_limited_training_has_twice_the_limit() -> None:
    """A budget of three minutes stayed in the config, and a longer training ended as early as the first."""
    plan = _PLAN._replace(limits=(("training.budget_minutes", 3.0),), has_ended=True)
    (finding,) = of_curves(validations((30, 10, 3), (60, 20, 2), (70, 25, 1.9)), plan)
    assert "training.max_steps=140 training.budget_minutes=6 " in finding.command


def test_the_remedy_of_a_training_of_one_step_is_no_second_step() -> None:
    """A budget of 20 seconds allowed one step, and two were advised, within 40 seconds."""
    plan = TrainingPlan(1, 0, limits=(("training.budget_minutes", 0.33),), has_ended=True)
    (finding,) = of_curves([*validations((1, 10, 3)), trained(1, 15, 0.1)], plan)
    assert "training.max_steps=100 training.budget_minutes=null " in finding.command


@pytest.mark.parametrize(
    ("scores", "worse"),
    [
        ([("BLEU", 37.82, 30.2), ("chrF", 42.07, 41.42)], True),
        ([("BLEU", 37.82, 36.2), ("chrF", 42.07, 42.42)], False),
        ([("BLEU", 37.82, 37.2), ("chrF", 42.07, 41.42)], False),
        ([], False),
    ],
)
def test_a_fine_tuning_that_loses_is_a_finding(scores: list[tuple[str, float, float]], worse: bool) -> None:
    found = list(fine_tuning_findings(scores, 0.003))
    assert [finding.code for finding in found] == ["worse"] * worse
    assert all(
        "BLEU 37.82 before, 30.20 now" in each.evidence and "learning_rate=0.001 " in each.command for each in found
    )


def test_names_and_intended_repetitions_are_no_faults() -> None:
    assert not is_copy("Anna Maria", "Anna Maria", "Anna Maria")
    assert not is_copy("a b c d e", "a b c d e", "a b c d e")
    assert not repeats("nein, nein, nein!")
    assert repeats("哈你好你好你好你好")
    assert main_script(["これは本です"]) == "CJK"
    assert main_script(["12 ..."]) == ""


def test_a_length_penalty_that_was_tried_is_not_advised_again() -> None:
    short = [line[: len(line) // 3] for line in _REFERENCES]
    for penalty, part in ((1.0, "--length-penalty 1.2"), (1.2, "training.max_steps=")):
        found = {finding.code: finding for finding in of_outputs(short, penalty)}
        assert part in found["length"].command
        assert part in found["cut"].command
    doubled = [f"{line} {line}" for line in _REFERENCES]
    for penalty, part in ((1.0, "--length-penalty 0.6"), (0.5, "training.max_steps=")):
        (finding,) = of_outputs(doubled, penalty)
        assert (finding.code, part in finding.command) == ("length", True)
