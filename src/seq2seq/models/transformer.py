"""Encoder-decoder Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seq2seq.config.model import TransformerSettings
from seq2seq.models.attention import CrossAttention, Past, SelfAttention, padding_bias, rotation
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.layers import Dropout, FeedForward, Positions, build_norm, embeddings_and_output
from seq2seq.models.linear import compute_dtype, initialise_linear
from seq2seq.models.past import TransformerState
from seq2seq.tokens import PAD


class Residual(nn.Module):
    """The norm and dropout around one block: x + block(norm(x)), or norm(x + block(x)) for `post`."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norm = build_norm(settings.norm, settings.hidden_size)
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
        result = self.attention(self.around_attention.enter(x), bias=bias, turn=turn)
        x = self.around_attention.leave(x, result)
        result = self.feed_forward(self.around_feed_forward.enter(x))
        left: Tensor = self.around_feed_forward.leave(x, result)
        return left


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
        entering = self.around_self_attention.enter(x).view(own.shape[0], own.shape[2], -1)
        result = self.self_attention.step(entering, past, used, bias=own, turn=turn)
        return self._rest(self.around_self_attention.leave(x, result.view(x.shape)), projected, bias, with_weights)

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


class TransformerModel(Seq2SeqModel):
    """The Transformer under the contract of `Seq2SeqModel`.

    `Memory.keys` holds the decoder layers' cross-attention keys and values, each [B, H, S, E]; the state is a
    `TransformerState`.
    """

    def __init__(self, settings: TransformerSettings, source_size: int, target_size: int) -> None:
        super().__init__()
        width = settings.hidden_size
        self.settings = settings
        self.encoder = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.decoder_layers))
        self.apply(initialise_linear)
        self.source_embedding, self.target_embedding, self.output = embeddings_and_output(
            settings.tied_embeddings, source_size, target_size, width, width, settings.word_dropout
        )
        self.source_positions = Positions(settings.positions, width, settings.max_positions)
        self.target_positions = Positions(settings.positions, width, settings.max_positions)
        self.dropout = Dropout(settings.dropout)
        pre = settings.norm_position == "pre"
        self.encoder_norm = build_norm(settings.norm, width) if pre else nn.Identity()
        self.decoder_norm = build_norm(settings.norm, width) if pre else nn.Identity()

    @property
    def max_source_length(self) -> int | None:
        return self.source_positions.limit

    @property
    def max_target_length(self) -> int | None:
        return self.target_positions.limit

    def encode(self, source: Int[Tensor, "B S"]) -> Memory:
        mask = source != PAD
        x = self._entering(self.source_positions(self.source_embedding(source), 0))
        bias = padding_bias(mask)
        turn = self._turn(x, 0)
        for layer in self.encoder:
            x = self._through(layer, x, bias, turn)
        states = self.encoder_norm(x) * mask[:, :, None].to(x.dtype)
        keys = tuple(part for layer in self.decoder for part in _cross(layer).project(states))
        return Memory(states, mask, keys)

    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        x = self._entering(self.target_positions(self.target_embedding(target_in), 0))
        bias, turn = padding_bias(memory.mask), self._turn(x, 0)
        found = []
        for layer, projected in zip(self.decoder, _pairs(memory), strict=True):
            x, weights = self._through(layer, x, projected, bias, turn, with_attention)
            found.append(weights)
        if not with_attention:
            return Decoded(self.decoder_norm(x), None)
        return Decoded(self.decoder_norm(x), torch.stack(found, dim=1) * memory.mask[:, None, None, None, :])

    def start(self, memory: Memory) -> TransformerState:
        return TransformerState.empty(memory, _pairs(memory))

    def step(
        self,
        tokens: Int[Tensor, " R"],
        memory: Memory,
        state: TransformerState,
        *,
        with_attention: bool = False,
    ) -> Stepped:
        sentences, start = len(memory.mask), state.position
        x = self.target_embedding(tokens.view(sentences, len(tokens) // sentences))
        x = self.dropout(self.target_positions(x.flatten(0, 1)[:, None], start).view(x.shape))
        bias, turn = padding_bias(memory.mask), self._turn(x[:, :1], start)
        state, weights = state.grown(), None
        own, last = state.bias[:, None], len(self.decoder) - 1
        for number, (layer, projected) in enumerate(zip(self.decoder, _pairs(memory), strict=True)):
            wants_weights = with_attention and number == last
            assert isinstance(layer, DecoderLayer)
            x, weights = layer.step(x, state.layers[number], state.used, own, projected, bias, turn, wants_weights)
        if weights is not None:
            weights = (weights.mean(dim=1) * memory.mask[:, None, :]).flatten(0, 1)
        return Stepped(self.decoder_norm(x).flatten(0, 1), state, weights)

    def select(self, state: TransformerState, rows: Int[Tensor, "N W"]) -> TransformerState:
        return state.select(rows)

    def _entering(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """What the first layer gets.

        Where products are in bf16, so is the sum that runs through the layers: on a CPU whose cores share the memory,
        every pass over it counts (6 % of a training step). torch's RMS norm would want its weights in bf16, too.
        """
        x = self.dropout(x)
        dtype = compute_dtype(x)
        return x.to(dtype) if dtype == torch.bfloat16 and self.settings.norm == "layer_norm" else x

    def _through(self, layer: nn.Module, *inputs: Any) -> Any:
        """The layer's result; going backward it is computed again, with the same dropout, where memory matters."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def _turn(self, x: Float[Tensor, "B T D"], start: int) -> Float[Tensor, "2 T E"] | None:
        if self.settings.positions != "rotary":
            return None
        wide = self.settings.attention == "wide"
        head_size = x.shape[2] if wide else x.shape[2] // self.settings.num_heads
        return rotation(start, x.shape[1], head_size, x.device)


def _pairs(memory: Memory) -> list[Past]:
    return [Past(*pair) for pair in zip(memory.keys[::2], memory.keys[1::2], strict=True)]


def _cross(layer: nn.Module) -> CrossAttention:
    assert isinstance(layer, DecoderLayer)
    return layer.cross_attention
