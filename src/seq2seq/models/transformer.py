"""Encoder-decoder Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seq2seq.config.model import TransformerSettings
from seq2seq.models.attention import CrossAttention, Past, padding_bias, rotation
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.kv_cache import TransformerState
from seq2seq.models.layers import Dropout, Positions, build_norm, embeddings_and_output
from seq2seq.models.linear import compute_dtype, initialise_linear
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer
from seq2seq.special_tokens import PAD


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
