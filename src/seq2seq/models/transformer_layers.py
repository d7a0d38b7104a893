"""Layers of the Transformer: sublayers and the residual connections around them (Vaswani et al. 2017, section 3.1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.config.model import TransformerSettings
from seq2seq.models.attention import CrossAttention, KeysValues, SelfAttention
from seq2seq.models.layers import Dropout, FeedForward, build_norm


class SublayerConnection(nn.Module):
    """Residual connection with norm and dropout: x + sublayer(norm(x)), or norm(x + sublayer(x)) for `post`."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norm = build_norm(settings.norm, settings.hidden_size)
        self.dropout = Dropout(settings.dropout)
        self.pre = settings.norm_position == "pre"

    def sublayer_input(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """norm(x), or x itself for `post`."""
        entering: Tensor = self.norm(x) if self.pre else x
        return entering

    def add(self, x: Float[Tensor, "B T D"], output: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The sum of x and the sublayer's output, normalised for `post`."""
        x = x + self.dropout(output)
        added: Tensor = x if self.pre else self.norm(x)
        return added


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward block."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        wide, dropout = settings.attention == "wide", settings.attention_dropout
        self.attention = SelfAttention(settings.hidden_size, settings.num_heads, wide=wide, dropout=dropout)
        self.feed_forward = FeedForward(settings)
        self.around_attention = SublayerConnection(settings)
        self.around_feed_forward = SublayerConnection(settings)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        bias: Float[Tensor, "B 1 1 S"],
        rotary: Float[Tensor, "2 S E"] | None,
    ) -> Float[Tensor, "B S D"]:
        attended = self.attention(self.around_attention.sublayer_input(x), bias=bias, rotary=rotary)
        x = self.around_attention.add(x, attended)
        transformed = self.feed_forward(self.around_feed_forward.sublayer_input(x))
        return self.around_feed_forward.add(x, transformed)


class DecoderLayer(nn.Module):
    """Self-attention, attention over the encoder's states, then a feed-forward block."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        width, heads, dropout = settings.hidden_size, settings.num_heads, settings.attention_dropout
        wide = settings.attention == "wide"
        self.self_attention = SelfAttention(width, heads, wide=wide, dropout=dropout)
        self.cross_attention = CrossAttention(width, heads, wide=wide, dropout=dropout)
        self.feed_forward = FeedForward(settings)
        self.around_self_attention = SublayerConnection(settings)
        self.around_cross_attention = SublayerConnection(settings)
        self.around_feed_forward = SublayerConnection(settings)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        projected: KeysValues,
        bias: Float[Tensor, "B 1 1 S"],
        rotary: Float[Tensor, "2 T E"] | None,
        with_weights: bool,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """All positions at once, and on demand the weights of the cross-attention."""
        attended = self.self_attention(self.around_self_attention.sublayer_input(x), causal=True, rotary=rotary)
        x = self.around_self_attention.add(x, attended)
        return self._cross_attention_and_feed_forward(x, projected, bias, with_weights)

    def step(
        self,
        x: Float[Tensor, "N W D"],
        cache: KeysValues,
        used: int,
        cache_bias: Float[Tensor, "B 1 K C"],
        projected: KeysValues,
        bias: Float[Tensor, "N 1 1 S"],
        rotary: Float[Tensor, "2 1 E"] | None,
        with_weights: bool,
    ) -> tuple[Float[Tensor, "N W D"], Float[Tensor, "N H W S"] | None]:
        """Decode one position of W hypotheses of each sentence, which see the places that `cache_bias` does not mask.

        Their keys and values are written into the last K of the first `used` places.
        """
        entering = self.around_self_attention.sublayer_input(x).view(cache_bias.shape[0], cache_bias.shape[2], -1)
        attended = self.self_attention.step(entering, cache, used, bias=cache_bias, rotary=rotary)
        x = self.around_self_attention.add(x, attended.view(x.shape))
        return self._cross_attention_and_feed_forward(x, projected, bias, with_weights)

    def _cross_attention_and_feed_forward(
        self, x: Float[Tensor, "B T D"], projected: KeysValues, bias: Float[Tensor, "B 1 1 S"], with_weights: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        attended, weights = self.cross_attention(
            self.around_cross_attention.sublayer_input(x), projected, bias, with_weights=with_weights
        )
        x = self.around_cross_attention.add(x, attended)
        transformed = self.feed_forward(self.around_feed_forward.sublayer_input(x))
        return self.around_feed_forward.add(x, transformed), weights
