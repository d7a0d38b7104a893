"""The run directory: its files, and the records and texts in them.

runs/NAME/  config.yaml  tokenizer/  data.json  env.json  valid.source valid.target test.source test.target
            old_test.source old_test.target  start.json
            estimate.json  checkpoints/  metrics.jsonl  train.log  tensorboard/  validation/step-N.hyp  attention.json
            results.json  test.hyp  report.html  shortlist.npz
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from seq2seq.atomic_files import TEMPORARY_PREFIXES, make_folder, write_json
from seq2seq.errors import CheckpointError, UsageError
from seq2seq.runs.environment import environment
from seq2seq.sealed_records import (
    AttentionRecord,
    AutoChoices,
    DataRecord,
    Estimate,
    Results,
    SentenceAttention,
    StartScores,
    read_record,
    write_record,
)

VALIDATION_SCORES = (("bleu", "BLEU"), ("chrf", "chrF"))
"""Scores of validations in metrics.jsonl, and their names."""
_LARGEST = 1e30
"""A larger number is damage: charts compute with differences and powers of what they show."""
_FOLDERS = ("checkpoints", "tokenizer", "validation", "tensorboard", "export")
_FILES = (
    *(
        "config.yaml",
        "data.json",
        "env.json",
        "auto.json",
        "estimate.json",
        "attention.json",
        "results.json",
        "metrics.jsonl",
        "diverged.json",
        "tracker.json",
        "start.json",
        "shortlist.npz",
    ),
    *("train.log", "report.html", ".lock", "valid.source", "valid.target", "test.source", "test.target", "test.hyp"),
    *("old_test.source", "old_test.target", "old_test.hyp"),
)
"""Names that seq2seq itself reads and writes in a run directory."""


class RunDirectory:
    """Paths of one run.

    Raises:
        CheckpointError: a symbolic link or a special file stands where the run has files of its own.
    """

    def __init__(self, path: Path) -> None:
        for entry in _own_entries(path):
            _refuse_link_or_special_file(entry)
        self.path = path
        self.config = path / "config.yaml"
        self.tokenizer = path / "tokenizer"
        self.data_record = path / "data.json"
        self.environment = path / "env.json"
        self.checkpoints = path / "checkpoints"
        self.log = path / "train.log"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.report = path / "report.html"
        self.validation = path / "validation"
        self.auto = path / "auto.json"
        self.estimate = path / "estimate.json"
        self.attention = path / "attention.json"
        self.start = path / "start.json"
        self.shortlist = path / "shortlist.npz"
        self._new_parents: list[Path] = []

    def create(self) -> None:
        """Create the folder, with its parents.

        Raises:
            UsageError: it cannot be written.
        """
        self._new_parents = [folder for folder in self.path.parents if not folder.exists()]
        try:
            make_folder(self.validation)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror}", hint="choose another with -o", code="usage.unwritable"
            ) from None

    def remove(self) -> None:
        """Remove the folder as far as possible, and the parents that were created with it, if nothing else is there."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            for folder in self._new_parents:
                folder.rmdir()

    @property
    def has_checkpoints(self) -> bool:
        """Whether the first checkpoint has been saved: from then on the data and most settings are fixed."""
        return any(not path.name.startswith(".") for path in self.checkpoints.glob("*"))

    def pair_texts(self, split: str, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[Path, str]]:
        """Both files of a validation or test set, with their text."""
        for side, name in enumerate(("source", "target")):
            yield self.path / f"{split}.{name}", "".join(pair[side] + "\n" for pair in pairs)

    def load_pairs(self, split: str) -> list[tuple[str, str]]:
        """Load the raw text of `pair_texts`; empty if the run has no such split.

        Raises:
            CheckpointError: it is damaged, or data.json is.
        """
        columns = []
        paths = [self.path / f"{split}.{name}" for name in ("source", "target")]
        if not any(path.exists() for path in paths):
            return []
        record = self.load_data_record() or DataRecord()
        for path in paths:
            expected, why = record.held_out.get(path.name), None
            try:
                content = path.read_bytes()
                if expected is not None and hashlib.sha256(content).hexdigest() != expected:
                    why = "its SHA-256 is not the one recorded"
                columns.append(content.decode("utf-8").split("\n")[:-1])
            except (OSError, UnicodeDecodeError) as error:
                why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            if why:
                raise CheckpointError(
                    f"{path} is damaged: {why}", hint="put a copy of it back, or train again", code="run.damaged"
                )
        if len(columns[0]) != len(columns[1]):
            raise CheckpointError(
                f"{self.path}/{split}.source and .target differ in length", hint="train again", code="run.damaged"
            )
        return list(zip(*columns, strict=True))

    def load_corpora(self, split: str) -> list[str]:
        """Name of the corpus of each pair of `load_pairs`; empty if the split has fewer than two corpora with text.

        Raises:
            CheckpointError: data.json is damaged.
        """
        parts = [part for part in (self.load_data_record() or DataRecord()).parts.get(split, []) if part.pairs]
        return [part.name for part in parts for _ in range(part.pairs)] if len(parts) > 1 else []

    def load_translated(self, split: str, translations: Path) -> tuple[list[str], list[str], list[str]] | None:
        """Sources and references of a split, and their translations in a file; None if the run lacks either.

        Raises:
            CheckpointError: as `load_pairs`.
        """
        pairs = self.load_pairs(split)
        if not pairs or not translations.is_file():
            return None
        lines = translations.read_bytes().decode("utf-8", "replace").split("\n")[:-1]
        if len(lines) != len(pairs):
            return None
        return [source for source, _ in pairs], [target for _, target in pairs], lines

    def load_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl. Damage only costs a point of a curve: lines that are no mapping or have no whole
        number as step are left out, and so are numbers that are not finite or huge.
        """
        rows = []
        try:
            lines = self.metrics.read_bytes().split(b"\n")
        except OSError:
            return []
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and type(row.get("step", 0)) is int:
                rows.append(
                    {name: value for name, value in row.items() if not is_number(value) or abs(value) <= _LARGEST}
                )
        return rows

    def load_data_record(self) -> DataRecord | None:
        """Load data.json; None if it is missing.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.data_record, DataRecord, hint="remove it: then nothing is compared with it")

    def save_environment(self) -> None:
        """Record the versions of libraries."""
        write_json(self.environment, environment())

    def load_auto_choices(self) -> AutoChoices:
        """Load auto.json; without choices if it is missing.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.auto, AutoChoices, hint="train into another run directory") or AutoChoices()

    def save_auto_choices(self, **choices: int | str) -> None:
        """Write choices into auto.json, beside those of other settings."""
        known = self.load_auto_choices().model_dump(include=set(AutoChoices.model_fields), exclude_none=True)
        write_record(self.auto, {**known, **choices})

    def load_estimate(self) -> Estimate | None:
        """Load estimate.json; None until the first steps are timed, and in runs of earlier versions.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.estimate, Estimate, hint="train into another run directory")

    def load_attention(self) -> list[SentenceAttention]:
        """Load attention.json; empty if there is none: before the first validation, and without attention.

        Raises:
            CheckpointError: it is damaged.
        """
        record = read_record(self.attention, AttentionRecord, hint="remove it: only the report shows it")
        return [] if record is None else record.sentences

    def load_start(self) -> StartScores | None:
        """Load start.json; None unless the run is a fine-tuning with a test set.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.start, StartScores, hint="remove it: then nothing is compared with the scores")

    def load_results(self) -> Results | None:
        """Load results.json; None before the end of training.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.results, Results, hint="remove it and run the same command again")


def run_of_file(file: Path) -> Path | None:
    """The run directory whose config, records or checkpoints a file is part of; None for any other file.

    None also for the report, which can be written again at any time, and for files that a user put into the folder.
    """
    path = file.absolute()
    with suppress(OSError, RuntimeError):  # RuntimeError: links in a circle
        path = path.resolve()
    for folder in path.parents:
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            name = path.relative_to(folder).parts[0]
            is_own = name in _FOLDERS or (name in _FILES and name != "report.html")
            return folder if is_own else None
    return None


def _own_entries(folder: Path, *, is_run: bool = True) -> Iterator[os.DirEntry[str]]:
    """Entries of a run directory that belong to seq2seq, and everything in its folders."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # missing, not a folder, or just removed by the run itself
        return
    for entry in entries:
        if is_run and entry.name not in (*_FOLDERS, *_FILES) and not entry.name.startswith(TEMPORARY_PREFIXES):
            continue
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _own_entries(Path(entry.path), is_run=False)


def _refuse_link_or_special_file(entry: os.DirEntry[str]) -> None:
    """Raise `CheckpointError` unless the entry is a file or a folder.

    A run directory may come from elsewhere: files of the user would be read, overwritten or deleted through a link,
    and a FIFO would be waited for.
    """
    path = Path(entry.path)
    if entry.is_symlink():
        kind = f"a symbolic link to {path.readlink()}"
    elif entry.is_file() or entry.is_dir() or not path.exists():
        return
    else:
        kind = "neither a file nor a folder"
    raise CheckpointError(
        f"{path} is {kind}, which a run directory must not hold",
        hint="remove it, or put a copy of the real file or folder in its place (for `best` and `last`, a file with the "
        "name of a checkpoint, such as step-00000400); nothing was changed",
        code="run.unsafe",
    )


def is_number(value: object) -> TypeGuard[int | float]:
    """True for int and float, not for bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
