"""Replay: training pairs of the earlier run among those of a fine-tuning, so that they are not forgotten.

They are the prepared pairs of that run, as token ids, which mean the same in the new run, whose vocabulary begins with
the old one. Its held-out pairs are not among them.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np

from seq2seq.config import Config
from seq2seq.console import say, warn
from seq2seq.data.cache import cache_folder
from seq2seq.data.order import Mixture
from seq2seq.data.prepare import Prepared, open_prepared
from seq2seq.errors import ConfigError, DataError, UserError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.fine_tuning import find_run
from seq2seq.runs.run_config import load_run_config
from seq2seq.runs.run_data import check_data, prepare_data
from seq2seq.sealed_records import DataRecord, Replay
from seq2seq.special_tokens import UNK

_ROWS_AT_ONCE = 65_536


def earlier_data(run: RunDirectory) -> Prepared:
    """The data of a trained run, by the hashes that it recorded: prepared before, or again from the same files.

    Raises:
        UserError: they are gone or have changed.
    """
    config = load_run_config(run)
    record = run.load_data_record()
    if not run.has_checkpoints or record is None:
        raise DataError(f"{run.path} has no record of its data", code="data.prepared")
    check_data(run, config)
    prepared = _prepared_before(record.fingerprint)
    if prepared is not None and prepared.tokenizers.fingerprint == record.tokenizer:
        return prepared
    return prepare_data(config, run, None)


def with_replay(prepared: Prepared, config: Config, directory: RunDirectory) -> Prepared:
    """The data of a fine-tuning with those of the earlier run behind them, if `training.replay` asks for them.

    A run with checkpoints must have the pairs that it began with.

    Raises:
        ConfigError: it has not.
    """
    if directory.has_checkpoints:
        record = (directory.load_data_record() or DataRecord()).replay
        return prepared if record is None else _joined(prepared, _same_as_before(record, directory), record)
    if not config.training.init_from:
        return prepared
    run, _ = find_run(Path(config.training.init_from))
    if not config.training.replay:
        if (known := _prepared_before((run.load_data_record() or DataRecord()).fingerprint)) is not None:
            _warn_of_seen(prepared, known, run.path)
        return prepared
    try:
        earlier = earlier_data(run)
        mixture = training_mixture(load_run_config(run), earlier)
    except UserError as error:
        warn(f"no pairs of the earlier run are repeated (training.replay): {error.what}")
        return prepared
    _warn_of_seen(prepared, earlier, run.path)
    record = Replay(
        run=str(run.path),
        fingerprint=earlier.record["fingerprint"],
        sizes=list(mixture.sizes),
        draws=list(mixture.draws),
    )
    say(f"{config.training.replay:.0%} of the pairs come from the {sum(mixture.sizes):,} of {run.path}")
    return _joined(prepared, earlier, record)


def training_mixture(config: Config, prepared: Prepared) -> Mixture:
    """Draws from each corpus, from the noisy copies of it, and from the pairs of an earlier run."""
    weights = [source.weight for source in config.data.train]
    corpora: list[int] = prepared.record["corpora"]
    mixture = Mixture.of(corpora, weights, config.data.temperature)
    for copies in prepared.record.get("copies", {}).values():
        mixture = mixture.with_copies(copies["pairs"], copies["rate"])
    if replay := prepared.record.get("replay"):
        earlier = Mixture(tuple(replay["sizes"]), tuple(replay["draws"]))
        mixture = mixture.with_replay(earlier, config.training.replay)
    return mixture


def _prepared_before(fingerprint: str | None) -> Prepared | None:
    """Prepared data in the cache; None if they are missing or damaged."""
    return None if fingerprint is None else open_prepared(cache_folder() / fingerprint)


def _warn_of_seen(prepared: Prepared, earlier: Prepared, run: Path) -> None:
    """Warn of held-out pairs whose sources are in the training text of the earlier run, but for unknown words."""
    splits = {"valid": prepared.valid_pairs, "test": prepared.test_pairs}
    encode = earlier.tokenizers.source.encode
    sources = {
        split: [
            np.asarray(ids, dtype=np.int32).tobytes()
            for ids in encode([source for source, _ in pairs])
            if UNK not in ids
        ]
        for split, pairs in splits.items()
    }
    held_out, seen = set(chain.from_iterable(sources.values())), set()
    for start in range(0, len(earlier.train) if held_out else 0, _ROWS_AT_ONCE):
        rows, _ = earlier.train.rows(range(start, min(start + _ROWS_AT_ONCE, len(earlier.train))))
        seen |= held_out.intersection(map(np.ndarray.tobytes, rows))
    for split, own in sources.items():
        if count := sum(row in seen for row in own):
            warn(
                f"{count:,} of {len(splits[split]):,} {split} sources are in the training text of {run}, which "
                f"flatters the scores; a {split} set that it has not read: data.{split}"
            )


def _same_as_before(record: Replay, directory: RunDirectory) -> Prepared:
    if (found := _prepared_before(record.fingerprint)) is not None:
        return found
    fault = "they are prepared otherwise by this version"
    try:
        run = RunDirectory(Path(record.run))
        found = earlier_data(run)
        # Where its files have moved, its content is the recorded one, and the fingerprint another.
        if record.fingerprint in (found.record["fingerprint"], (run.load_data_record() or DataRecord()).fingerprint):
            return found
    except UserError as error:
        fault = error.what
    raise ConfigError(
        f"the pairs of {record.run} that this run repeats (training.replay) are gone: {fault}",
        where=str(directory.data_record),
        hint=f"put {record.run} and its corpus back, or train into another run directory with -o",
        code="config.data-changed",
    )


def _joined(prepared: Prepared, earlier: Prepared, record: Replay) -> Prepared:
    return prepared._replace(
        train=prepared.train.followed_by(earlier.train), record={**prepared.record, "replay": record.model_dump()}
    )
