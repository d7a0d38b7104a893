"""`seq2seq tune` with real, tiny trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SHORT, TINY, Runner, checkpoint_of

SETTINGS = [*TINY["transformer"], *SHORT, "training.max_steps=12", "training.validate_every=3", "data.holdout=8"]


@pytest.fixture(scope="module")
def mine(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of the corpus."""
    config = tmp_path_factory.mktemp("tune") / "mine.yaml"
    files = f"{{source: {corpus / 'corpus.en'}, target: {corpus / 'corpus.de'}}}"
    config.write_text(f"data:\n  target_language: de\n  train: [{files}]\n", encoding="utf-8")
    return config


@pytest.fixture
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("_desk")
def test_a_search_ends_with_runs_and_a_config_that_trains_the_best_again(mine: Path, seq2seq: Runner) -> None:
    """Pauses change nothing: training from best.yaml without a pause ends with the same bits."""
    command = ("tune", mine, *SETTINGS, "model.dropout=0.0,0.3", "--budget", "10h", "--ensemble", "2", "-o", "found")
    outcome = seq2seq(*command, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [trial["settings"] for trial in found["trials"]] == [["model.dropout=0.0"], ["model.dropout=0.3"]]
    assert [len(trial["scores"]) for trial in found["trials"]] == [2, 2]
    assert found["comparison"]["tests"], "both trials ended, and are compared on the test set"
    best = Path(found["best"]["run"])
    assert best.parent == Path("found")
    found_next = outcome.err
    assert "next: seq2seq translate" in found_next
    together = found["ensemble"]
    assert together["runs"][0] == str(best)
    first, second = together["runs"]
    outcome = seq2seq("evaluate", first, "--ensemble", second, "--baseline", first, "--json")
    assert outcome.code == 0, outcome.err
    evaluated = json.loads(outcome.out)
    assert evaluated == together["test"]
    gains = together["validation"] is None or together["validation"] > found["best"]["scores"][-1]["score"]
    assert (f"seq2seq distill {first} --ensemble {second}" in found_next) == gains

    assert found["best"]["settings"][0].partition("=")[2] in Path("found/best.yaml").read_text(encoding="utf-8")

    edited = Path("found/best.yaml").read_text(encoding="utf-8") + "# a line of the user\n"
    Path("found/best.yaml").write_text(edited, encoding="utf-8")
    again = seq2seq(*command, "-q")
    assert again.code == 0, again.err
    assert Path("found/best.yaml").read_text(encoding="utf-8") == edited
    assert float(again.out) == round(found["best"]["scores"][-1]["score"], 2)

    outcome = seq2seq("train", "found/best.yaml", "-o", "again")
    assert outcome.code == 0, outcome.err
    weights = [checkpoint_of(run, "last") / "model.safetensors" for run in (best, Path("again"))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.usefixtures("_desk")
def test_the_plan_is_shown_without_a_trace(mine: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("tune", mine, *SETTINGS, "--budget", "10h", "--dry-run", "--sampler", "random")
    assert outcome.code == 0, outcome.err
    assert "tokenizer.sampling" in outcome.out
    assert "about 81 for" in outcome.out
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "usage.nothing-to-do"),
        (("absent.yaml", "--budget", "1m"), "config.no-file"),
        (("preset=demo-gru",), "usage.nothing-to-do"),
        (("preset=demo-gru", "--budget", "soon"), "usage.value"),
        (("preset=demo-gru", "--budget", "1m", "--sampler", "luck"), "usage.choice"),
        (("preset=demo-gru", "--budget", "1m", "model.droput=0.1,0.2"), "config.unknown-key"),
        (("preset=demo-gru", "--budget", "1m", "model.dropout=0.1,"), "usage.value"),
        (("preset=demo-gru", "--budget", "1m", "data.valid=[]"), "config.no-data"),
    ],
)
def test_mistakes_are_told_at_once(arguments: tuple[str, ...], code: str, seq2seq: Runner) -> None:
    outcome = seq2seq("tune", *arguments)
    assert outcome.code == 2
    assert f"[{code}]" in outcome.err
