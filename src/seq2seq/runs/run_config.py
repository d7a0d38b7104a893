"""The stored config of a run: whether a new one still fits the trained model, and what older versions left out."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seq2seq.atomic_files import read_json_object, write_text
from seq2seq.checkpoints.manifest import refuse_pickles
from seq2seq.config import Config, config_to_yaml, load_config
from seq2seq.config.differences import differences
from seq2seq.config.sources import FileSource, Source, TextSource
from seq2seq.config.yaml import add_comments
from seq2seq.console import warn
from seq2seq.data.files import require_local
from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.export.folder import MANIFEST, holds_export
from seq2seq.runs.directory import RunDirectory
from seq2seq.version import UPDATE

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

_FORMER_DEFAULTS = {("training", "metric"): "bleu", ("tokenizer", "sample_size"): 2_000_000}
"""Defaults of earlier versions, by section and key."""

_MOST_CHANGES = 10
"""Changes that a message lists."""


def load_run_config(directory: RunDirectory) -> Config:
    """Load the config of a trained run.

    Raises:
        CheckpointError: this is not a run directory, or its config is missing, cut or damaged.
    """
    require_local(directory.path)
    near = _near_runs(directory.path)
    if not directory.path.exists():
        raise CheckpointError(f"no run directory {directory.path}", hint=near, code="run.missing")
    if not directory.config.exists():
        refuse_pickles(directory.path)
    if not directory.path.is_dir():
        raise CheckpointError(f"{directory.path} is a file, not a run directory", hint=near, code="run.missing")
    if not directory.config.exists() and any(directory.checkpoints.glob("*")):
        raise CheckpointError(
            f"{directory.config} is missing", hint=f"put a copy of it back; or {_AGAIN}", code="run.damaged"
        )
    if not directory.config.exists() and holds_export(directory.path):
        library = read_json_object(directory.path / MANIFEST).get("library", "another library")
        raise CheckpointError(
            f"{directory.path} is not a run directory but an export for {library}",
            hint="give the run that was exported",
            code="run.missing",
        )
    if not directory.config.exists():
        raise CheckpointError(
            f"{directory.path} is not a run directory: it has no config.yaml", hint=near, code="run.missing"
        )
    return _read_whole(directory.config)


def check_run_config(directory: RunDirectory, config: Config) -> None:
    """Compare a config with the one that the run was started with.

    Raises:
        ConfigError: a setting that training depends on has changed.
        CheckpointError: the stored config is damaged.
    """
    if not directory.config.exists():
        return
    # Before the first checkpoint it may be a file of the user, which need not be complete.
    before = _read_whole(directory.config) if directory.has_checkpoints else load_config([directory.config])
    record = directory.load_data_record() if directory.has_checkpoints else None
    changes = config_changes(before, config)
    if record is not None and record.inputs and directory.load_results() is None:  # `check_data` compares the content
        moved = {key for key, *_ in differences(before, config)}
        moved -= {key for key, *_ in differences(_without_places(before), _without_places(config))}
        changes = [change for change in changes if change.partition(":")[0] not in moved]
    if changes:
        more = [f"and {len(changes) - _MOST_CHANGES} more"] if len(changes) > _MOST_CHANGES else []
        shown = "".join(f"\n    {change}" for change in changes[:_MOST_CHANGES] + more)
        # Named, as a value that was fitted to another setting, such as a warm-up, is in no file of the user.
        only = re.fullmatch(r"(\S+): (\w+) -> .*", changes[0]) if len(changes) == 1 else None
        old = f" ({only[1]}={only[2]})" if only else ""
        start = ""
        if directory.has_checkpoints:
            setting = shlex.quote(f"training.init_from={directory.path}")
            start = f" ({setting} fine-tunes this model, with the settings for that)"
        raise ConfigError(
            f"the run in {directory.path} was started with other settings:{shown}",
            where=str(directory.config),
            code="config.changed",
            hint=f"put the old values back{old}, or train into another run directory with -o{start}",
        )


def _without_places(config: Config) -> Config:
    """The config with one name for all files of training and validation text: a corpus may have been moved."""

    def unnamed(source: Source) -> Source:
        match source:
            case TextSource():
                return source.model_copy(update={"source": "FILE", "target": "FILE"})
            case FileSource():
                return source.model_copy(update={source.form: "FILE"})
            case _:
                return source

    splits = {split: tuple(map(unnamed, getattr(config.data, split))) for split in ("train", "valid")}
    return config.model_copy(update={"data": config.data.model_copy(update=splits)})


def save_run_config(directory: RunDirectory, config: Config, reasons: Mapping[str, str]) -> None:
    """Write the complete config, after `check_run_config`; `reasons` of settings become comments.

    A config with the same settings, which may have comments, is kept. That of a finished run is left unchanged; a
    warning lists settings that therefore have no effect.
    """
    check_run_config(directory, config)
    if directory.config.exists() and directory.load_results() is not None:
        _warn_about_unused_settings(directory, load_config([directory.config]), config)
    elif not directory.config.exists() or load_config([directory.config]) != config:
        write_text(directory.config, add_comments(config_to_yaml(config), reasons))


def config_changes(
    before: Config,
    after: Config,
    counts: Callable[[str], bool] = lambda key: not (_is_of(key, _FREE_SETTINGS) or _PINNED.fullmatch(key)),
) -> list[str]:
    """Changed settings as `key: old -> new`; by default those that forbid resuming."""
    return [f"{key}: {old} -> {new}" for key, old, new in differences(before, after) if counts(key)]


def with_data_seed(directory: RunDirectory, config: Config) -> Config:
    """Set `data.seed` as a run of a version without it needs: there, `seed` decided which pairs are held out.

    Raises:
        CheckpointError: the stored config is damaged.
    """
    if (
        "seed" in config.data.model_fields_set
        or not any(directory.checkpoints.glob("*"))
        or not directory.config.exists()
    ):
        return config
    stored = _read_whole(directory.config)
    return _with_data_seed(config, stored.seed) if stored.data.seed == stored.seed else config


def with_defaults_of_the_start(directory: RunDirectory, config: Config) -> Config:
    """The config with what was the default when the run was started: the same command resumes it, and does not say."""
    if not any(directory.checkpoints.glob("*")):
        return config
    try:
        stored = load_config([directory.config])
    except ConfigError:  # `save_run_config` reports it
        return config
    for (section, key), former in _FORMER_DEFAULTS.items():
        settings = getattr(config, section)
        if key not in settings.model_fields_set and getattr(getattr(stored, section), key) == former:
            config = config.model_copy(update={section: settings.model_copy(update={key: former})})
    return config


def _read_whole(file: Path) -> Config:
    """Load the stored config of a run, where any fault is damage and not a mistake of the user.

    Raises:
        CheckpointError: it is empty, a section is missing, or a line is invalid.
    """
    try:
        config = load_config([file])
    except ConfigError as error:
        newer = f"; if a newer version wrote it: {UPDATE}" * (error.code == "config.unknown-key")
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


def _warn_about_unused_settings(directory: RunDirectory, before: Config, config: Config) -> None:
    if unused := config_changes(before, config, lambda key: _is_of(key, _END_SETTINGS)):
        warn(
            f"{directory.path} is finished, so this is not used: {'; '.join(unused)} (to continue from its last step, "
            f"remove {directory.results} and give this command again; from its best model, "
            f"{shlex.quote(f'training.init_from={directory.path}')} -o runs/OTHER)"
        )


def _is_of(key: str, settings: Sequence[str]) -> bool:
    return any(key == setting or key.startswith(setting + ".") for setting in settings)


def _near_runs(path: Path) -> str:
    for around in path.parents[:3]:
        if (around / "config.yaml").is_file() and (around / "checkpoints").is_dir():
            return f"did you mean {around}?"
    if path.name and (inner := next(path.parent.glob(f"*/{glob.escape(path.name)}/checkpoints/*"), None)) is not None:
        return f"did you mean {inner.parent.parent}?"
    for folder in (path, path.parent, path.parent / "runs"):
        # Runs without a checkpoint, such as the one that is being created, are left out.
        found = [config.parent for config in folder.glob("*/config.yaml")] if folder.is_dir() else []
        if runs := sorted(run.name for run in found if any(run.glob("checkpoints/*"))):
            return f"runs in {folder}: {', '.join(runs[:8])}"
    return "train one first: seq2seq train CONFIG"
