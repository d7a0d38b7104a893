"""A run has one precision: on all ranks, and from its start to its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from seq2seq.config import load_config
from seq2seq.distributed.placement import Placement
from seq2seq.distributed.ranks import Ranks
from seq2seq.optimization.precision import PrecisionChoice
from seq2seq.runs.context import RunContext
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.train import agreed_precision

ON_CPU = Placement(torch.device("cpu"), 2, 1)
CONFIG = load_config([], ["data.train=[{source: none.en, target: none.de}]"])


class TwoRanks(Ranks):
    """This rank and another one, whose answers are given."""

    def __init__(self, *, other_computes_bf16: bool, other_is_faster: bool) -> None:
        super().__init__()
        self.size = 2
        self._answers = {"able": other_computes_bf16, "faster": other_is_faster}
        self.is_new = True

    def from_first(self, text: str) -> str:
        self.is_new = json.loads(text)["precision"] is None
        return text

    def sum_host(self, values: Sequence[float]) -> list[float]:
        return [values[0] + self._answers["faster" if self.is_new else "able"]]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr("seq2seq.runs.train.computes_bf16", lambda: True)
    measured = PrecisionChoice("bf16", "measured", is_measured=True)
    monkeypatch.setattr("seq2seq.runs.train.choose_precision", lambda wanted, device: measured)
    return RunDirectory(tmp_path)


@pytest.mark.parametrize(("other_is_faster", "name"), [(True, "bf16"), (False, "fp32")])
def test_a_new_run_takes_bf16_where_it_is_faster_on_every_rank(
    other_is_faster: bool, name: str, directory: RunDirectory
) -> None:
    ranks = TwoRanks(other_computes_bf16=True, other_is_faster=other_is_faster)
    assert agreed_precision(RunContext(CONFIG, directory, ON_CPU, ranks)).name == name
    assert directory.load_auto_choices().precision == name


@pytest.mark.parametrize(
    ("began_in", "other", "name"), [("fp32", True, "fp32"), ("bf16", True, "bf16"), ("bf16", False, "fp32")]
)
def test_a_run_goes_on_as_it_began_where_all_ranks_can(
    began_in: str, other: bool, name: str, directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.save_auto_choices(precision=began_in)
    ranks = TwoRanks(other_computes_bf16=other, other_is_faster=True)
    assert agreed_precision(RunContext(CONFIG, directory, ON_CPU, ranks)).name == name
    assert directory.load_auto_choices().precision == began_in
    assert ("began in bf16" in capsys.readouterr().err) == (began_in != name)


def test_choices_of_several_settings_are_kept_side_by_side(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.save_auto_choices(precision="bf16")
    directory.save_auto_choices(batch_size=512)
    choices = directory.load_auto_choices()
    assert (choices.precision, choices.batch_size) == ("bf16", 512)
