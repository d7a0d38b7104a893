"""The run directory: its files, its lock, and the check that a config still fits the trained model.

runs/NAME/  config.yaml  tokenizer/  data.json  env.json  valid.source valid.target test.source test.target
            old_test.source old_test.target  start.json
            estimate.json  checkpoints/  metrics.jsonl  train.log  tensorboard/  validation/step-N.hyp  attention.json
            results.json  test.hyp  report.html
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from seq2seq.atomic_files import TEMPORARY_PREFIXES, disk_error, make_folder, no_follow, write_json, write_text
from seq2seq.checkpoints.folder import MARKS
from seq2seq.checkpoints.manifest import refuse_pickles
from seq2seq.config import Config, config_to_yaml, load_config
from seq2seq.config.differences import differences
from seq2seq.config.yaml import add_comments
from seq2seq.console import warn
from seq2seq.data.files import require_local
from seq2seq.errors import CheckpointError, ConfigError, UsageError
from seq2seq.runs.environment import environment
from seq2seq.sealed_records import (
    AttentionRecord,
    DataRecord,
    Estimate,
    Results,
    SentenceAttention,
    StartScores,
    read_record,
)

# Settings that may change before a run is resumed: they do not affect the steps that were done. The first group decides
# how a run ends.
_END_SETTINGS = (
    "decoding",
    "data.test",
    "training.budget_minutes",
    "training.max_minutes",
    "training.max_epochs",
    "training.max_steps",
    "training.patience",
    "training.average_checkpoints",
)
_FREE_SETTINGS = (
    *_END_SETTINGS,
    "name",
    "run_directory",
    "device",
    "threads",
    "data.num_processes",
    "training.log_every",
    "training.tracker",
    "training.num_workers",
    "training.activation_checkpointing",
    "devices",
)

# The commit of a dataset is compared with the one that was used, so a branch may be replaced by it.
_PINNED = re.compile(r"data\.\w+\.\d+\.revision")

# The config of a run is complete: without one of these sections it was cut, and defaults would replace what was used.
_SECTIONS = ("data", "tokenizer", "model", "training", "decoding")
_AGAIN = "repeat the command that trained the run, which writes it again"

_FOLDERS = ("checkpoints", "tokenizer", "validation", "tensorboard", "export")
_FILES = (
    *(
        "config.yaml",
        "data.json",
        "env.json",
        "batch_size.json",
        "estimate.json",
        "attention.json",
        "results.json",
        "metrics.jsonl",
        "diverged.json",
        "tracker.json",
        "start.json",
    ),
    *("train.log", "report.html", ".lock", "valid.source", "valid.target", "test.source", "test.target", "test.hyp"),
    *("old_test.source", "old_test.target", "old_test.hyp"),
)
"""Names that seq2seq itself reads and writes in a run directory."""

_ENDING_SECONDS = 1.0
"""Time for a killed process to give up its lock: it holds it until its last thread has ended."""
_MOST_CHANGES = 10
"""Changes that a message lists."""


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
        self.results = path / "results.json"
        self.report = path / "report.html"
        self.validation = path / "validation"
        self.batch_size = path / "batch_size.json"
        self.estimate = path / "estimate.json"
        self.attention = path / "attention.json"
        self.start = path / "start.json"

    def create(self) -> None:
        """Create the folder.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            make_folder(self.validation)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror}", hint="choose another with -o", code="usage.unwritable"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Context that locks the run for this process.

        Raises:
            UsageError: another process has locked it.
        """
        if find_spec("fcntl") is None:  # on Windows
            yield
            return
        try:
            file = open(self.path / ".lock", "a+", encoding="utf-8", opener=no_follow)  # noqa: SIM115
        except OSError as error:
            raise disk_error(error, self.path, 0) from None
        with file:
            _lock(file, self.path)
            file.truncate(0)
            file.write(f"PID {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    def with_data_seed(self, config: Config) -> Config:
        """Set `data.seed` as a run of a version without it needs: there, `seed` decided which pairs are held out.

        Raises:
            CheckpointError: the stored config is damaged.
        """
        if "seed" in config.data.model_fields_set or not any(self.checkpoints.glob("*")) or not self.config.exists():
            return config
        stored = _read_whole(self.config)
        return _with_data_seed(config, stored.seed) if stored.data.seed == stored.seed else config

    def in_use(self) -> bool:
        """Whether a process trains in this folder; unknown, and so False, without file locks."""
        if find_spec("fcntl") is None:  # on Windows
            return False
        import fcntl

        try:
            with (self.path / ".lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def has_checkpoints(self) -> bool:
        """Whether the first checkpoint has been saved: from then on the data and most settings are fixed."""
        return any(not path.name.startswith(".") for path in self.checkpoints.glob("*"))

    def check_config(self, config: Config) -> None:
        """Compare a config with the one that the run was started with.

        Raises:
            ConfigError: a setting that training depends on has changed.
            CheckpointError: the stored config is damaged.
        """
        if not self.config.exists():
            return
        # Before the first checkpoint it may be a file of the user, which need not be complete.
        before = _read_whole(self.config) if self.has_checkpoints else load_config([self.config])
        if changes := config_changes(before, config):
            more = [f"and {len(changes) - _MOST_CHANGES} more"] if len(changes) > _MOST_CHANGES else []
            shown = "".join(f"\n    {change}" for change in changes[:_MOST_CHANGES] + more)
            start = ""
            if self.has_checkpoints:
                start = f" (training.init_from={self.path} fine-tunes this model, with the settings for that)"
            raise ConfigError(
                f"the run in {self.path} was started with other settings:{shown}",
                where=str(self.config),
                code="config.changed",
                hint=f"put the old values back, or train into another run directory with -o{start}",
            )

    def save_config(self, config: Config, reasons: Mapping[str, str] | None = None) -> None:
        """Write the complete config, after `check_config`; `reasons` of settings become comments.

        A config with the same settings, which may have comments, is kept. That of a finished run is left unchanged; a
        warning lists settings that therefore have no effect.
        """
        self.check_config(config)
        if self.config.exists() and self.load_results() is not None:
            self._warn_about_unused_settings(load_config([self.config]), config)
        elif not self.config.exists() or load_config([self.config]) != config:
            write_text(self.config, add_comments(config_to_yaml(config), reasons or {}))

    def with_metric_of_the_start(self, config: Config) -> Config:
        """The config with `training.metric: bleu` for a run that was started when `bleu` was the default.

        Such a run is resumed by the same command, which does not set the metric.
        """
        if "metric" in config.training.model_fields_set or not any(self.checkpoints.glob("*")):
            return config
        try:
            before = load_config([self.config]).training.metric
        except ConfigError:  # `save_config` reports it
            return config
        if before != "bleu" or config.training.metric != "auto":
            return config
        return config.model_copy(update={"training": config.training.model_copy(update={"metric": before})})

    def _warn_about_unused_settings(self, before: Config, config: Config) -> None:
        if unused := config_changes(before, config, lambda key: _is_of(key, _END_SETTINGS)):
            warn(
                f"{self.path} is finished, so this is not used: {'; '.join(unused)} (to continue from its last step, "
                f"remove {self.results} and give this command again; from its best model, "
                f"training.init_from={self.path} -o runs/OTHER)"
            )

    def load_config(self) -> Config:
        """Load the config of a trained run.

        Raises:
            CheckpointError: this is not a run directory, or its config is missing, cut or damaged.
        """
        require_local(self.path)
        near = _near_runs(self.path)
        if not self.path.exists():
            raise CheckpointError(f"no run directory {self.path}", hint=near, code="run.missing")
        if not self.config.exists():
            refuse_pickles(self.path)
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path} is a file, not a run directory", hint=near, code="run.missing")
        if not self.config.exists() and any(self.checkpoints.glob("*")):
            raise CheckpointError(
                f"{self.config} is missing", hint=f"put a copy of it back; or {_AGAIN}", code="run.damaged"
            )
        if not self.config.exists():
            raise CheckpointError(
                f"{self.path} is not a run directory: it has no config.yaml", hint=near, code="run.missing"
            )
        return _read_whole(self.config)

    def save_pairs(self, split: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Save the raw text of a validation or test set."""
        for path, text in self.pair_texts(split, pairs):
            write_text(path, text)

    def pair_texts(self, split: str, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[Path, str]]:
        """Both files of a validation or test set, with their text."""
        for side, name in enumerate(("source", "target")):
            yield self.path / f"{split}.{name}", "".join(pair[side] + "\n" for pair in pairs)

    def load_pairs(self, split: str) -> list[tuple[str, str]]:
        """Load the raw text that `save_pairs` wrote; empty if the run has no such split.

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

    def load_data_record(self) -> DataRecord | None:
        """Load data.json; None if it is missing.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.data_record, DataRecord, hint="remove it: then nothing is compared with it")

    def save_environment(self) -> None:
        """Record the versions of libraries."""
        write_json(self.environment, environment())

    def save_batch_size(self, size: int) -> None:
        """Save the result of `training.batch_size: auto`."""
        write_json(self.batch_size, size)

    def load_batch_size(self) -> int | None:
        """Load what `save_batch_size` wrote; None if nothing was.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            size = json.loads(self.batch_size.read_text(encoding="utf-8"))
            if type(size) is not int or not 0 < size < 2**31:
                raise ValueError("no batch size")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            raise CheckpointError(
                f"{self.batch_size} is damaged", hint="train into another run directory", code="run.damaged"
            ) from None
        return size

    def load_estimate(self) -> Estimate | None:
        """Load estimate.json; None before the first step, and in runs of earlier versions.

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
    """The run directory that a file belongs to, as its config or a checkpoint does; None for any other file.

    The report, which is written anew at will, and files that the user put beside those of the run are others.
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
    and a FIFO would be waited for. The links `best` and `last` of earlier versions are allowed.
    """
    path = Path(entry.path)
    if entry.is_symlink():
        target = str(path.readlink())
        beside = Path(target).name == target.rstrip("/") not in ("", "..")
        if path.parent.name == "checkpoints" and path.name in MARKS and beside:
            return
        kind = f"a symbolic link to {target}"
    elif entry.is_file() or entry.is_dir() or not path.exists():
        return
    else:
        kind = "neither a file nor a folder"
    raise CheckpointError(
        f"{path} is {kind}, which a run directory must not hold",
        hint="remove it, or put a copy of the real file or folder in its place; nothing was changed",
        code="run.unsafe",
    )


def _read_whole(file: Path) -> Config:
    """Load the stored config of a run, where any fault is damage and not a mistake of the user.

    Raises:
        CheckpointError: it is empty, a section is missing, or a line is invalid.
    """
    try:
        config = load_config([file])
    except ConfigError as error:
        newer = "; if a newer version wrote it: pip install -U seq2seq" * (error.code == "config.unknown-key")
        raise CheckpointError(
            error.what if error.code == "config.no-file" else f"{file} is damaged: {error.what}",
            where=error.where,
            hint=f"put a copy of it back, or mend it{f' ({error.hint})' if error.hint else ''}{newer}",
            code="run.damaged",
        ) from None
    missing = [section for section in _SECTIONS if section not in config.model_fields_set]
    if missing:
        fault = "holds no settings" if len(missing) == len(_SECTIONS) else f"is cut: it has no `{missing[0]}`"
        hint = f"put a copy of it back; or remove it and {_AGAIN}"
        raise CheckpointError(f"{file} {fault}", hint=hint, code="run.damaged")
    # Versions without `data.seed` used `seed` for both.
    return config if "seed" in config.data.model_fields_set else _with_data_seed(config, config.seed)


def _with_data_seed(config: Config, seed: int) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"seed": seed})})


def _lock(file: TextIO, folder: Path) -> None:
    import fcntl

    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
        file.seek(0)
        raise UsageError(
            f"{folder} is in use by {_owner(file.read())}",
            hint="wait for it, or choose another run directory with -o",
            code="usage.in-use",
        )
    if hasattr(os, "register_at_fork"):
        # Data loader processes would inherit the lock, and outlive a killed run by some seconds.
        os.register_at_fork(after_in_child=file.close)


def _owner(record: str) -> str:
    """The process that a lock file names, unless it has ended."""
    match = re.fullmatch(r"PID (\d+) on (.+)", record)
    if match and match[2] == socket.gethostname():
        try:
            os.kill(int(match[1]), 0)
        except PermissionError:  # it is another user's
            pass
        except (OSError, OverflowError):
            match = None
    return record if match else "another process"


def _is_of(key: str, settings: Sequence[str]) -> bool:
    return any(key == setting or key.startswith(setting + ".") for setting in settings)


def config_changes(
    before: Config,
    after: Config,
    counts: Callable[[str], bool] = lambda key: not (_is_of(key, _FREE_SETTINGS) or _PINNED.fullmatch(key)),
) -> list[str]:
    """Changed settings as `key: old -> new`; by default those that forbid resuming."""
    return [f"{key}: {old} -> {new}" for key, old, new in differences(before, after) if counts(key)]


def _near_runs(path: Path) -> str:
    for around in path.parents[:3]:
        if (around / "config.yaml").is_file() and (around / "checkpoints").is_dir():
            return f"did you mean {around}?"
    parent = path.parent
    # Runs without a checkpoint, such as the one that is being created, are left out.
    folders = [found.parent for found in parent.glob("*/config.yaml")] if parent.is_dir() else []
    runs = sorted(folder.name for folder in folders if any(folder.glob("checkpoints/*")))
    return f"runs in {parent}: {', '.join(runs[:8])}" if runs else "train one first: seq2seq train CONFIG"
