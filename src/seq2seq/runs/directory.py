"""The run directory: its files, its lock, and the check that a config still fits the trained model.

runs/NAME/  config.yaml  tokenizer/  data.json  env.json  valid.source valid.target test.source test.target
            checkpoints/  metrics.jsonl  train.log  tensorboard/  validation/step-N.hyp  results.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from seq2seq.atomic_files import disk_error, make_folder, write_json, write_text
from seq2seq.checkpoints.manifest import refuse_pickles
from seq2seq.config import Config, config_to_yaml, load_config
from seq2seq.config.compare import differences
from seq2seq.console import warn
from seq2seq.data.files import require_local
from seq2seq.errors import CheckpointError, ConfigError, UsageError
from seq2seq.records import DataRecord, Results, read_record
from seq2seq.runs.environment import environment

# Settings that may change before a run is resumed: they do not affect the steps that were done. The first group decides
# how a run ends.
_END_SETTINGS = (
    "decoding",
    "data.test",
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
    "training.num_workers",
    "training.activation_checkpointing",
    "devices",
)

# The commit of a dataset is compared with the one that was used, so a branch may be replaced by it.
_PINNED = re.compile(r"data\.\w+\.\d+\.revision")

# The config of a run is complete: without one of these sections it was cut, and defaults would replace what was used.
_SECTIONS = ("data", "tokenizer", "model", "training", "decoding")
_AGAIN = "repeat the command that trained the run, which writes it again"

_MOST_CHANGES = 10
"""Changes that a message lists."""


class RunDirectory:
    """Paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.tokenizer = path / "tokenizer"
        self.data_record = path / "data.json"
        self.environment = path / "env.json"
        self.checkpoints = path / "checkpoints"
        self.log = path / "train.log"
        self.results = path / "results.json"
        self.validation = path / "validation"
        self.batch_size = path / "batch_size.json"

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
            file = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise disk_error(error, self.path, 0) from None
        with file:
            _lock(file, self.path)
            file.truncate(0)
            file.write(f"PID {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

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
            raise ConfigError(
                f"the run in {self.path} was started with other settings:{shown}",
                where=str(self.config),
                code="config.changed",
                hint="put the old values back, or train into another run directory with -o",
            )

    def save_config(self, config: Config) -> None:
        """Write the complete config, after `check_config`.

        The config of a finished run is left unchanged; a warning lists settings that therefore have no effect.
        """
        self.check_config(config)
        if self.config.exists() and self.load_results() is not None:
            self._warn_about_unused_settings(load_config([self.config]), config)
        else:
            write_text(self.config, config_to_yaml(config))

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

    def load_results(self) -> Results | None:
        """Load results.json; None before the end of training.

        Raises:
            CheckpointError: it is damaged.
        """
        return read_record(self.results, Results, hint="remove it and run the same command again")


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
    return config


def _lock(file: TextIO, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        raise UsageError(
            f"{folder} is in use by {owner}",
            hint="wait for it, or choose another run directory with -o",
            code="usage.in-use",
        ) from None
    if hasattr(os, "register_at_fork"):
        # Data loader processes would inherit the lock, and outlive a killed run by some seconds.
        os.register_at_fork(after_in_child=file.close)


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
