"""What is asked of a search and what it answers: the one contract of every engine.

An engine turns token ids into token ids. The native one searches with our own models (`search/beam_search.py`);
another may hand the work to a library. Text, batches of lines, files and order are the translator's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from torch import Tensor

from seq2seq.decoding.candidates import Sampling


class Sentence(NamedTuple):
    """One source sentence, and what its translation must hold."""

    ids: list[int]
    """Source tokens without EOS."""
    prefix: tuple[int, ...] = ()
    """Target tokens that the output begins with."""
    phrases: tuple[tuple[int, ...], ...] = ()
    """Target token sequences, each of which must occur in the output (lexical constraints)."""
    key: tuple[int, ...] = (0,)
    """Seeds this sentence's random numbers, together with `Sampling.seed`."""


class Words(NamedTuple):
    """Where words end and go on, for prefixes and phrases that end with a whole word."""

    endings: frozenset[int]
    """Tokens that end with a letter or digit."""
    inner: tuple[int, ...]
    """Tokens that would go on in the word before them: none stands right after a prefix or phrase that ends in
    `endings`, unless it goes on with a phrase."""


class SearchOptions(NamedTuple):
    """How to search; the same for all sentences of a call."""

    beam_size: int = 5
    """Hypotheses kept at each position; 1 is greedy."""
    length_penalty: float = 1.0
    """Alpha in score = log P(target | source) / length^alpha, end mark counted in length."""
    n_best: int = 1
    """Hypotheses wanted of each sentence."""
    max_length_ratio: float = 2.0
    """Longest output in tokens, without EOS: int(ratio * source tokens) + `max_length_offset`."""
    max_length_offset: int = 20
    min_length_ratio: float = 0.0
    """Shortest output in tokens, without EOS: int(ratio * source tokens)."""
    sampling: Sampling | None = None
    """Draw `n_best` outputs instead of searching for the best."""
    diversity: float = 0.0
    """Above 0: as many groups of beams as hypotheses wanted, each of which pays so much for a token that an earlier one
    chose at the same position (Vijayakumar et al. 2018)."""
    words: Words | None = None
    """Keep prefixes and phrases whole words, and phrases within the sentence: an output that the model would end
    without them is given up for others."""
    with_attention: bool = False
    """Return attention weights."""
    with_token_scores: bool = False
    """Return the log-probability of every token."""


class Hypothesis(NamedTuple):
    """One finished output."""

    tokens: list[int]
    """Without BOS and EOS."""
    score: float
    """log_probability / (len(tokens) + 1)^alpha."""
    log_probability: float
    """Natural log of P(tokens, EOS | source) under the model itself, whatever the sampling."""
    attention: Tensor | None = None
    """[T+1, S] on request: row t wrote token t, the last row EOS; the last column is the source's EOS."""
    cut: bool = False
    """True where the maximum length, not the model, put the end."""
    token_scores: tuple[float, ...] | None = None
    """On request: log P of each token and of EOS; they sum to `log_probability`."""


class Engine(Protocol):
    """Searches token ids. Results do not depend on how sentences are put in batches."""

    @property
    def max_source_length(self) -> int | None:
        """Longest source in tokens, EOS counted, None where there is no limit."""

    @property
    def max_target_length(self) -> int | None:
        """Longest target in tokens, EOS counted, None where there is no limit."""

    def prepare(self, characters: int) -> None:
        """Called before a text of about so many characters: what costs time once and then saves some for each line."""
        return

    def unchanged(self) -> AbstractContextManager[None]:
        """For the time of many searches, in which the model does not change: each costs less."""
        return nullcontext()

    def version(self) -> tuple[int, ...]:
        """Differs after the model's weights have been changed: a copy in another process is then out of date."""
        return ()

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """For every sentence its `n_best` hypotheses by falling score; fewer where fewer exist, never none.

        Raises:
            UsageError: options that make no sense, or that this engine does not know.
            ResourceError: memory ran out.
            DivergenceError: the model's output is NaN.
        """
