"""Settings of the two architectures, chosen by `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import Field, model_validator
from typing_extensions import Self

from seq2seq.config.base import Probability, Settings

TiedEmbeddings = Literal["none", "target", "all"]


class TransformerSettings(Settings):
    """Encoder-decoder Transformer (Vaswani et al. 2017)."""

    kind: Literal["transformer"] = "transformer"
    hidden_size: int = Field(256, ge=1, le=2**17)
    """Width of every layer's input and output."""
    ff_size: int = Field(1024, ge=1, le=2**19)
    """Inner width of the feed-forward blocks."""
    num_heads: int = Field(4, ge=1, le=1024)
    """Attention heads."""
    encoder_layers: int = Field(3, ge=1, le=1000)
    """Depth of the encoder."""
    decoder_layers: int = Field(3, ge=1, le=1000)
    """Depth of the decoder; 1 or 2 make translation fast at little cost in quality."""
    attention: Literal["narrow", "wide"] = "narrow"
    """`narrow`: the heads split the width; `wide`: every head has the full width."""
    norm_position: Literal["pre", "post"] = "pre"
    """Normalise before each block (stable) or after it (the original)."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Layer normalisation (Ba et al. 2016) or root mean square (Zhang and Sennrich 2019)."""
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    """Added sinusoids, an added table, or rotation of queries and keys (Su et al. 2021)."""
    max_positions: int = Field(1024, ge=1, le=2**24)
    """`learned`: entries of the table, hence the longest input."""
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    """Non-linearity of the feed-forward blocks."""
    dropout: Probability = 0.1
    """On embeddings and on each block's output."""
    attention_dropout: Probability = 0.0
    """On attention weights."""
    ff_dropout: Probability = 0.0
    """Inside the feed-forward blocks, after the activation."""
    word_dropout: Probability = 0.0
    """Whole token embeddings zeroed on both sides in training (Gal and Ghahramani 2016); 0.1 is usual."""
    tied_embeddings: TiedEmbeddings = "all"
    """Share weights: `target` embedding with the output projection; `all` the source embedding too."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.attention == "narrow" and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads}); "
                f"hidden_size: {self.num_heads * max(1, round(self.hidden_size / self.num_heads))}"
            )
        head_size = self.hidden_size if self.attention == "wide" else self.hidden_size // self.num_heads
        if self.positions == "rotary" and head_size % 2:
            raise ValueError(f"rotary positions need an even head width, not {head_size}")
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(f"sinusoidal positions need an even hidden_size, not {self.hidden_size}")
        return self


class RNNSettings(Settings):
    """Recurrent encoder-decoder, without attention (Sutskever et al. 2014) or with it (Bahdanau et al. 2015, Luong et
    al. 2015)."""

    kind: Literal["rnn"] = "rnn"
    cell: Literal["gru", "lstm", "tanh"] = "gru"
    """Recurrent cell: gated recurrent unit, long short-term memory, or plain tanh."""
    embedding_size: int = Field(256, ge=1, le=2**17)
    """Width of the token embeddings."""
    hidden_size: int = Field(256, ge=1, le=2**17)
    """Width of the decoder's state, of the attention and of the encoder's output (both directions together)."""
    encoder_layers: int = Field(1, ge=1, le=1000)
    """Depth of the encoder."""
    decoder_layers: int = Field(1, ge=1, le=1000)
    """Depth of the decoder."""
    bidirectional: bool = True
    """Read the source in both directions, each with half of `hidden_size`."""
    attention: Literal["none", "additive", "dot", "general", "scaled_dot", "multi_head"] = "additive"
    """`none` hands over the last encoder state alone; `additive` is Bahdanau's, `dot` and `general` are Luong's."""
    num_heads: int = Field(4, ge=1, le=1024)
    """Heads of `multi_head` attention."""
    input_feeding: bool = True
    """Feed the last attention output into the next step (Luong et al. 2015, section 3.3)."""
    layer_norm: bool = False
    """Normalise the encoder's output, the decoder's state before the attention, and the decoder's output."""
    teacher_forcing: float = Field(1.0, ge=0.0, le=1.0)
    """Probability that training feeds the reference token rather than the model's own best (Bengio et al. 2015)."""
    dropout: Probability = 0.2
    """On embeddings, between layers and on the decoder's output."""
    word_dropout: Probability = 0.0
    """Whole token embeddings zeroed on both sides in training (Gal and Ghahramani 2016); 0.1 is usual."""
    tied_embeddings: TiedEmbeddings = "all"
    """Share weights: `target` embedding with the output projection; `all` the source embedding too."""

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be even for a bidirectional encoder")
        if self.attention == "multi_head" and self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        if self.attention == "none" and self.input_feeding:
            raise ValueError(
                "input_feeding feeds the attention's output back; set input_feeding: false with attention: none"
            )
        return self


ModelSettings = Annotated[Union[TransformerSettings, RNNSettings], Field(discriminator="kind")]  # noqa: UP007


def current_names(model: Mapping[str, Any]) -> dict[str, Any]:
    """The group `model` with today's values for old ones.

    `kind: gru` named all recurrent models, and `cell: rnn` the tanh cell. Both stay valid.
    """
    current = dict(model)
    if current.get("kind") == "gru":
        current["kind"] = "rnn"
    if current.get("cell") == "rnn":
        current["cell"] = "tanh"
    return current
