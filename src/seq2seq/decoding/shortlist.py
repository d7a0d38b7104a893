"""Vocabulary shortlist: search writes only the likely translations of a sentence's tokens (Jean et al. 2015, section
3.2).

Products with the output matrix and sums over the vocabulary take half of the time of a search on a CPU, and more with a
large vocabulary. They become those over some hundred tokens.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seq2seq.atomic_files import read_bytes, write_bytes
from seq2seq.special_tokens import SPECIAL_TOKENS

_FORMAT = 1
_FREQUENT = 100

Tokens = npt.NDArray[np.int64]


class Shortlist(NamedTuple):
    """The target tokens that the translation of a sentence may hold."""

    always: Tokens
    """Tokens of every list: the special ones, and the most frequent ones."""
    begins: Tokens
    """Place in `translations` of the first one of each source token, and behind it the end of the last."""
    translations: Tokens
    """Likely translations of the source tokens, one source token after the other."""
    size: int
    """Size of the target vocabulary."""
    shared: bool
    """Whether both sides have one vocabulary, so that source tokens may be copied."""

    @classmethod
    def of_translations(
        cls,
        sources: Tokens,
        targets: Tokens,
        probabilities: npt.NDArray[np.float64],
        frequencies: npt.NDArray[np.int64],
        *,
        best: int,
        shared: bool,
    ) -> Shortlist:
        """The `best` likeliest translations of each source token, and the most frequent tokens.

        Args:
            sources: source tokens of pairs that may be translations.
            targets: their target tokens.
            probabilities: p(target | source) of the pairs.
            frequencies: occurrences of each token of the target vocabulary.
            best: translations kept of each source token.
            shared: see the attribute.
        """
        order = np.lexsort((targets, -probabilities, sources))
        sources, targets = sources[order], targets[order]
        starts = np.searchsorted(sources, np.arange((int(sources.max()) if len(sources) else 0) + 2))
        kept = np.arange(len(sources)) - starts[sources] < best
        frequent = np.argsort(-frequencies, kind="stable")[:_FREQUENT]
        always = np.union1d(np.arange(len(SPECIAL_TOKENS)), frequent[frequencies[frequent] > 0])
        begins = np.concatenate(([0], np.cumsum(kept)))[starts]
        return cls(
            always.astype(np.int64), begins.astype(np.int64), targets[kept].astype(np.int64), len(frequencies), shared
        )

    def tokens(self, source: Sequence[int]) -> Tokens | None:
        """The tokens that a translation of `source` may hold, in rising order, the special tokens first.

        None if a source token has no translation, as it is not in the text that they were learned from.
        """
        is_listed = np.zeros(self.size, bool)  # faster than sets of the tokens
        is_listed[self.always] = True
        for token in source:
            if token + 1 >= len(self.begins) or self.begins[token] == self.begins[token + 1]:
                return None
            is_listed[self.translations[self.begins[token] : self.begins[token + 1]]] = True
        if self.shared:
            is_listed[list(source)] = True
        return is_listed.nonzero()[0]

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the lists, with the fingerprint of the tokenizers that the ids are of. Raises `UserError`."""
        content = io.BytesIO()
        np.savez(content, format=_FORMAT, fingerprint=fingerprint, **self._asdict())
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Shortlist | None:
        """Read the lists; None if they are missing, damaged, or of other tokenizers."""
        try:
            with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as content:
                if int(content["format"]) != _FORMAT or str(content["fingerprint"]) != fingerprint:
                    return None
                arrays = (content["always"], content["begins"], content["translations"])
                return cls(*arrays, int(content["size"]), bool(content["shared"]))
        except Exception:  # damage ends in one of many errors of numpy and of zip files
            return None
