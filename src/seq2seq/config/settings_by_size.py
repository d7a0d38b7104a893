"""Choices for a corpus: vocabulary, model, batch, schedule and steps from the number of pairs, and from a time budget.

`ROWS` is the whole table. Between two rows every number is interpolated over the logarithm of the pairs, so that no
choice jumps. The one exception is the architecture: below `GRU_PAIRS`, and in short budgets, a GRU takes the place of
the row's Transformer. A row with a score was measured: its settings were trained on a corpus of that size
(configs/README.md has more). The others are extrapolated from measured rows and published recipes.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple


class Row(NamedTuple):
    """Choices for one size of corpus."""

    pairs: int
    vocabulary: float
    encoder_layers: float
    decoder_layers: float
    hidden_size: float
    dropout: float
    attention_dropout: float
    batch_size: float
    """Padded tokens of the longer side."""
    learning_rate: float
    passes: float
    """Passes over the corpus."""
    score: str = ""
    """What a measured row reached; empty for an extrapolated one."""

    @property
    def layer_weights(self) -> float:
        """Weights of the layers where the feed-forward blocks are four times as wide as the model."""
        return self.hidden_size**2 * (12 * self.encoder_layers + 16 * self.decoder_layers)


ROWS = (
    # pairs, vocabulary, enc., dec., width, dropout, of attention, batch, rate, passes, score
    Row(300, 500, 4, 2, 128, 0.30, 0.10, 1024, 3.0e-3, 200),
    Row(1_000, 500, 4, 2, 144, 0.30, 0.10, 1536, 3.0e-3, 110),
    Row(3_000, 1_000, 4, 2, 160, 0.30, 0.10, 2048, 3.0e-3, 75, "24.1 BLEU on Multi30k, English to German"),
    Row(10_000, 2_500, 4, 2, 176, 0.30, 0.10, 3072, 3.0e-3, 50),
    Row(29_000, 6_000, 4, 2, 192, 0.30, 0.10, 4096, 3.0e-3, 33, "39.7 BLEU on Multi30k, English to German"),
    Row(100_000, 9_000, 4, 2, 224, 0.25, 0.05, 5120, 2.2e-3, 25),
    Row(165_000, 10_000, 5, 2, 256, 0.20, 0.05, 6144, 2.0e-3, 20),
    Row(1_000_000, 16_000, 6, 3, 384, 0.10, 0.00, 12_288, 1.0e-3, 12),
    Row(10_000_000, 32_000, 6, 6, 512, 0.10, 0.00, 25_000, 7.0e-4, 5),
    Row(30_000_000, 32_000, 6, 6, 576, 0.10, 0.00, 25_000, 7.0e-4, 3),
)

Kind = Literal["auto", "transformer", "gru"]
GRU_PAIRS = 15_000
"""Pairs below which `auto` takes a GRU with attention, which learns from fewer updates."""
GRU_TOKENS = 10e6
"""The same for the target tokens that a budget allows."""
_GRU_WIDTH = 256
_GRU_WEIGHTS = 1_200_000
"""Weights of a GRU of that width without its embeddings."""

TOKENS_PER_WEIGHT = 2.0
"""Target tokens that a budget must allow for each weight; with fewer, a smaller model is better. On Multi30k 4.5 M
weights were as good as 2.3 M from 1.3 tokens a weight on."""
_NEAR = 2.0
"""Within this factor of its size, the score of a measured row says something about a corpus."""
_MEASURED_PAIRS = 29_000
FILLED = 0.95
"""Share of a batch that is not padding."""
_GPU_FACTOR, _GPU_BATCH = 4.0, 25_000.0
"""Factor by which batches are larger on a GPU, and the size up to which they grow. On an H200 a step of 16,384 tokens
takes as long as one of 4,096. Steps shrink by the root of the factor, and passes grow by it."""


BUDGET_REASON = "minutes for everything; timed steps then lower max_steps to what fits"


class Choice(NamedTuple):
    """The value of a setting, with the reason for it."""

    value: Any
    reason: str


class Choices(NamedTuple):
    """Choices for one corpus, and the price of one token."""

    pairs: int
    tokens: float
    """Mean target tokens of a pair."""
    kind: Literal["transformer", "gru"]
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    hidden_size: int
    num_heads: int
    ff_size: int
    dropout: float
    attention_dropout: float
    batch_size: int
    learning_rate: float
    steps: int
    passes: float
    warmup_steps: int
    validate_every: int
    budget_minutes: float | None
    as_for: int
    """Size of the corpus whose model a budget allows; `pairs` without a budget, or with enough time."""

    @property
    def weights(self) -> int:
        """Weights of the model, without biases and norms."""
        inner = _GRU_WEIGHTS if self.kind == "gru" else _layer_weights(self)
        return self.vocabulary * self.hidden_size + inner

    @property
    def flops(self) -> float:
        """Floating-point operations of training per target token, its source token included."""
        return 6.0 * self.weights

    @property
    def expected_score(self) -> str:
        """The score of a measured row for about this size; empty if there is none, or a budget changes the model."""
        near = [row for row in ROWS if row.score and 1 / _NEAR <= self.pairs / row.pairs <= _NEAR]
        if not near or self.as_for != self.pairs or self.kind != _kind_for(near[0].pairs):
            return ""
        return near[0].score

    def settings(self) -> dict[str, Choice]:
        """The choices as settings."""
        of_size = f"for {self.pairs:,} pairs"
        if self.as_for != self.pairs:
            of_size += f" in {self.budget_minutes:g} minutes, as for {_round(self.as_for):,} without a budget"
        width = Choice(self.hidden_size, f"{self.weights / 1e6:.1f} M weights {of_size}")
        dropout = Choice(self.dropout, "the smaller the corpus, the more")
        if self.kind == "gru":
            model = {
                "model.kind": Choice(
                    "rnn", "a GRU with attention learns from less; a Transformer wants more, and alone can be exported"
                ),
                "model.hidden_size": width,
                "model.embedding_size": Choice(self.hidden_size, ""),
                "model.layer_norm": Choice(True, ""),
                "model.dropout": dropout,
            }
        else:
            model = {
                "model.kind": Choice("transformer", "the better scores; model.kind=gru learns faster at first"),
                "model.hidden_size": width,
                "model.ff_size": Choice(self.ff_size, "about four times the width"),
                "model.encoder_layers": Choice(self.encoder_layers, "a deep encoder costs little time"),
                "model.decoder_layers": Choice(self.decoder_layers, "a shallow decoder translates faster"),
                "model.num_heads": Choice(self.num_heads, ""),
                "model.dropout": dropout,
                "model.attention_dropout": Choice(self.attention_dropout, ""),
            }
        training = {
            "training.batch_size": Choice(self.batch_size, "tokens; small corpora need many updates, hence small ones"),
            "training.optimizer.learning_rate": Choice(self.learning_rate, "larger models want a lower peak"),
            "training.max_steps": Choice(self.steps, f"about {_short(self.passes)} passes over the corpus"),
            "training.schedule.kind": Choice("wsd", "warm-up, flat, decay"),
            "training.schedule.warmup_steps": Choice(self.warmup_steps, "a ninth of the steps, 4,000 at most"),
            "training.schedule.decay_fraction": Choice(0.5, "the best scores come while the rate falls"),
            "training.validate_every": Choice(self.validate_every, "20 validations, each of which saves a checkpoint"),
            "training.patience": Choice(None, "no early stop, which would lose the decay"),
        }
        if self.budget_minutes is not None:
            training["training.budget_minutes"] = Choice(self.budget_minutes, BUDGET_REASON)
        vocabulary = {"tokenizer.vocabulary_size": Choice(self.vocabulary, "small corpora want small vocabularies")}
        return {**vocabulary, **model, **training}


def choose(
    pairs: int,
    *,
    characters: float = 60.0,
    least_vocabulary: int = 0,
    minutes: float | None = None,
    speed: float | None = None,
    on_gpu: bool = False,
    kind: Kind = "auto",
) -> Choices:
    """The choices for a corpus.

    Args:
        pairs: training pairs.
        characters: mean characters of a line on the longer side.
        least_vocabulary: entries that the characters of the text need.
        minutes: time for everything; None takes what the corpus is worth.
        speed: FLOP/s of training on this machine; with `minutes`, it limits the model.
        on_gpu: whether a GPU trains the model, for which small batches are a waste.
        kind: the architecture; `auto` takes a GRU for few pairs and for little time.
    """

    def at(size: int) -> Choices:
        return _choose(pairs, size, characters, least_vocabulary, minutes, on_gpu)

    whole = at(pairs)
    if (_kind_for(pairs) if kind == "auto" else kind) == "gru":
        whole = _as_gru(whole)
    if minutes is None or speed is None:
        return whole
    if whole.kind == "gru" or _fits(whole, minutes, speed):
        fitting = whole
    else:
        low, high = min(ROWS[0].pairs, pairs), pairs
        while high - low > max(1, low // 200):
            middle = round(math.sqrt(low * high)) if high > 2 * low else (low + high) // 2
            low, high = (middle, high) if _fits(at(middle), minutes, speed) else (low, middle)
        fitting = at(low)
    if kind == "auto" and 60.0 * minutes * speed / fitting.flops < min(GRU_TOKENS, _wanted_tokens(whole)):
        fitting = _as_gru(fitting)
    return _with_passes(fitting, minutes, speed)


def _kind_for(pairs: int) -> Literal["transformer", "gru"]:
    """The architecture that `auto` takes where there is enough time."""
    return "gru" if pairs < GRU_PAIRS else "transformer"


def _as_gru(choices: Choices) -> Choices:
    """The choices with a GRU, whose width is the same for every corpus."""
    return choices._replace(kind="gru", hidden_size=_GRU_WIDTH)


def _wanted_tokens(choices: Choices) -> float:
    """Target tokens of a training without a budget."""
    return choices.passes * choices.pairs * choices.tokens


def _with_passes(choices: Choices, minutes: float, speed: float) -> Choices:
    """The choices with a third more steps than fit into a budget, since timed steps decide the number."""
    fitting = 60.0 * minutes * speed / (choices.flops * choices.tokens * choices.pairs)
    share = min(1.0, 1.33 * fitting / choices.passes)
    return _with_steps(choices._replace(passes=share * choices.passes), max(1, round(share * choices.steps)))


def _with_steps(choices: Choices, steps: int) -> Choices:
    """The choices with what follows from the number of steps."""
    validate_every = max(1, min(2000, steps // 20))
    return choices._replace(steps=steps, warmup_steps=min(4000, steps // 9), validate_every=validate_every)


def _fits(choices: Choices, minutes: float, speed: float) -> bool:
    """Whether a budget is long enough for a model: for all its steps, or for enough tokens a weight."""
    tokens = 60.0 * minutes * speed / choices.flops
    return tokens >= min(TOKENS_PER_WEIGHT * choices.weights, _wanted_tokens(choices))


def _choose(
    pairs: int, size: int, characters: float, least_vocabulary: int, minutes: float | None, on_gpu: bool
) -> Choices:
    """The choices with the model of a corpus of `size` pairs."""
    row, own = _row(size), _row(pairs)
    encoder, decoder = round(row.encoder_layers), round(row.decoder_layers)
    hidden = _multiple(row.hidden_size, 16)
    # Layers and width are whole numbers; feed-forward blocks take up the difference, so that the model grows evenly.
    attention = hidden**2 * (4 * encoder + 8 * decoder)
    ff_size = _multiple((_interpolated_weights(size) - attention) / (2 * hidden * (encoder + decoder)), 8)
    # Fewer entries make longer texts: a corpus that can fill those of the measured row has as many in any budget.
    filled = row if size == pairs else _row(max(size, min(pairs, _MEASURED_PAIRS)))
    vocabulary = max(_multiple(filled.vocabulary, 4), least_vocabulary)
    # English and German captions have 1.9 characters per token with 500 entries, 3.4 with 2,000, 4.4 with 6,000.
    tokens = characters / min(4.6, 1.9 + 0.75 * math.log2(max(500, vocabulary) / 500)) + 1
    factor = max(1.0, min(_GPU_FACTOR, _GPU_BATCH / row.batch_size)) if on_gpu else 1.0
    batch, passes = _multiple(factor * row.batch_size, 8), math.sqrt(factor) * own.passes
    steps = max(1, round(passes * pairs * tokens / (FILLED * batch)))
    choices = Choices(
        pairs=pairs,
        tokens=tokens,
        kind="transformer",
        vocabulary=vocabulary,
        encoder_layers=encoder,
        decoder_layers=decoder,
        hidden_size=hidden,
        num_heads=4 if hidden < 320 else 8,
        ff_size=ff_size,
        dropout=round(own.dropout, 3),
        attention_dropout=round(own.attention_dropout, 3),
        batch_size=batch,
        learning_rate=float(f"{row.learning_rate:.3g}"),
        steps=steps,
        passes=passes,
        warmup_steps=0,
        validate_every=1,
        budget_minutes=minutes,
        as_for=size,
    )
    return _with_steps(choices, steps)


def _row(pairs: int) -> Row:
    """The row for a number of pairs: interpolated, or the first or last one beyond the ends of the table."""
    low, high, share = _place(pairs)
    numbers = {}
    for name in Row._fields[1:-1]:
        left, right = getattr(low, name), getattr(high, name)
        is_linear = name.endswith(("layers", "dropout"))
        numbers[name] = left + share * (right - left) if is_linear else left * (right / left) ** share
    return Row(pairs, **numbers)


def _interpolated_weights(pairs: int) -> float:
    low, high, share = _place(pairs)
    return math.exp((1 - share) * math.log(low.layer_weights) + share * math.log(high.layer_weights))


def _place(pairs: int) -> tuple[Row, Row, float]:
    """The rows around a number of pairs, and its place between them on a logarithmic scale."""
    size = min(max(pairs, ROWS[0].pairs), ROWS[-1].pairs)
    number = next(number for number, row in enumerate(ROWS[1:], start=1) if size <= row.pairs)
    low, high = ROWS[number - 1], ROWS[number]
    return low, high, math.log(size / low.pairs) / math.log(high.pairs / low.pairs)


def _layer_weights(choices: Choices) -> int:
    encoder, decoder, hidden = choices.encoder_layers, choices.decoder_layers, choices.hidden_size
    return hidden**2 * (4 * encoder + 8 * decoder) + 2 * hidden * choices.ff_size * (encoder + decoder)


def _multiple(value: float, of: int) -> int:
    return max(of, of * round(value / of))


def _round(number: int) -> int:
    """To two digits."""
    return round(number, 1 - int(math.log10(max(1, number))))


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 9.5 else f"{number:.1f}"
