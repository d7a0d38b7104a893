"""The data of a run, which are fixed from its first checkpoint on: training and held-out text, and the tokenizer.

The order of training pairs is a function of their positions, and token ids mean nothing with another vocabulary: a run
that went on with other data would be neither the old run nor a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from seq2seq.atomic_files import write_text
from seq2seq.config import Config, Source
from seq2seq.config.sources import HubSource
from seq2seq.console import say
from seq2seq.data.cache import Inputs, cache_folder
from seq2seq.data.files import Pair, open_binary
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.errors import ConfigError, DataError, NetworkError, UsageError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import load_tokenizers
from seq2seq.sealed_records import DataRecord, Input, write_record
from seq2seq.tokenizers.pair import TokenizerPair

_SPLITS = ("train", "valid", "test")


def check_data(directory: RunDirectory, config: Config) -> None:
    """Check that the corpora and tokenizer files of a run with checkpoints are those that it was started with.

    The corpora of a finished run may be gone.

    Raises:
        ConfigError: a file or a revision has changed.
        CheckpointError: the record of the data is damaged.
        DataError, UsageError, NetworkError: a corpus cannot be read.
    """
    if not directory.has_checkpoints:
        return
    record = directory.load_data_record() or DataRecord()
    finished = directory.load_results() is not None
    changes = list(input_changes(record, config, skip_unavailable=finished))
    if not finished:
        changes += _tokenizer_changes(directory, config)
    before, now = bool(record.inputs.get("test")), bool(config.data.test)
    if record.inputs and not finished and before != now and config.data.holdout:
        changes.append(f"data.test is {'given' if now else 'left out'}: other pairs are held out of the training text")
    if changes:
        raise _changed(directory, changes)


def input_changes(record: DataRecord, config: Config, *, skip_unavailable: bool) -> Iterator[str]:
    """Sources whose content is not the recorded one, each with the old and the new size and hash.

    `skip_unavailable` leaves out sources that cannot be read, and all of the hub. A test set that the config no
    longer names is left out.
    """
    inputs = Inputs(cache_folder())
    for split in _SPLITS:
        sources: tuple[Source, ...] = tuple(getattr(config.data, split))
        for source, before in zip(sources, record.inputs.get(split, []), strict=False):
            if skip_unavailable and isinstance(source, HubSource):
                from seq2seq.data.hub import is_local  # loads `datasets`, which other sources do without

                if not is_local(source):
                    continue
            try:
                now = Input.model_validate(inputs.facts(source))
            except (DataError, UsageError, NetworkError) as error:
                if skip_unavailable:
                    continue
                if error.code == "data.no-file":
                    error.hint = f"{error.hint}; where the corpus has moved: data.{split}=[{{source: FILE, ...}}]"
                raise
            if split == "test" and now.settings != before.settings:
                continue
            yield from _differences(before, now)


def prepare_data(config: Config, directory: RunDirectory, tokenizers: TokenizerPair | None) -> Prepared:
    """Prepare the data; those of a run with checkpoints must be the same as before.

    `tokenizers` are those of the model that a new run starts from.

    Raises:
        ConfigError: another version of a library or of seq2seq prepares other data.
        CheckpointError: the run's record or tokenizer is damaged.
    """
    continues = directory.has_checkpoints
    record = directory.load_data_record() if continues else None
    if continues and config.training.init_from is not None:
        tokenizers = load_tokenizers(directory)
    prepared = _prepare(config, tokenizers)
    if not continues:
        return prepared
    if record is None or prepared.tokenizers.fingerprint != record.tokenizer:
        own = load_tokenizers(directory)
        if own.fingerprint != prepared.tokenizers.fingerprint:
            say("the tokenizer would be trained differently today: the run keeps its own")
            prepared = _prepare(config, own)
    if changes := [*_prepared_changes(record or DataRecord(), prepared), *_held_out_changes(directory, prepared)]:
        raise _changed(directory, changes)
    return prepared


def save_data(directory: RunDirectory, prepared: Prepared, old_test: Sequence[Pair] = ()) -> None:
    """Write tokenizer, held-out text and data.json; for a run with checkpoints, they are those that it has.

    `old_test` is the test set of the run that a fine-tuning starts from; an equal one is not kept twice.
    """
    prepared.tokenizers.save(directory.tokenizer)
    held_out = dict(_held_out(directory, prepared))
    if old_test and list(old_test) != list(prepared.test_pairs):
        held_out |= dict(directory.pair_texts("old_test", old_test))
    for path, text in held_out.items():
        write_text(path, text)
    hashes = {path.name: _sha256(text) for path, text in held_out.items()}
    fingerprint = prepared.tokenizers.fingerprint
    write_record(directory.data_record, {**prepared.record, "tokenizer": fingerprint, "held_out": hashes})


def _prepare(config: Config, tokenizers: TokenizerPair | None) -> Prepared:
    return prepare(config.data, config.tokenizer, cache=cache_folder(), tokenizers=tokenizers)


def _held_out(directory: RunDirectory, prepared: Prepared) -> Iterator[tuple[Path, str]]:
    yield from directory.pair_texts("valid", prepared.valid_pairs)
    yield from directory.pair_texts("test", prepared.test_pairs)


def _differences(before: Input, now: Input) -> Iterator[str]:
    for old, new in zip(before.files, now.files, strict=False):
        if old.sha256 != new.sha256:
            yield (
                f"{new.file}: {old.bytes:,} bytes (SHA-256 {old.sha256[:12]}) -> "
                f"{new.bytes:,} bytes (SHA-256 {new.sha256[:12]})"
            )
    if now.revision and before.revision and now.revision != before.revision:
        back = "" if before.revision.startswith("local:") else f" (`revision: {before.revision}` names the old one)"
        yield f"{now.settings.get('hub')}: revision {before.revision[:18]} -> {now.revision[:18]}{back}"
    if now.sha256 and before.sha256 and now.sha256 != before.sha256:
        yield f"built-in {now.settings.get('builtin')}: SHA-256 {before.sha256[:12]} -> {now.sha256[:12]}"


def _tokenizer_changes(directory: RunDirectory, config: Config) -> Iterator[str]:
    """Given tokenizer files that are no longer the run's own."""
    settings = config.tokenizer
    if settings.source_model is None or config.training.init_from is not None:
        return
    own = load_tokenizers(directory)
    for name, tokenizer in zip((settings.source_model, settings.target_model), own, strict=True):
        if name is None:
            continue
        with open_binary(Path(name)) as file:
            now = file.read()
        if now != tokenizer.to_bytes():
            before, after = (hashlib.sha256(content).hexdigest()[:12] for content in (tokenizer.to_bytes(), now))
            yield f"{name}: SHA-256 {before} -> {after}"


def _prepared_changes(record: DataRecord, prepared: Prepared) -> Iterator[str]:
    """Prepared pairs and tokens that are not the recorded ones, though the files are the same."""
    now = DataRecord.model_validate(prepared.record)
    for name, old, new in (
        ("pairs", record.corpora, now.corpora),
        ("tokens", record.tokens, now.tokens),
        ("copies", record.copies, now.copies),
    ):
        if old and old != new:
            yield f"training {name}, as this version prepares them: {old} -> {new}"


def _held_out_changes(directory: RunDirectory, prepared: Prepared) -> Iterator[str]:
    """Validation text that is not the run's own; damaged text is written again."""
    record = directory.load_data_record() or DataRecord()
    for path, text in directory.pair_texts("valid", prepared.valid_pairs):
        before = record.held_out.get(path.name)
        if before is None and path.exists():
            before = hashlib.sha256(path.read_bytes()).hexdigest()
        if before not in (None, _sha256(text)):
            yield f"{path.name}: other text is held out than before"


def _changed(directory: RunDirectory, changes: list[str]) -> ConfigError:
    return ConfigError(
        f"the data of the run in {directory.path} are not those that it was started with:"
        + "".join(f"\n    {change}" for change in changes),
        where=str(directory.data_record),
        hint="put the old data back, or train into another run directory with -o "
        f"(training.init_from={directory.path} fine-tunes this model, with the settings for that)",
        code="config.data-changed",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
