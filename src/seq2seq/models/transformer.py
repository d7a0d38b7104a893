"""Encoder-decoder Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seq2seq.config.model import TransformerSettings
from seq2seq.models.attention import CrossAttention, Past, SelfAttention, padding_bias, rotation
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.layers import (
    Dropout,
    FeedForward,
    Positions,
    build_norm,
    embeddings_and_output,
    initialise_linear,
)
from seq2seq.tokens import PAD


class TransformerState(NamedTuple):
    """Self-attention keys and values of every decoder layer; their length is the next position."""

    layers: tuple[Past, ...]


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
        result, _ = self.attention(self.around_attention.enter(x), bias=bias, turn=turn)
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
        past: Past | None,
        projected: Past,
        bias: Float[Tensor, "B 1 1 S"],
        turn: Float[Tensor, "2 T E"] | None,
        with_weights: bool,
    ) -> tuple[Float[Tensor, "B T D"], Past, Float[Tensor, "B T S"] | None]:
        """All positions at once where `past` is None; else the one (T = 1) after `past`, which it joins."""
        result, past = self.self_attention(
            self.around_self_attention.enter(x), past=past, causal=past is None, turn=turn
        )
        x = self.around_self_attention.leave(x, result)
        result, weights = self.cross_attention(
            self.around_cross_attention.enter(x), projected, bias, with_weights=with_weights
        )
        x = self.around_cross_attention.leave(x, result)
        result = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, result), past, weights


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
        x = self.dropout(self.source_positions(self.source_embedding(source), 0))
        bias = padding_bias(mask)
        turn = self._turn(x, 0)
        for layer in self.encoder:
            x = self._through(layer, x, bias, turn)
        states = self.encoder_norm(x) * mask[:, :, None].to(x.dtype)
        keys = tuple(part for layer in self.decoder for part in _cross(layer).project(states))
        return Memory(states, mask, keys)

    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        hidden, _, attention = self._decode(target_in, memory, None, with_attention)
        return Decoded(hidden, attention)

    def start(self, memory: Memory) -> TransformerState:
        # The first nothing of the memory's keys: the right batch, heads, width, type and device.
        nothing = [Past(keys[:, :, :0], values[:, :, :0]) for keys, values in _pairs(memory)]
        return TransformerState(tuple(nothing))

    def step(
        self,
        tokens: Int[Tensor, " B"],
        memory: Memory,
        state: TransformerState,
        *,
        with_attention: bool = False,
    ) -> Stepped:
        hidden, state, attention = self._decode(tokens[:, None], memory, state, with_attention)
        return Stepped(hidden[:, 0], state, None if attention is None else attention[:, 0])

    def _decode(
        self, tokens: Int[Tensor, "B T"], memory: Memory, state: TransformerState | None, with_attention: bool
    ) -> tuple[Float[Tensor, "B T D"], TransformerState, Float[Tensor, "B T S"] | None]:
        start = 0 if state is None else state.layers[0].keys.shape[2]
        x = self.dropout(self.target_positions(self.target_embedding(tokens), start))
        turn = self._turn(x, start)
        bias = padding_bias(memory.mask)
        last = len(self.decoder) - 1
        pasts, weights = [], None
        for number, (layer, projected) in enumerate(zip(self.decoder, _pairs(memory), strict=True)):
            past = None if state is None else state.layers[number]
            wants_weights = with_attention and number == last
            x, past, weights = self._through(layer, x, past, projected, bias, turn, wants_weights)
            pasts.append(past)
        if weights is not None:
            weights = weights * memory.mask[:, None, :].to(weights.dtype)
        return self.decoder_norm(x), TransformerState(tuple(pasts)), weights

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
