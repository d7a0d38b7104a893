"""tune.json: the command that started a search, and its trials, so that the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from typing_extensions import Self

from seq2seq.config import Config
from seq2seq.sealed_records import Amount, Count, Record, read_record, write_record
from seq2seq.tuning.halving import SearchPlan

FILE = "tune.json"


class RungScore(Record):
    """Validation of a trial at the end of a rung."""

    score: float = Field(allow_inf_nan=False)
    """Best validation metric so far, higher is better: BLEU, chrF, or the negative loss."""
    loss: float = Field(allow_inf_nan=False)
    """Lowest negative log-likelihood of the validation text so far, in nats for each sentence of the corpus: unlike the
    loss of a token, it compares vocabularies."""
    metric: str
    """BLEU, chrF or loss."""
    step: Count
    seconds: Amount
    """Training so far, by the state of the run."""


class Trial(Record, frozen=False):
    """One trial."""

    number: Count
    choice: list[Count]
    """Index of a choice in each dimension."""
    settings: list[str]
    """What it changes, as `key=value`."""
    scores: list[RungScore] = Field(default_factory=list)
    """One for each rung that it has ended."""
    error: str = ""
    """Why it failed."""
    starts: Count = 0
    """Starts of its present rung that neither ended nor were interrupted by a signal."""

    @property
    def name(self) -> str:
        """Name of its run directory."""
        return f"trial-{self.number:03d}"


class Search(Record, frozen=False):
    """A search."""

    command: dict[str, Any]
    """What the command says; the same command goes on."""
    sampler: str
    plan: SearchPlan
    start_seconds: Amount
    trials: list[Trial] = Field(default_factory=list)
    rung: Count = 0
    going_on: list[Count] = Field(default_factory=list)
    """Trials of the present rung, the best first; empty in the first one."""
    seconds: Amount = 0.0
    """Time used so far, all calls together."""
    finished: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_flat_plan(cls, content: Any) -> Any:
        """A plan of earlier versions, which kept its numbers beside the others; some of them had no ensembles."""
        if "trials_planned" not in content:
            return content
        rest, command = dict(content), content.get("command")
        plan: dict[str, Any] = {"members": command.get("ensemble", 1) if isinstance(command, dict) else 1}
        for name in ("seconds_per_trial", "steps_per_trial", "end_seconds", "shares", "trials_planned"):
            plan[name.removesuffix("_per_trial").removesuffix("_planned")] = rest.pop(name, None)
        return {**rest, "plan": plan}

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        """Numbers that name something which is there."""
        try:
            Config.model_validate(self.command["config"])
            sizes = [len(choices) - 1 for choices in self.command["space"]]
            known = {"budget", "sampler"} <= self.command.keys()
        except (KeyError, TypeError):
            known = False
        if not known:
            raise ValueError("its command is not whole")
        for place, trial in enumerate(self.trials):
            if trial.number != place or len(trial.choice) != len(sizes):
                raise ValueError(f"trials.{place} does not fit")
            if any(index >= count for index, count in zip(trial.choice, sizes, strict=True)):
                raise ValueError(f"trials.{place}.choice names a setting that is not there")
        if any(number >= len(self.trials) for number in self.going_on) or self.rung > len(self.plan.shares):
            raise ValueError("going_on or rung names something that is not there")
        return self

    def save(self, folder: Path) -> None:
        """Write it whole or not at all."""
        write_record(folder / FILE, self.model_dump())


def load_search(folder: Path) -> Search | None:
    """The search in a folder; None if there is none.

    Raises:
        CheckpointError: the record is damaged.
    """
    return read_record(folder / FILE, Search, hint="start again in another folder with -o")
