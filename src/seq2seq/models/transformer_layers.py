"""Layers of the Transformer: blocks with what is around them, in the encoder and in the decoder."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.config.model import TransformerSettings
from seq2seq.kernels import tensors
from seq2seq.models.attention import CrossAttention, Past, SelfAttention
from seq2seq.models.layers import Dropout, FeedForward, LayerNorm, RMSNorm, build_norm


class Residual(nn.Module):
    """The norm and dropout around one block: x + block(norm(x)), or norm(x + block(x)) for `post`."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norm: LayerNorm | RMSNorm = build_norm(settings.norm, settings.hidden_size)
        self.dropout = Dropout(settings.dropout)
        self.pre = settings.norm_position == "pre"

    def enter(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The block's input."""
        entering: Tensor = self.norm(x) if self.pre else x
        return entering

    def leave(self, x: Float[Tensor, "B T D"], result: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """`x` joined by the block's result."""
        x = x + self.dropout(result)
        left: Tensor = x if self.pre else self.norm(x)
        return left


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward block."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        wide = settings.attention == "wide"
        dropout = settings.attention_dropout
        self.attention = SelfAttention(settings.hidden_size, settings.num_heads, wide=wide, dropout=dropout)
        self.feed_forward = FeedForward(settings)
        self.around_attention = Residual(settings)
        self.around_feed_forward = Residual(settings)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        bias: Float[Tensor, "B 1 1 S"],
        turn: Float[Tensor, "2 S E"] | None,
    ) -> Float[Tensor, "B S D"]:
        weights = self._compiled() if turn is None else None
        found = None if weights is None else tensors.encoder_layer(x, weights, bias)
        if found is not None:
            return found
        result = self.attention(self.around_attention.enter(x), bias=bias, turn=turn)
        x = self.around_attention.leave(x, result)
        result = self.feed_forward(self.around_feed_forward.enter(x))
        left: Tensor = self.around_feed_forward.leave(x, result)
        return left

    def _compiled(self) -> tensors.LayerWeights | None:
        """What compiled loops want, where they are in use and know such a layer."""
        around = (self.around_attention, self.around_feed_forward)
        return _for_loops(around, (self.attention,), self.feed_forward) if tensors.in_use() else None


class DecoderLayer(nn.Module):
    """Self-attention over the past, attention over the memory, then a feed-forward block."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        width, heads, dropout = settings.hidden_size, settings.num_heads, settings.attention_dropout
        wide = settings.attention == "wide"
        self.self_attention = SelfAttention(width, heads, wide=wide, dropout=dropout)
        self.cross_attention = CrossAttention(width, heads, wide=wide, dropout=dropout)
        self.feed_forward = FeedForward(settings)
        self.around_self_attention = Residual(settings)
        self.around_cross_attention = Residual(settings)
        self.around_feed_forward = Residual(settings)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        projected: Past,
        bias: Float[Tensor, "B 1 1 S"],
        turn: Float[Tensor, "2 T E"] | None,
        with_weights: bool,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """All positions at once."""
        result = self.self_attention(self.around_self_attention.enter(x), causal=True, turn=turn)
        return self._rest(self.around_self_attention.leave(x, result), projected, bias, with_weights)

    def step(
        self,
        x: Float[Tensor, "N W D"],
        past: Past,
        used: int,
        own: Float[Tensor, "B 1 K C"],
        projected: Past,
        bias: Float[Tensor, "N 1 1 S"],
        turn: Float[Tensor, "2 1 E"] | None,
        with_weights: bool,
    ) -> tuple[Float[Tensor, "N W D"], Float[Tensor, "N H W S"] | None]:
        """One position of W hypotheses of each sentence, whose own past is in `past` as far as `own` lets them see it.

        Theirs goes into the last K of the first `used` places.
        """
        weights = self._compiled() if turn is None and not with_weights else None
        found = None if weights is None else tensors.decoder_layer(x, weights, past, used, own, projected, bias)
        if found is not None:
            return found, None
        entering = self.around_self_attention.enter(x).view(own.shape[0], own.shape[2], -1)
        result = self.self_attention.step(entering, past, used, bias=own, turn=turn)
        return self._rest(self.around_self_attention.leave(x, result.view(x.shape)), projected, bias, with_weights)

    def _compiled(self) -> tensors.LayerWeights | None:
        """What compiled loops want, where they are in use and know such a layer."""
        attention, memory, block = self.self_attention, self.cross_attention, self.feed_forward
        around = (self.around_self_attention, self.around_cross_attention, self.around_feed_forward)
        return _for_loops(around, (attention, memory), block) if tensors.in_use() else None

    def _rest(
        self, x: Float[Tensor, "B T D"], projected: Past, bias: Float[Tensor, "B 1 1 S"], with_weights: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """What follows self-attention."""
        result, weights = self.cross_attention(
            self.around_cross_attention.enter(x), projected, bias, with_weights=with_weights
        )
        x = self.around_cross_attention.leave(x, result)
        result = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, result), weights


def _for_loops(
    around: Sequence[Residual], attentions: Sequence[SelfAttention | CrossAttention], block: FeedForward
) -> tensors.LayerWeights | None:
    """A layer's weights as compiled loops want them, found once for as long as they are packed.

    None where the loops do not know such a layer.
    """
    products = [part for attention in attentions for part in (attention.first, attention.out)]
    products += block.inner, block.outer
    packed = products[0].packed
    if packed is None:
        return None
    if not packed.whole:
        panels = [None if product.packed is None else product.packed.panels for product in products]
        known = tuple(part for part in panels if part is not None)
        norms = [residual.norm for residual in around]
        numbers = [parameter for norm in norms for parameter in norm.parameters()]
        weights = tensors.LayerWeights(
            tuple(norm.weight for norm in norms),
            tuple(norm.bias if isinstance(norm, LayerNorm) else None for norm in norms),
            known,
            attentions[0].num_heads,
            norms[0].epsilon,
            around[0].pre,
        )
        is_known = len(known) == len(panels) and block.activation == "relu" and tensors.takes(*numbers)
        packed.whole.append(weights if is_known else None)
    return packed.whole[0]
