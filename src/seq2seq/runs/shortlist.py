"""The vocabulary shortlist of a run: learned once from its training text, and kept in its folder."""

from __future__ import annotations

import numpy as np

from seq2seq.alignment.ibm_model_1 import train
from seq2seq.config import Config
from seq2seq.console import say, warn
from seq2seq.data.store import Store
from seq2seq.decoding.shortlist import Shortlist
from seq2seq.errors import DataError, UserError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_data import prepare_data
from seq2seq.tokenizers.pair import TokenizerPair

_BEST = 150
"""Translations of each source token."""

_MOST_COMBINATIONS = 16_000_000
"""Pairs of a source and a target token that are learned from: about 40,000 sentence pairs, in 1 GB of memory."""


def load_shortlist(directory: RunDirectory, config: Config, tokenizers: TokenizerPair) -> Shortlist:
    """The shortlist of a run; learned from the run's training text if it has none yet.

    Raises:
        ConfigError: the training text has changed.
        DataError, NetworkError: it cannot be read.
    """
    fingerprint = tokenizers.fingerprint
    found = Shortlist.load(directory.shortlist, fingerprint)
    if found is None:
        say("learning the shortlist from the training text, once for this run")
        try:
            store = prepare_data(config, directory, tokenizers).train
        except DataError as error:
            hint = "use --shortlist once where the training text is; the run keeps what is learned"
            raise DataError(error.what, where=error.where, hint=hint, code=error.code) from None
        found = learn_shortlist(store, tokenizers)
        try:
            found.save(directory.shortlist, fingerprint)
        except UserError as error:
            warn(f"the shortlist is not kept, and learned again next time: {error.what}")
    return found


def learn_shortlist(store: Store, tokenizers: TokenizerPair) -> Shortlist:
    """The likeliest translations of each source token by IBM Model 1, from pairs that are spread over the text."""
    size = len(store)
    combinations = int(((store.source_lengths.astype(np.int64) + 1) * store.target_lengths).sum())
    count = min(size, max(1, int(size * _MOST_COMBINATIONS / max(1, combinations))))
    sources, targets = store.rows(np.linspace(0, size - 1, count).round().astype(np.int64))
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
