"""Contract of the search engines, which translate token ids into token ids.

The native engine searches with this project's models (`beam_search.py`); another one may call a library. Text, batches
and the order of lines are the translator's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from torch import Tensor

from seq2seq.decoding.candidates import Sampling
from seq2seq.errors import DivergenceError


class Sentence(NamedTuple):
    """A source sentence, and what its translation must hold."""

    ids: list[int]
    """Source tokens without EOS."""
    prefix: tuple[int, ...] = ()
    """Target tokens that the output begins with."""
    phrases: tuple[tuple[int, ...], ...] = ()
    """Target token sequences, each of which must occur in the output (lexical constraints)."""
    key: tuple[int, ...] = (0,)
    """Identifies the sentence within a text, and seeds its random numbers together with `Sampling.seed`."""
    text: str = ""
    """The text of the tokens."""


class WordTokens(NamedTuple):
    """The tokens that end and continue words, so that prefixes and phrases stay whole words."""

    endings: frozenset[int]
    """Tokens that end with a letter, a digit, or a sign that ends words."""
    inner: tuple[int, ...]
    """Tokens that would continue the word before them: none follows a prefix or phrase that ends in `endings`, unless
    it continues with a phrase."""


class SearchOptions(NamedTuple):
    """Options of a search; the same for all sentences of a call."""

    beam_size: int = 5
    """Hypotheses kept at each position; 1 is greedy."""
    length_penalty: float = 1.0
    """Alpha in score = log P(target | source) / length^alpha; the length counts the end mark."""
    n_best: int = 1
    """Number of hypotheses returned for each sentence."""
    max_length_ratio: float = 2.0
    """Maximum length of an output in tokens, without EOS: int(ratio * source tokens) + `max_length_offset`."""
    max_length_offset: int = 20
    min_length_ratio: float = 0.0
    """Minimum length of an output in tokens, without EOS: int(ratio * source tokens)."""
    sampling: Sampling | None = None
    """Draws `n_best` outputs in place of a search for the best; without diversity and phrases."""
    diversity: float = 0.0
    """Diversity strength of diverse beam search (Vijayakumar et al. 2018): penalty of a token, in nats, for each
    earlier group that chose it at the same position. There are `n_best` groups; 0 is ordinary beam search, which alone
    takes phrases."""
    words: WordTokens | None = None
    """Keeps prefixes and phrases whole words, and phrases within the sentence: a hypothesis that the model would end
    without its phrases is dropped in favour of others."""
    with_attention: bool = False
    """Return attention weights."""
    with_token_scores: bool = False
    """Return the log-probability of every token."""


class Hypothesis(NamedTuple):
    """A finished output."""

    tokens: list[int]
    """Without BOS and EOS."""
    score: float
    """log_probability / (len(tokens) + 1)^alpha."""
    log_probability: float
    """Natural log of P(tokens, EOS | source) under the model itself, whatever the sampling."""
    attention: Tensor | None = None
    """[T+1, S] on request: row t are the weights that wrote token t, the last row those of EOS; the last column is the
    source's EOS."""
    cut: bool = False
    """Whether the output was cut off at the maximum length."""
    token_scores: tuple[float, ...] | None = None
    """On request: log P of each token and of EOS; they sum to `log_probability`."""


class Engine(Protocol):
    """A search engine. Its results do not depend on the batches of the sentences."""

    @property
    def max_source_length(self) -> int | None:
        """Maximum source length in tokens, EOS counted; None is unlimited."""

    @property
    def max_target_length(self) -> int | None:
        """Maximum target length in tokens, EOS counted; None is unlimited."""

    def prepare(self, characters: int) -> None:
        """Prepare for a text of about `characters` characters, e.g. load compiled code if the text is long enough."""
        return

    @property
    def takes_phrases(self) -> bool:
        """Whether `search` takes `Sentence.phrases`."""
        return True

    def unchanged(self) -> AbstractContextManager[None]:
        """Context for many searches, during which the model does not change; this makes each one cheaper."""
        return nullcontext()

    def version(self) -> tuple[int, ...]:
        """Version of the model's weights; it changes with them, and then copies in other processes are out of date."""
        return ()

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each sentence, best first; fewer if fewer exist, but at least one.

        Raises:
            UsageError: impossible options, or options that the engine does not support.
            ResourceError: out of memory.
            DivergenceError: the model's output is NaN.
        """


class EngineWrapper(Engine):
    """An engine that searches with another one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def max_source_length(self) -> int | None:
        return self.engine.max_source_length

    @property
    def max_target_length(self) -> int | None:
        return self.engine.max_target_length

    @property
    def takes_phrases(self) -> bool:
        return self.engine.takes_phrases

    def prepare(self, characters: int) -> None:
        self.engine.prepare(characters)

    def unchanged(self) -> AbstractContextManager[None]:
        return self.engine.unchanged()

    def version(self) -> tuple[int, ...]:
        return self.engine.version()


def not_a_number_error() -> DivergenceError:
    """Error of a model whose output is NaN."""
    return DivergenceError(
        "the model's output is not a number",
        hint="its weights hold NaN or infinity; use an earlier checkpoint",
        code="model.not-a-number",
    )
