"""Encoder-decoder Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seq2seq.config.model import TransformerSettings
from seq2seq.models.attention import KeysValues, padding_bias
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.kv_cache import KVCache
from seq2seq.models.layers import Dropout, build_norm, embeddings_and_output
from seq2seq.models.linear import compute_dtype, initialise_linear
from seq2seq.models.positions import Positions, rotation
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer
from seq2seq.special_tokens import PAD


class TransformerModel(Seq2SeqModel):
    """The Transformer under the contract of `Seq2SeqModel`.

    `Memory.keys` holds the decoder layers' cross-attention keys and values, each [B, H, S, E]; the state is a
    `KVCache`.
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
        x = self._layer_input(self.source_positions(self.source_embedding(source), 0))
        bias, rotary = padding_bias(mask), self.rotary(0, source.shape[1], x.device)
        for layer in self.encoder:
            x = self._checkpointed(layer, x, bias, rotary)
        states = self.encoder_norm(x) * mask[:, :, None].to(x.dtype)
        keys = tuple(part for layer in self.decoder_layers() for part in layer.cross_attention.project(states))
        return Memory(states, mask, keys)

    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        x = self._layer_input(self.target_positions(self.target_embedding(target_in), 0))
        bias, rotary = padding_bias(memory.mask), self.rotary(0, target_in.shape[1], x.device)
        weights = []
        for layer, projected in zip(self.decoder, memory_keys_values(memory), strict=True):
            x, layer_weights = self._checkpointed(layer, x, projected, bias, rotary, with_attention)
            weights.append(layer_weights)
        if not with_attention:
            return Decoded(self.decoder_norm(x), None)
        return Decoded(self.decoder_norm(x), torch.stack(weights, dim=1) * memory.mask[:, None, None, None, :])

    def start(self, memory: Memory) -> KVCache:
        return KVCache.empty(memory, memory_keys_values(memory))

    def step(
        self, tokens: Int[Tensor, " R"], memory: Memory, state: KVCache, *, with_attention: bool = False
    ) -> Stepped:
        x = self.dropout(self.embed_step(tokens, len(memory.mask), state.position))
        bias, rotary = padding_bias(memory.mask), self.rotary(state.position, 1, x.device)
        state, weights = state.extend(), None
        cache_bias, last = state.bias[:, None], len(self.decoder) - 1
        for number, (layer, projected) in enumerate(
            zip(self.decoder_layers(), memory_keys_values(memory), strict=True)
        ):
            x, weights = layer.step(
                x,
                state.layers[number],
                state.used,
                cache_bias,
                projected,
                bias,
                rotary,
                with_attention and number == last,
            )
        return Stepped(self.decoder_norm(x).flatten(0, 1), state, mean_weights(weights, memory))

    def select(self, state: KVCache, rows: Int[Tensor, "N W"]) -> KVCache:
        return state.select(rows)

    def decoder_layers(self) -> list[DecoderLayer]:
        """The layers of the decoder."""
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def embed_step(self, tokens: Int[Tensor, " R"], sentences: int, position: int) -> Float[Tensor, "N W D"]:
        """Embeddings of one position of all hypotheses, with the position added."""
        x: Tensor = self.target_positions(self.target_embedding(tokens)[:, None], position)
        return x.view(sentences, len(tokens) // sentences, -1)

    def rotary(self, start: int, length: int, device: torch.device) -> Float[Tensor, "2 T E"] | None:
        """Cosines and sines of the positions from `start` on; None where positions are not rotary."""
        if self.settings.positions != "rotary":
            return None
        width = self.settings.hidden_size
        head_size = width if self.settings.attention == "wide" else width // self.settings.num_heads
        return rotation(start, length, head_size, device)

    def _layer_input(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Input of the first layer, in bf16 where products are.

        Then so is the residual stream: on a CPU whose cores share the memory, every pass over it counts (6 % of a
        training step). torch's RMS norm would need its weights in bf16, too.
        """
        x = self.dropout(x)
        dtype = compute_dtype(x)
        return x.to(dtype) if dtype == torch.bfloat16 and self.settings.norm == "layer_norm" else x

    def _checkpointed(self, layer: nn.Module, *inputs: Any) -> Any:
        """The layer's output; with `recompute` its activations are computed again in the backward pass."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def memory_keys_values(memory: Memory) -> list[KeysValues]:
    """Cross-attention keys and values of every decoder layer."""
    return [KeysValues(*pair) for pair in zip(memory.keys[::2], memory.keys[1::2], strict=True)]


def mean_weights(weights: Float[Tensor, "N H W S"] | None, memory: Memory) -> Float[Tensor, "R S"] | None:
    """Mean of the heads' attention weights, zero at padding."""
    return None if weights is None else (weights.mean(dim=1) * memory.mask[:, None, :]).flatten(0, 1)
