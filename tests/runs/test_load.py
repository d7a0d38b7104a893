"""`seq2seq.load` offers what the command offers: checkpoint, precision, workers, ensemble, engine."""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from typer.testing import CliRunner

import seq2seq
from seq2seq.cli.main import app
from seq2seq.config.settings import DataSettings, DecodingPrecision
from seq2seq.decoding import engine
from seq2seq.decoding.reranking import RerankingEngine
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.errors import CheckpointError, ConfigError, UsageError
from seq2seq.runs.loaded_run import LoadedRun

OLD_RUNS = Path(__file__).parent / "old_runs"
LINES = (OLD_RUNS / "corpus.en").read_text(encoding="utf-8").splitlines()[:12]


@pytest.fixture(scope="module")
def loaded() -> LoadedRun:
    """A run that no test changes."""
    return seq2seq.load(OLD_RUNS / "runs" / "transformer")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(OLD_RUNS / "runs" / "transformer", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def test_the_named_checkpoint_is_loaded(run: Path) -> None:
    assert seq2seq.load(run).checkpoint == "step-00000250"
    assert seq2seq.load(run, checkpoint="last").checkpoint == "step-00000401"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        seq2seq.load(run, checkpoint="step-7")


def test_loading_imports_nothing_that_one_line_does_without() -> None:
    """One line waited for sacrebleu, which --mbr alone needs, and for pyarrow, because a checkpoint names a batch."""
    code = """
import sys
from itertools import pairwise
import seq2seq.runs.load
print(*{"sacrebleu", "pyarrow", "datasets", "numba", "transformers", "ctranslate2", "tensorboard"} & sys.modules.keys())
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def test_workers_and_threads_do_not_change_the_output(run: Path) -> None:
    alone = seq2seq.load(run, threads=1, workers=1).translate(LINES)
    assert seq2seq.load(run, threads=1, workers=2).translate(LINES) == alone
    assert seq2seq.load(run, threads=2).translate(LINES) == alone


def test_an_ensemble_of_a_model_with_itself_is_the_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = seq2seq.load(run, precision="fp32").translate(LINES)
    for ensemble in ([run], run, str(run)):
        assert seq2seq.load(run, ensemble=ensemble, precision="fp32").translate(LINES) == alone
        assert "is in the ensemble 2 times" in capsys.readouterr().err


def test_what_is_not_there_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="is not a device"):
        seq2seq.load(run, device="abacus")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        seq2seq.load(run, device="cpu", precision="fp16")
    with pytest.raises((CheckpointError, UsageError), match="export"):
        seq2seq.load(run, engine="ctranslate2")


def test_attention_is_a_distribution_over_the_source(run: Path) -> None:
    matrix = seq2seq.load(run).attention(LINES[0])
    assert matrix.weights.sum(dim=1).tolist() == pytest.approx([1.0] * len(matrix.target_pieces), abs=1e-4)


def test_one_string_is_one_text_and_other_types_are_refused(loaded: LoadedRun) -> None:
    """A string was translated character by character; beam_size="5" failed deep in torch."""
    texts = loaded.translate(LINES[:2], beam_size=2)
    assert loaded.translate(LINES[0], beam_size=2) == texts[0]
    assert loaded.translate((line for line in LINES[:2]), beam_size=2) == texts
    listed = loaded.translate(LINES[0], n_best=3, max_length=4)
    assert len(listed) == 3
    assert loaded.translate(LINES[:1], n_best=3, max_length=4) == [listed]
    assert len(loaded.encode(LINES[0]).states) == 1
    for odd in (b"a", 7, None, {"a": 1}, {"a"}, [b"a"], ["a", None], [["a"]]):
        with pytest.raises(TypeError, match=r'as in run.translate\(\["a text"\]\)'):
            loaded.translate(odd)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not bytes"):
        loaded.translate(b"a")  # type: ignore[call-overload]
    for odd in (("a", "b"), ["ab"], [("a",)], [("a", None)]):
        with pytest.raises(TypeError, match="list of pairs"):
            loaded.score(odd)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give one text"):
        loaded.attention([LINES[0]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("beam_size", "5", TypeError, "beam_size must be a whole number, as in beam_size=1, not str '5'"),
        ("beam_size", 2.5, TypeError, "whole number"),
        ("n_best", True, TypeError, "whole number"),
        ("target_tag", 3, TypeError, 'as in target_tag="de"'),
        ("n_best", 0, UsageError, "n_best must be 1 or more, not 0"),
        ("length_penalty", float("nan"), UsageError, "length_penalty must be 0 or more"),
        ("max_length", -1, UsageError, "max_length must be 1 or more"),
        ("target_tag", "de", UsageError, "trained without target_tag"),
    ],
)
def test_options_are_checked_as_on_the_command_line(
    option: str, value: object, error: type[Exception], message: str, loaded: LoadedRun
) -> None:
    with pytest.raises(error, match=message):
        loaded.translate(LINES[:1], **{option: value})  # type: ignore[call-overload]


def test_a_beam_narrower_than_the_list_is_refused(loaded: LoadedRun) -> None:
    with pytest.raises(UsageError, match="a beam of 2 cannot give 3"):
        loaded.translate(LINES[:1], beam_size=2, n_best=3)


def test_target_tags_in_python(run: Path) -> None:
    loaded = seq2seq.load(run)
    loaded.translator.tags = TargetTags(("<2de>", "<2fr>"))
    data = loaded.config.data
    sources = tuple(source.model_copy(update={"target_tag": "de"}) for source in data.train)
    loaded.config = loaded.config.model_copy(update={"data": data.model_copy(update={"train": sources})})
    tagged = loaded.translate("<2de> " + LINES[0])
    assert loaded.translate(LINES[0], target_tag="de") == tagged
    pair = (LINES[0], tagged)
    assert loaded.score([pair], target_tag="fr") == loaded.score([("<2fr> " + pair[0], pair[1])])
    for call in (loaded.translate, loaded.encode, loaded.attention):
        with pytest.raises(UsageError, match=r"target_tag is missing(\n.*)*de, fr"):
            call(LINES[0])  # type: ignore[operator]
    with pytest.raises(UsageError, match="target_tag is missing"):
        loaded.score([pair])


def test_a_short_text_uses_one_thread(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine two threads waited for each other: 6.2 s for a line that one translates in 0.08 s."""
    used = []
    for threads in (0, 2):
        loaded = seq2seq.load(run, threads=threads, workers=1)
        torch.set_num_threads(2)
        search = loaded.translator.engine.search
        monkeypatch.setattr(
            loaded.translator.engine, "search", lambda *given, search=search: (count(used), search(*given))[1]
        )
        loaded.translate(LINES[0], beam_size=1)
        assert torch.get_num_threads() == 2
    assert used == [1, 2]


def count(used: list[int]) -> None:
    used.append(torch.get_num_threads())


def test_a_precision_of_the_config_that_is_not_there_is_replaced(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is used on another machine than the one that it was trained on."""
    plain = seq2seq.load(run)
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert text.count("\n  precision: auto\n") == 1
    config.write_text(text.replace("\n  precision: auto\n", "\n  precision: bf16\n"), encoding="utf-8")
    monkeypatch.setattr("seq2seq.decoding.engine.computes_bf16", lambda: False)
    capsys.readouterr()
    other = seq2seq.load(run)
    assert "bf16: decoding.precision is bf16, and fp32 takes its place" in capsys.readouterr().err
    assert other.identity == plain.identity
    assert other.translate(LINES) == plain.translate(LINES)
    monkeypatch.setattr("seq2seq.decoding.engine.computes_bf16", lambda: True)
    assert seq2seq.load(run).identity == plain.identity | {"precision": "bf16"}


def test_every_precision_is_known_everywhere() -> None:
    assert set(get_args(DecodingPrecision)) == engine._TYPES.keys()


@pytest.mark.parametrize("command", ["serve", "distill", "evaluate", "translate", "backtranslate"])
def test_options_reach_the_loaded_run(command: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(run: Path, **options: object) -> None:
        raise UsageError(f"precision {options['precision']}, rerank {options.get('rerank')}")

    importlib.import_module("seq2seq.runs.evaluate")  # whoever imports the name now would keep it
    importlib.import_module("seq2seq.tuning.ensemble")
    monkeypatch.setattr("seq2seq.runs.load.load", loaded)
    arguments = {
        "serve": ["--port", "0"],
        "distill": ["-o", "small"],
        "backtranslate": [str(OLD_RUNS / "corpus.en"), "-o", "x"],
    }
    options = ["--precision", "int8", *arguments.get(command, [])]
    options += [] if command == "backtranslate" else ["--rerank", "back"]
    with pytest.raises(UsageError, match="precision int8, rerank " + ("back" if "--rerank" in options else "None")):
        CliRunner().invoke(app, [command, str(run), *options], catch_exceptions=False)


@pytest.mark.int8
def test_a_run_that_reranks_computes_in_int8_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.runs.loaded_run.translates_forward", lambda *_: None)
    monkeypatch.setattr(DataSettings, "languages", ("", ""))
    exact, rough = (seq2seq.load(run, rerank=run, precision=precision) for precision in ("fp32", "int8"))
    scores = []
    for loaded in (exact, rough):
        assert isinstance(loaded.translator.engine, RerankingEngine)
        assert loaded.backward is not None
        scorer, plain = loaded.translator.engine.scorer, loaded.backward.translator.scorer
        pairs = list(pairwise(LINES))
        before = plain.score(pairs)
        scores.append([item.log_probability for item in scorer.score(pairs)])
        assert plain.score(pairs) == before  # without dropout, which another model that shares its parts might turn on
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], rel=0.05)


def test_a_run_that_reranks_has_the_opposite_direction(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="translates from en to de") as refused:
        seq2seq.load(run, rerank=run)
    assert refused.value.hint == "a run from de to en"
    monkeypatch.setattr(DataSettings, "languages", ("", ""))
    monkeypatch.setattr("seq2seq.runs.loaded_run.translates_forward", lambda *_: False)
    with pytest.raises(UsageError, match="translates in the same direction"):
        seq2seq.load(run, rerank=run)
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match=r"is no weight|must be 0 or more"):
            seq2seq.load(run, rerank=run, rerank_weight=weight)


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        ({"engine": "x"}, UsageError, "unknown engine 'x'"),
        ({"workers": -3}, UsageError, "workers must be 0 or more"),
        ({"threads": -1}, UsageError, "threads must be 0 or more"),
        ({"threads": "2"}, TypeError, "threads must be a whole number"),
        ({"rerank": "back", "rerank_weight": "x"}, TypeError, "rerank_weight must be a number"),
        ({"rerank_weight": 0.5}, UsageError, "rerank_weight without rerank"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], error: type[Exception], what: str) -> None:
    """They were taken without a word, or ended in an error of torch."""
    with pytest.raises(error, match=what):
        seq2seq.load("run", **arguments)
