"""An engine that draws many outputs of another and keeps the one that is most like all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import UsageError
from seq2seq.inference.request import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.inference.search.mbr import mbr_choose


class Risk(NamedTuple):
    """Minimum Bayes risk decoding (Eikema and Aziz 2020)."""

    samples: int
    utility: str = "chrf"
    """chrf or bleu."""
    tokenize: str = "13a"
    """How sacrebleu tokenizes for BLEU."""


class MinimumRisk(Engine):
    """Draws as `SearchOptions.sampling` says and chooses by the mean utility, in the engine's process."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, risk: Risk) -> None:
        self.engine, self.tokenizer, self.risk = engine, tokenizer, risk

    @property
    def max_source_length(self) -> int | None:
        """See `Engine`."""
        return self.engine.max_source_length

    @property
    def max_target_length(self) -> int | None:
        """See `Engine`."""
        return self.engine.max_target_length

    def prepare(self, characters: int) -> None:
        """See `Engine`."""
        self.engine.prepare(characters)

    def unchanged(self) -> AbstractContextManager[None]:
        """See `Engine`."""
        return self.engine.unchanged()

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """One hypothesis for each sentence. Raises what the engine raises."""
        if options.sampling is None or options.n_best != 1:
            raise UsageError(
                "minimum Bayes risk chooses one of many samples",
                hint="sampling, and n_best of 1",
                code="usage.conflict",
            )
        drawn = self.engine.search(sentences, options._replace(n_best=self.risk.samples))
        chosen = []
        for found in drawn:
            texts = self.tokenizer.decode([item.tokens for item in found])
            choice = mbr_choose(texts, self.risk.utility, tokenize=self.risk.tokenize)
            chosen.append([found[choice.index]])
        return chosen
