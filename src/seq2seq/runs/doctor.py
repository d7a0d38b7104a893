"""Examination of a run for a bug report: its settings, its progress, and the integrity of its files.

Everything that commands do with a run is tried: its settings are read, its tokenizer, checkpoints and exports compared
with their hashes, and the best model is built. Whatever would stop a command is a fault, anything less a remark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seq2seq.atomic_files import read_json_object, show_bytes
from seq2seq.checkpoints.checkpoint import fault_of, load_checkpoint
from seq2seq.checkpoints.folder import MARKS, CheckpointFolder
from seq2seq.config import Config
from seq2seq.console import counted
from seq2seq.data.files import digest_file
from seq2seq.errors import CheckpointError, UserError
from seq2seq.export.folder import check_export, holds_export
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.environment import shown_path
from seq2seq.runs.load import best_checkpoint, load_model, load_tokenizers
from seq2seq.runs.run_config import load_run_config
from seq2seq.runs.run_data import input_changes
from seq2seq.sealed_records import DataRecord, Results
from seq2seq.tokenizers.pair import TokenizerPair

Result = TypeVar("Result")

_LAST_LINES = 3
# A message begins with its time; the further lines of a traceback do not.
_REFUSED = re.compile(
    r"^\d{4}-\S+ \S+ Traceback \(most recent call last\):\n(?:(?!\d{4}-\d\d-).*\n)*?"
    r"seq2seq\.errors\.ConfigError: (?:(?!\d{4}-\d\d-).*\n?)*",
    re.MULTILINE,
)
_NO_RUN = ("run.missing", "checkpoint.unsafe")


class DoctorReport(NamedTuple):
    """Condition of a run or an export."""

    config: Config | None
    """Its settings; None if they cannot be read."""
    facts: dict[str, str]
    """Names and values, in the order of printing."""
    faults: list[UserError]
    """Errors that would stop a command that uses it."""
    remarks: list[str]
    """Defects that stop no command."""

    @property
    def verdict(self) -> str:
        """The condition in one line."""
        if self.faults:
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            return f"broken: {self.faults[0].what.splitlines()[0]}{more}"
        if "finished" not in self.facts:
            return "whole"
        state = "finished" if self.facts["finished"] == "yes" else "not finished: the same training command continues"
        if self.remarks:
            count = f"{len(self.remarks)} things are" if len(self.remarks) > 1 else "one thing is"
            return f"usable, though {count} wrong; {state}"
        return f"whole; {state}"


def examine(directory: RunDirectory) -> DoctorReport:
    """Examine a run directory or an export. All checkpoints are read, nothing is written.

    Raises:
        CheckpointError: the folder is neither.
    """
    if holds_export(directory.path):
        return _examine_export(directory.path)
    faults: list[UserError] = []
    config = _result_or_fault(lambda: load_run_config(directory), faults)
    if faults and faults[0].code in _NO_RUN:
        raise faults[0]
    tokenizers = _result_or_fault(lambda: load_tokenizers(directory), faults)
    results = _result_or_fault(directory.load_results, faults)
    facts = {"folder": shown_path(directory.path)}
    if config is not None:
        facts["model"] = config.model.kind
        vocabulary = f"{config.tokenizer.kind}, vocabulary_size {config.tokenizer.vocabulary_size}"
        facts["tokenizer"] = vocabulary + (", joint" if config.tokenizer.joint else "")
    facts["made with"] = _made_with(read_json_object(directory.environment))
    remarks: list[str] = []
    used = _result_or_fault(lambda: best_checkpoint(directory), faults)
    if used is not None:
        if used[1]:
            remarks.append(used[1].replace(f"{directory.path}/", "").partition(" (")[0])
        facts |= _checkpoints(directory.checkpoints, used[0], results is not None, faults, remarks)
        _result_or_fault(lambda: _use(directory, config, tokenizers, used[0]), faults)
    facts |= _exports(directory.path, remarks)
    facts["finished"] = "no" if results is None else "yes"
    facts["last said"] = " | ".join(map(str.strip, _last_lines(directory.log))) or "nothing"
    choices = _result_or_fault(directory.load_auto_choices, faults)
    if choices is not None and choices.precision is not None:
        facts["trained in"] = choices.precision
    _result_or_fault(directory.load_attention, faults)
    record = _result_or_fault(directory.load_data_record, faults)
    counts = None if record is None else record.counts
    for split, expected in (("valid", counts and counts.valid), ("test", counts and counts.test), ("old_test", None)):
        pairs = _result_or_fault(lambda split=split: directory.load_pairs(split), faults)  # type: ignore[misc]
        if pairs is not None and expected not in (None, len(pairs)):
            remarks.append(f"{split}.source has {counted(len(pairs), 'line')}, and was written with {expected:,}")
    if record is not None and config is not None:
        remarks += _changed_corpora(record, config)
    remarks += _records(directory, record, results)
    return DoctorReport(config, facts, faults, remarks)


def _examine_export(folder: Path) -> DoctorReport:
    faults: list[UserError] = []
    manifest = _result_or_fault(lambda: check_export(folder), faults)
    facts = {"folder": shown_path(folder)}
    if manifest is not None:
        facts["export"] = f"for {manifest['library']}, {manifest['quantization']}, of {manifest['checkpoint']}"
    return DoctorReport(None, facts, faults, [])


def _result_or_fault(look: Callable[[], Result], faults: list[UserError]) -> Result | None:
    """Result of `look`; None if it fails, with its error added to `faults`."""
    try:
        return look()
    except UserError as error:
        faults.append(error)
        return None


def _use(directory: RunDirectory, config: Config | None, tokenizers: TokenizerPair | None, path: Path) -> None:
    """Load a checkpoint as translating does, as far as the rest of the run allows."""
    if config is None or tokenizers is None:
        load_checkpoint(path, with_training=False)
    else:
        load_model(directory, config, tokenizers, path.name)


def _checkpoints(
    folder: Path, used: Path, finished: bool, faults: list[UserError], remarks: list[str]
) -> dict[str, str]:
    """Condition of each checkpoint, and which ones are `best` and `last`; commands take `used` by default."""
    marks = {mark: name for mark in MARKS if (name := CheckpointFolder(folder).name_of(mark))}
    checkpoints = [path for path in sorted(folder.glob("[!.]*")) if path.name not in MARKS]
    states = {path: _state(path) for path in checkpoints}
    facts = {path.name: state.text for path, state in states.items()} | marks
    for path in checkpoints:
        if states[path].whole:
            continue
        if path != used:
            remarks.append(f"checkpoint {path.name} cannot be used")
        elif fault_of(path) is None:  # else the fault itself is reported
            remarks.append(f"checkpoint {path.name} can translate, but training cannot resume from it")
    if not CheckpointFolder(folder).marked("last"):
        gone = f"names {marks['last']}, which is gone" if "last" in marks else "is missing"
        remarks.append(f"checkpoints/last {gone}")
    if not finished and not any(states[path].resumable for path in checkpoints):
        what = f"no checkpoint in {folder} can be resumed from"
        hint = "put one back from a copy, or start again in another folder with -o"
        faults.append(CheckpointError(what, hint=hint, code="checkpoint.missing"))
    return facts


def _exports(run: Path, remarks: list[str]) -> dict[str, str]:
    """Condition of each export in the run, by its own hashes. The run itself needs none of them."""
    facts: dict[str, str] = {}
    for folder in sorted(run.glob("export/[!.]*/")):
        name = f"export/{folder.name}"
        try:
            manifest = check_export(folder)
            facts[name] = f"whole, {manifest['quantization']}, of {manifest['checkpoint']}"
        except CheckpointError as error:
            facts[name] = error.what.replace(f"{run}/", "")
            remarks.append(f"{name} cannot be used; export again")
    return facts


class _State(NamedTuple):
    whole: bool
    text: str
    resumable: bool


def _state(path: Path) -> _State:
    """Condition of a checkpoint, by its hashes."""
    try:
        checkpoint = load_checkpoint(path, with_training=True)
    except CheckpointError as error:
        return _State(False, error.what.replace(str(path), path.name), False)
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    resumable = bool(checkpoint.training) and path.name.startswith("step-")
    return _State(True, f"whole, {show_bytes(size)}, epoch {checkpoint.state.cursor.epoch}", resumable)


def _changed_corpora(record: DataRecord, config: Config) -> Iterator[str]:
    """Corpora that are no longer those that the run was started with, as far as this machine has them."""
    for change in input_changes(record, config, skip_unavailable=True):
        yield f"the corpus has changed, and training cannot go on with it: {change}"


def _records(directory: RunDirectory, data: DataRecord | None, results: Results | None) -> Iterator[str]:
    """Defects of the files that only record how the run was made."""
    if not directory.data_record.exists() or (data is not None and data.tokenizer is None):
        name = directory.data_record.name
        yield f"{name} is missing or incomplete: the tokenizer cannot be compared with the one of training"
    scored = {} if results is None else {"test.hyp": results.test, "old_test.hyp": results.old_test}
    for name, scores in scored.items():
        if scores is None or scores.hypotheses is None:
            continue
        if not (directory.path / name).is_file():
            yield f"{name} is missing"
        elif digest_file(directory.path / name) != scores.hypotheses:
            yield f"{name} is damaged: its SHA-256 is not the one recorded"
    if not read_json_object(directory.environment):
        yield f"{directory.environment.name} is missing or damaged: the versions it was made with are lost"
    if not directory.log.is_file():
        yield f"{directory.log.name} is missing"
    metrics = directory.metrics
    try:
        lines = metrics.read_bytes().split(b"\n")
    except OSError:
        yield f"{metrics.name} is missing: the curves are lost"
        return
    wrong = [number for number, line in enumerate(lines, start=1) if line and not _is_mapping(line)]
    if wrong:
        more = f" and {len(wrong) - 1} more are" if len(wrong) > 1 else " is"
        yield f"{metrics.name}: line {wrong[0]}{more} damaged"


def _is_mapping(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _made_with(environment: dict[str, Any]) -> str:
    names = ("seq2seq", "python", "torch", "sentencepiece")
    return ", ".join(f"{name} {environment[name]}" for name in names if name in environment) or "unknown"


def _last_lines(path: Path) -> list[str]:
    """Last lines of a training log, without the tracebacks of commands that were refused for their settings."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return _REFUSED.sub("", text).splitlines()[-_LAST_LINES:]
