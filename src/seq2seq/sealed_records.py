"""Records of a run in JSON, sealed by a checksum when written and validated when read.

    data.json     {"inputs": ..., "counts": ..., "tokenizer": SHA-256, "held_out": {FILE: SHA-256}, ...}
    auto.json     {"batch_size": ..., "precision": ...}
    estimate.json {"steps": ..., "step_seconds": ..., "memory": ..., ...}
    start.json    {"run": ..., "checkpoint": ..., "test": {"metrics": ...}, "old_test": {"metrics": ...}}
    results.json  {"checkpoint": ..., "test": {"metrics": ...}, "steps": ..., "minutes": ..., ...}
    attention.json {"sentences": [{"source": ..., "translation": ..., "weights": [[percent, ...], ...]}, ...]}

All end in "format" and "check". `check` is the SHA-256 of all other entries; records of the first versions have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from seq2seq.atomic_files import write_json
from seq2seq.errors import CheckpointError, ResourceError

_FORMAT = 1
_LARGEST = 2**53
"""Every whole number up to this one is a float, too."""

Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]


class Record(BaseModel):
    """Part of a record; further entries are kept."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Score(Record):
    """A test score."""

    name: str
    value: float = Field(allow_inf_nan=False)
    signature: str


class TestScores(Record):
    """Scores of the best model on the test set."""

    sentences: Count
    metrics: list[Score]
    by_corpus: dict[str, list[Score]] = {}
    """The same for each corpus, if the set has several."""
    by_target_tag: dict[str, list[Score]] = {}
    """The same for each target tag, if the set has several."""
    decoding: dict[str, Any] = {}
    hypotheses: str | None = None
    """SHA-256 of test.hyp."""


class StartScores(Record):
    """Scores of the model that a fine-tuning starts from."""

    run: str
    checkpoint: str
    test: TestScores | None = None
    """On the test set of the new run."""
    old_test: TestScores | None = None
    """On its own test set."""


class Results(Record):
    """Results of a finished run."""

    checkpoint: str = ""
    test: TestScores | None = None
    """None without a test set."""
    start: StartScores | None = None
    """Before fine-tuning."""
    old_test: TestScores | None = None
    """Scores on the test set of the run that fine-tuning started from."""
    steps: Count = 0
    minutes: Amount = 0.0


class AutoChoices(Record):
    """Values of settings that are `auto`, found by trying where a run began, and kept when it resumes."""

    batch_size: Annotated[int, Field(gt=0, lt=2**31)] | None = None
    """The largest that fits into memory."""
    precision: Literal["fp32", "bf16"] | None = None
    """The faster one on its CPU."""


class Estimate(Record):
    """Cost of a run as foreseen at its start, from a few timed steps; with a budget also its schedule."""

    parameters: Count
    steps: Count
    """Updates until the first limit of the run ends it."""
    passes: Amount
    warmup_steps: Count
    validate_every: Count
    step_seconds: Amount
    validation_seconds: Amount
    preparation_seconds: Amount
    """From the start of the command to the first step, and what the estimate itself has taken."""
    end_seconds: Amount
    """Averaging and the test score."""
    memory: Count
    """Peak bytes of all processes of the run; on a GPU, of its memory."""
    budget_minutes: Amount | None = None

    @property
    def training_seconds(self) -> float:
        """Updates and validations."""
        return self.steps * self.step_seconds + -(-self.steps // max(1, self.validate_every)) * self.validation_seconds

    @property
    def seconds(self) -> float:
        """The whole command."""
        return self.preparation_seconds + self.training_seconds + self.end_seconds


class SentenceAttention(Record):
    """Attention of one translation over words, the mean of all layers and heads. The end marks are the last words."""

    source: str
    translation: str
    source_words: list[str]
    target_words: list[str]
    weights: list[list[Annotated[int, Field(ge=0, le=100)]]]
    """A row for each target word, a column for each source word, in percent."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        rows, columns = len(self.target_words), len(self.source_words)
        if len(self.weights) != rows or any(len(row) != columns for row in self.weights):
            raise ValueError(f"there must be {rows} rows of {columns} weights")
        return self


class AttentionRecord(Record):
    """Attention of the translations that the report shows."""

    sentences: list[SentenceAttention] = []


class InputFile(Record):
    """A corpus file as it was read."""

    file: str
    bytes: Count
    sha256: str


class Input(Record):
    """Content of one source of a corpus: its files, or the revision of a dataset of the hub, or a hash."""

    settings: dict[str, Any] = {}
    files: list[InputFile] = []
    revision: str | None = None
    sha256: str | None = None


class Counts(Record):
    """Numbers of pairs; those dropped by each filter are further entries."""

    __pydantic_extra__: dict[str, Count]
    read: Count | None = None
    kept: Count | None = None
    valid: Count | None = None
    test: Count | None = None


class Part(Record):
    """A corpus of a validation or test set."""

    name: str
    pairs: Count


class Replay(Record):
    """Training pairs of an earlier run that a fine-tuning repeats."""

    run: str
    fingerprint: str
    """Name of the prepared data in the cache, which is a hash of the files and settings that they were made from."""
    sizes: list[Count]
    """Pairs of each corpus of that run, and noisy copies of each kind."""
    draws: list[Count]
    """Pairs of each that an epoch of that run read."""


class DataRecord(Record):
    """The data that a run is trained with."""

    fingerprint: str | None = None
    """Name of the prepared data in the cache."""
    inputs: dict[str, list[Input]] = {}
    """Sources of the splits `train`, `valid` and `test`."""
    counts: Counts = Counts()
    tokens: dict[str, Count] = {}
    """Training tokens of each side."""
    corpora: list[Count] = []
    """Training pairs of each source."""
    parts: dict[str, list[Part]] = {}
    """Corpora of the splits `valid` and `test`, one after the other; none where pairs were held out of training text,
    and none in runs of earlier versions."""
    copies: dict[str, Any] = {}
    """Noisy copies of training pairs, by kind."""
    tokenizer: str | None = None
    """Fingerprint of the tokenizers."""
    held_out: dict[str, str] = {}
    """SHA-256 of valid.source, valid.target, test.source and test.target, and of those of old_test."""
    replay: Replay | None = None


AnyRecord = TypeVar("AnyRecord", bound=Record)


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but `check`."""
    rest = {name: value for name, value in content.items() if name != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record with its checksum atomically."""
    sealed = {**content, "format": _FORMAT}
    write_json(path, {**sealed, "check": checksum(sealed)})


def write_attention(path: Path, sentences: Sequence[SentenceAttention]) -> None:
    """Write attention.json."""
    write_record(path, {"sentences": [sentence.model_dump(mode="json") for sentence in sentences]})


def read_record(path: Path, kind: type[AnyRecord], *, hint: str) -> AnyRecord | None:
    """Read and validate a record; None if there is none.

    Raises:
        CheckpointError: it is damaged.
        ResourceError: it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is no mapping")
        if ("check" in content or "format" in content) and content.get("check") != checksum(content):
            raise ValueError("its checksum is not the one recorded")
        return kind.model_validate(content)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OverflowError, IsADirectoryError) as error:
        raise CheckpointError(
            f"{path} is damaged: {_reason(error)}",
            hint=f"put a copy of it back, or {hint}",
            code="run.damaged",
        ) from None
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}", code="disk.error") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return str(error) if type(error) is ValueError else "it is not valid JSON"
