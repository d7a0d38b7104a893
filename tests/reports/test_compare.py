"""Comparisons and lists of runs, on copies of a small run."""

from __future__ import annotations

import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Runner

from seq2seq.evaluation.significance import MetricTest, SystemScore
from seq2seq.reports.compare import Comparison, comparison_text, short_names
from seq2seq.reports.run_summary import summarise


@pytest.fixture
def runs(gru: Path, tmp_path: Path) -> Path:
    """A folder with a run and one that differs from it in a setting, a score and its test output."""
    for name in ("first", "second"):
        shutil.copytree(gru, tmp_path / "runs" / name, symlinks=True)
    second = tmp_path / "runs" / "second"
    config = second / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "learning_rate: 0.005" in text
    config.write_text(text.replace("learning_rate: 0.005", "learning_rate: 0.001"), encoding="utf-8")
    return tmp_path / "runs"


def compared(seq2seq: Runner, *arguments: object) -> dict[str, object]:
    outcome = seq2seq("compare", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, object] = json.loads(outcome.out)
    return found


def test_settings_curves_and_equal_scores(runs: Path, seq2seq: Runner) -> None:
    found = compared(seq2seq, runs / "first", runs / "second")
    assert found["settings"] == {"training.optimizer.learning_rate": {"first": "0.005", "second": "0.001"}}
    first, second = found["runs"]  # type: ignore[misc]
    assert [point["step"] for point in first["curve"]] == [30, 60]
    assert first["scores"] == second["scores"]
    (verdict,) = found["verdicts"]  # type: ignore[misc]
    assert verdict == "second and first have the same BLEU"
    shown = seq2seq("compare", runs / "first", runs / "second").out
    assert "training.optimizer.learning_rate" in shown
    assert shown.index("Settings that differ") < shown.index("Validation BLEU") < shown.index("± 95 %")


def test_each_curve_is_shown_though_runs_are_validated_at_other_steps(runs: Path) -> None:
    summary = summarise(runs / "first")
    often, rarely = (
        replace(summary, curve=[summary.curve[0]._replace(step=step, score=score) for step in steps])
        for steps, score in ((range(30, 4001, 30), 11.5), (range(7, 4001, 1331), 22.5))
    )
    shown = comparison_text(Comparison(["often", "rarely"], [often, rarely], {}, [], "no test set")).splitlines()
    assert sum("11.5" in row for row in shown) in range(10, 13)  # the row of the best counted
    assert sum("22.5" in row for row in shown) == 5


def test_a_long_value_is_shown_by_its_end(runs: Path) -> None:
    """Paths of corpora differ at their ends, and made rows too long for a terminal."""
    summary = summarise(runs / "first")
    settings = {"data.train.0.source": ["corpora/" * 5 + "train.en", "train.en"]}
    shown = comparison_text(Comparison(["a", "b"], [summary, summary], settings, [], ""))
    assert "data.train.0.source  ...pora/corpora/train.en  train.en" in shown


def test_a_difference_has_one_cause_where_the_others_leave_the_training_as_it_is(runs: Path, seq2seq: Runner) -> None:
    config = runs / "second" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "log_every: " in text
    assert "label_smoothing: 0.1" in text
    for old, new, several in (
        ("log_every: ", "log_every: 1", False),
        ("label_smoothing: 0.1", "label_smoothing: 0.2", True),
    ):
        text = text.replace(old, new)
        config.write_text(text, encoding="utf-8")
        (verdict,) = compared(seq2seq, runs / "first", runs / "second")["verdicts"]  # type: ignore[misc]
        assert ("settings differ, so no single one explains it" in verdict) == several


def test_other_test_sets_are_not_compared(runs: Path, seq2seq: Runner) -> None:
    (runs / "second" / "data.json").unlink()  # it has the hashes of the old text
    for name in ("test.source", "test.target", "test.hyp"):
        path = runs / "second" / name
        path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    found = compared(seq2seq, runs / "first", runs / "second")
    assert (found["tests"], found["verdicts"]) == ([], [])
    assert "the test sets differ" in str(found["remark"])


def test_one_run_is_no_comparison(runs: Path, seq2seq: Runner) -> None:
    for given in ([runs / "first"], [runs / "first", runs / "second" / ".." / "first"]):
        assert seq2seq("compare", *given).code == 2


def test_the_list_of_runs_knows_their_states(runs: Path, seq2seq: Runner) -> None:
    (runs / "second" / "results.json").unlink()
    shutil.copytree(runs / "first", runs / "deeper" / "third", symlinks=True)
    (runs / "deeper" / "third" / "config.yaml").write_text("model: {}\n", encoding="utf-8")

    def states() -> dict[str, str]:
        outcome = seq2seq("runs", runs, "--json")
        assert outcome.code == 0, outcome.err
        return {Path(run["run"]).name: run["state"] for run in json.loads(outcome.out)}

    assert states() == {"first": "finished", "second": "stopped", "third": "damaged"}
    with (runs / "second" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert states()["second"] == "running"
    text = seq2seq("runs", runs).out
    assert f"seq2seq train {runs / 'second' / 'config.yaml'}" in text
    assert f"seq2seq doctor {runs / 'deeper' / 'third'}" in text
    assert "no runs" in seq2seq("runs", runs / "first" / "checkpoints").out


def test_a_stopped_run_is_continued_from_the_folder_of_its_corpora(
    gru: Path, corpus: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that was printed in another folder did not find the corpora, whose names start from the first one."""
    home = tmp_path / "my home"
    run = home / "runs" / "mine"
    shutil.copytree(gru, run, symlinks=True)
    shutil.copytree(corpus, home / "data")
    (run / "results.json").unlink()
    config = run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(corpus), "data"), encoding="utf-8")
    command = "seq2seq train runs/mine/config.yaml -o runs/mine"
    monkeypatch.chdir(home)
    assert seq2seq("runs").out.endswith(f"to continue runs/mine: {command}\n")
    monkeypatch.chdir(tmp_path)
    assert seq2seq("runs", "my home").out.endswith(f"mine: cd '{home}' && {command}\n")
    shutil.rmtree(home / "data")
    assert seq2seq("runs", "my home").out.endswith(
        "seq2seq train 'my home/runs/mine/config.yaml' -o 'my home/runs/mine'\n"
    )


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names([Path("/a/b/x"), Path("/a/c/x"), Path("/a/c/y")]) == ["b/x", "c/x", "c/y"]


def test_an_evaluation_beside_a_baseline(runs: Path, seq2seq: Runner, tmp_path: Path) -> None:
    first, references = runs / "first", runs / "first" / "test.target"
    found = json.loads(seq2seq("evaluate", first, "--baseline", runs / "second", "--json").out)
    assert [entry["significant"] for entry in found if "baseline" in entry] == [False, False]
    lines = references.read_text(encoding="utf-8").splitlines()
    (tmp_path / "good").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    outcome = seq2seq("evaluate", first, "--baseline", tmp_path / "good")
    assert "BLEU worse than" in outcome.out
    assert "unlikely to be chance" in outcome.out
    given = ("evaluate", "--hypotheses", tmp_path / "good", "-r", references, "--baseline")
    assert "100.00" in seq2seq(*given, first / "test.hyp").out
    assert seq2seq(*given, first).code == 2
    (tmp_path / "short").write_text("one\n", encoding="utf-8")
    assert seq2seq(*given, tmp_path / "short").code == 3


def test_means_over_seeds(runs: Path, seq2seq: Runner) -> None:
    summary = summarise(runs / "first")
    scores = [SystemScore(value, 1.0) for value in (30.0, 32.0, 28.0)]
    tests = [MetricTest("BLEU", "nrefs:1", scores)]
    settings = {"seed": ["1", "2", "1"], "model.dropout": ["0.1", "0.1", "0.2"], "training.log_every": ["1", "2", "1"]}
    comparison = Comparison(["a", "b", "c"], [summary] * 3, settings, tests, "")
    together, alone = comparison.seeds
    assert (together.names, alone.names) == (["a", "b"], ["c"])
    assert together.scores["BLEU"] == pytest.approx((31.0, 2**0.5))
    assert alone.scores == {"BLEU": (28.0, None)}
    shown = comparison_text(comparison)
    rows = [line.split() for line in shown.splitlines()]
    assert ["a,", "b", "2", "31.00", "±", "1.41"] in rows
    assert ["c", "1", "28.00"] in rows
    assert not comparison._replace(settings={"model.dropout": ["1", "2", "3"]}).seeds
    assert not comparison._replace(tests=[]).seeds
    assert not comparison._replace(settings={"training.log_every": ["1", "2", "3"]}).seeds  # the same run thrice
    assert not comparison._replace(settings={"seed": ["1", "1", "2"]}).seeds

    config = runs / "second" / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("learning_rate: 0.001", "learning_rate: 0.005")
    config.write_text(text.replace("seed: 1\n", "seed: 2\n", 1), encoding="utf-8")
    [found] = compared(seq2seq, runs / "first", runs / "second")["seeds"]  # type: ignore[misc]
    assert found["runs"] == ["first", "second"]
    assert found["scores"]["BLEU"]["standard_deviation"] == 0


def test_several_settings_that_differ_have_no_single_cause() -> None:
    settings = {"model.dropout": ["0.1", "0.2", "0.1"], "training.max_steps": ["100", "50", "50"]}
    comparison = Comparison(["a", "b", "c"], [], settings, [], "")
    assert "2 settings differ" in comparison._causes(1)
    assert comparison._causes(2) == ""
