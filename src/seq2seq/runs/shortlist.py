"""The vocabulary shortlist of a run: learned once from its training text, and kept in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seq2seq.alignment.ibm_model_1 import Ids, train
from seq2seq.config import Config
from seq2seq.console import muted, say, warn
from seq2seq.data.cache import cache_folder
from seq2seq.data.prepare import open_prepared
from seq2seq.data.store import Store
from seq2seq.decoding.shortlist import Shortlist
from seq2seq.errors import DataError, UserError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.fine_tuning import find_run
from seq2seq.runs.replay import earlier_data
from seq2seq.runs.run_config import load_run_config
from seq2seq.tokenizers.pair import TokenizerPair

_BEST = 150
"""Translations of each source token."""

_MOST_COMBINATIONS = 16_000_000
"""Pairs of a source and a target token that are learned from, in 1 GB of memory: those of 38,000 sentence pairs of 20
tokens a side, or of 17,000 of 30."""

_LONGEST = 256
"""Tokens of a sentence that are learned from."""


def load_shortlist(directory: RunDirectory, config: Config, tokenizers: TokenizerPair) -> Shortlist:
    """The shortlist of a run; learned from the run's training text if it has none yet.

    Raises:
        DataError: the training text is gone or has changed.
    """
    fingerprint = tokenizers.fingerprint
    found = Shortlist.load(directory.shortlist, fingerprint)
    if found is None:
        say("learning the shortlist from the training text, once for this run")
        texts, are_all = _training_texts(directory, config)
        found = learn_shortlist(texts, tokenizers)
        try:
            if are_all:
                found.save(directory.shortlist, fingerprint)
        except UserError as error:
            warn(f"the shortlist is not kept, and learned again next time: {error.what}")
    return found


def learn_shortlist(stores: Sequence[Store], tokenizers: TokenizerPair) -> Shortlist:
    """The likeliest translations of each source token by IBM Model 1, from pairs that are spread over the texts."""
    sources: list[Ids] = []
    targets: list[Ids] = []
    for store in stores:
        chosen = _chosen(store, _MOST_COMBINATIONS // len(stores))
        for side, rows in zip((sources, targets), store.rows(chosen), strict=True):
            side += [row[:_LONGEST] for row in rows]
    null = tokenizers.source.size
    table = train(sources, targets, null)
    is_word = table.sources != null
    return Shortlist.of_translations(
        table.sources[is_word],
        table.targets[is_word],
        table.probabilities[is_word],
        np.bincount(np.concatenate(targets), minlength=tokenizers.target.size),
        best=_BEST,
        shared=tokenizers.joint,
    )


def _chosen(store: Store, combinations: int) -> Ids:
    """Evenly spaced rows with about that many combinations of their tokens, or all rows."""
    source = np.minimum(store.source_lengths, _LONGEST).astype(np.float32)
    target = np.minimum(store.target_lengths, _LONGEST).astype(np.float32)
    share = min(1.0, combinations / max(1.0, float(np.dot(source + 1, target))))
    chosen: Ids = np.linspace(0, len(store) - 1, max(1, int(len(store) * share))).round().astype(np.int32)
    return chosen


def _training_texts(directory: RunDirectory, config: Config) -> tuple[list[Store], bool]:
    """The training text of the run and those of the runs from whose weights it went on, and whether all are there."""
    texts = [_training_text(directory)]
    seen = {directory.path.resolve()}
    while (earlier := config.training.init_from) is not None:
        try:
            directory, _ = find_run(Path(earlier))
            if directory.path.resolve() in seen:
                break
            seen.add(directory.path.resolve())
            config = load_run_config(directory)
            texts.append(_training_text(directory))
        except UserError as error:
            warn(f"the shortlist lacks the text of {earlier}, and is learned again next time: {error.what}")
            return texts, False
    return list({text.path: text for text in texts}.values()), True


def _training_text(directory: RunDirectory) -> Store:
    """The pairs that a run was trained on, as prepared then, or prepared again."""
    try:
        record = directory.load_data_record()
        if record is not None and record.fingerprint is not None:
            prepared = open_prepared(cache_folder() / record.fingerprint)
            if prepared is not None and prepared.tokenizers.fingerprint == record.tokenizer:
                return prepared.train
        with muted():
            return earlier_data(directory).train
    except UserError as error:
        raise DataError(
            error.what,
            where=error.where,
            hint="use --shortlist once where the training text is, as it was; the run keeps what is learned",
            code=error.code,
        ) from None
