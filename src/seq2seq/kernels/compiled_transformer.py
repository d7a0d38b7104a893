"""A trained Transformer for search on one core of a CPU: packed weights, compiled loops.

For few rows the calls between a layer's parts, 150 from Python, take longer than the parts themselves, so a layer is
one call if the loops know its kind. Other layers are those of `models.transformer_layers` with compiled parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.kernels import LANES
from seq2seq.kernels.compile import Kernels
from seq2seq.kernels.packed_linear import PackedLinear, can_be_packed, replace_children
from seq2seq.kernels.padded_heads import padded_heads
from seq2seq.models.attention import CrossAttention, KeysValues, SelfAttention, padding_bias
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.kv_cache import KVCache
from seq2seq.models.layers import FeedForward
from seq2seq.models.linear import Linear
from seq2seq.models.positions import Positions, rotate
from seq2seq.models.transformer import TransformerModel, mean_weights, memory_keys_values
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer, SublayerConnection
from seq2seq.special_tokens import PAD

MOST_QUERIES = 64
"""Queries of a sentence up to which the loops are faster than matrix products. In the encoder the longest sentence
of a batch decides: the last bits of the others' states may depend on it."""

_ROWS_AT_ONCE = 128
"""Rows of a layer that are computed together: intermediate results should stay in the cache."""


def pack_for_search(model: Seq2SeqModel, dtype: torch.dtype, kernels: Kernels | None) -> Seq2SeqModel:
    """The model for search on a CPU: with packed weights and, given the loops, with compiled Transformers.

    Products are computed in `dtype`, but those of outputs in fp32 for bf16: many scores of a vocabulary would tie in
    it, and log P would be off by hundredths. int8 needs the loops. The model shares its parameters with the original,
    which must not change meanwhile.
    """

    def replacement(name: str, module: nn.Module) -> nn.Module | None:
        if kernels is not None and isinstance(module, TransformerModel) and CompiledTransformer.takes(module):
            return CompiledTransformer(module, kernels, dtype)
        if isinstance(module, Linear) and can_be_packed(module):
            return PackedLinear(module, output_type(dtype) if name == "output" else dtype, kernels)
        return None

    replaced = replacement("", model)
    return replaced if isinstance(replaced, Seq2SeqModel) else replace_children(model, replacement)


def output_type(dtype: torch.dtype) -> torch.dtype:
    """Type of the products for a vocabulary's scores."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


class CompiledTransformer(Seq2SeqModel):
    """A `TransformerModel` for inference on the CPU, with compiled layers.

    Shares the parameters, which must not change meanwhile. `dtype` is that of products, see `pack_for_search`;
    attention and norms are in fp32.
    """

    def __init__(self, model: TransformerModel, kernels: Kernels, dtype: torch.dtype = torch.float32) -> None:
        """See `takes`."""
        super().__init__()
        self.training = model.training  # a change of mode would reach the parts that both share
        self.model = replace_children(model, partial(_compiled_part, kernels, dtype))
        self.output = self.model.output
        is_known = model.settings.activation == "relu" and model.settings.positions != "rotary"
        self.encoder = [_encoder_loop(layer, kernels) if is_known else None for layer in self.model.encoder]
        self.decoder = [_decoder_loop(layer, kernels) if is_known else None for layer in self.model.decoder]

    @staticmethod
    def takes(model: TransformerModel) -> bool:
        """Whether the weights can be packed, and the loops know heads of this width: rotary ones cannot be padded."""
        width, settings = model.settings.hidden_size, model.settings
        head_size = width if settings.attention == "wide" else width // settings.num_heads
        return can_be_packed(model.output) and (settings.positions != "rotary" or head_size % LANES == 0)

    @property
    def max_source_length(self) -> int | None:
        return self.model.max_source_length

    @property
    def max_target_length(self) -> int | None:
        return self.model.max_target_length

    @torch.no_grad()
    def encode(self, source: Int[Tensor, "B S"]) -> Memory:
        model, mask = self.model, source.contiguous() != PAD
        x = model.source_positions(model.source_embedding(source.contiguous()), 0)
        bias, rotary = padding_bias(mask), model.rotary(0, source.shape[1], x.device)
        for loop, layer in zip(self.encoder, model.encoder, strict=True):
            x = layer(x, bias, rotary) if loop is None or source.shape[1] > MOST_QUERIES else loop.encode(x, bias)
        states = model.encoder_norm(x) * mask[:, :, None].to(x.dtype)
        keys = tuple(part for layer in model.decoder_layers() for part in layer.cross_attention.project(states))
        return Memory(states, mask, keys)

    @torch.no_grad()
    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        """Teacher forcing, which search does not need: by torch, over packed weights."""
        return self.model.decode(target_in, memory, with_attention=with_attention)

    def start(self, memory: Memory) -> KVCache:
        return self.model.start(memory)

    @torch.no_grad()
    def step(
        self, tokens: Int[Tensor, " R"], memory: Memory, state: KVCache, *, with_attention: bool = False
    ) -> Stepped:
        model = self.model
        x = model.embed_step(tokens, len(memory.mask), state.position)
        bias, rotary = padding_bias(memory.mask), model.rotary(state.position, 1, x.device)
        state, weights = state.extend(), None
        cache_bias, last = state.bias[:, None], len(self.decoder) - 1
        for number, (loop, layer, projected) in enumerate(
            zip(self.decoder, model.decoder_layers(), memory_keys_values(memory), strict=True)
        ):
            cache, wants_weights = state.layers[number], with_attention and number == last
            if loop is None or wants_weights or x.shape[1] > MOST_QUERIES:
                x, weights = layer.step(x, cache, state.used, cache_bias, projected, bias, rotary, wants_weights)
            else:
                x = loop.step(x, cache, state.used, cache_bias, projected, bias)
        return Stepped(model.decoder_norm(x).flatten(0, 1), state, mean_weights(weights, memory))

    def select(self, state: KVCache, rows: Int[Tensor, "N W"]) -> KVCache:
        return self.model.select(state, rows)


class LayerLoop:
    """A whole layer in one call: the weights as `kernels.layers` takes them."""

    def __init__(
        self, norms: Sequence[CompiledNorm], products: Sequence[PackedLinear], heads: int, pre: bool, kernels: Kernels
    ) -> None:
        """Args:
        norms: Of all sublayers.
        products: Of self-attention, of a decoder's cross-attention, and of the feed-forward block, all in panels.
        heads: Number of heads.
        pre: Whether norms come before their sublayers.
        kernels: The loops.
        """
        tensors: list[Tensor | None] = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
        for product in products:
            assert product.panels is not None
            tensors += product.panels
        self.tensors = tensors  # kept, as the loops know only their addresses
        self.weights = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        self.sizes = (products[0].in_features, products[1].in_features, heads, products[-1].in_features)
        self.epsilon, self.kernels = norms[0].epsilon, kernels
        self.pre, self.int8 = pre, products[0].dtype == torch.int8

    def encode(self, x: Float[Tensor, "B S D"], bias: Float[Tensor, "B 1 1 S"]) -> Float[Tensor, "B S D"]:
        """The layer of an encoder; 0 in `bias` where a position is seen."""
        size, length, _ = x.shape
        at_once = max(1, _ROWS_AT_ONCE // length)
        out, scratch = torch.empty_like(x), self._scratch(min(size, at_once) * length)
        self.kernels.encoder_layer(
            _address(out),
            _address(x),
            _address(scratch),
            self.weights,
            _address(bias),
            self.sizes,
            (size, length, at_once),
            self.epsilon,
            self.pre,
            self.int8,
        )
        return out

    def step(
        self,
        x: Float[Tensor, "N W D"],
        cache: KeysValues,
        used: int,
        cache_bias: Float[Tensor, "B 1 K C"],
        projected: KeysValues,
        bias: Float[Tensor, "N 1 1 S"],
    ) -> Float[Tensor, "N W D"]:
        """One position of the layer of a decoder; see `DecoderLayer.step`."""
        size, each, _ = x.shape
        at_once = max(1, _ROWS_AT_ONCE // each)
        out, scratch = torch.empty_like(x), self._scratch(min(size, at_once) * each)
        self.kernels.decoder_layer(
            _address(out),
            _address(x),
            _address(scratch),
            self.weights,
            (_address(cache.keys), _address(cache.values), _address(cache_bias)),
            (_address(projected.keys), _address(projected.values), _address(bias)),
            self.sizes,
            (len(cache_bias), cache_bias.shape[2], cache_bias.shape[3], used),
            (size, each, projected.keys.shape[2], bias.shape[3], at_once),
            self.epsilon,
            self.pre,
            self.int8,
        )
        return out

    def _scratch(self, rows: int) -> Float[Tensor, " N"]:
        """Buffer for a layer's intermediate results (see `kernels.layers`) and an encoder's keys and values."""
        width, inner, _, units = self.sizes
        return torch.empty(rows * (width + max(3 * inner, units) + inner + 2 * inner))


def _encoder_loop(layer: nn.Module, kernels: Kernels) -> LayerLoop | None:
    assert isinstance(layer, EncoderLayer)
    connections = (layer.around_attention, layer.around_feed_forward)
    return _layer_loop(connections, (layer.attention,), layer.feed_forward, kernels)


def _decoder_loop(layer: nn.Module, kernels: Kernels) -> LayerLoop | None:
    assert isinstance(layer, DecoderLayer)
    connections = (layer.around_self_attention, layer.around_cross_attention, layer.around_feed_forward)
    return _layer_loop(connections, (layer.self_attention, layer.cross_attention), layer.feed_forward, kernels)


def _layer_loop(
    connections: Sequence[SublayerConnection], attentions: Sequence[nn.Module], block: FeedForward, kernels: Kernels
) -> LayerLoop | None:
    """The loop of a layer of compiled parts; None where its products are of several kinds."""
    products: list[nn.Module] = []
    heads = 0
    for attention in attentions:
        assert isinstance(attention, (CompiledSelfAttention, CompiledCrossAttention))
        inner = attention.attention
        products += (inner.query_key_value if isinstance(inner, SelfAttention) else inner.query), inner.out
        heads = inner.num_heads
    packed = [product for product in (*products, block.inner, block.outer) if isinstance(product, PackedLinear)]
    norms = [connection.norm for connection in connections if isinstance(connection.norm, CompiledNorm)]
    if any(product.panels is None for product in packed) or len({product.dtype for product in packed}) > 1:
        return None
    return LayerLoop(norms, packed, heads, connections[0].pre, kernels)


def _compiled_part(kernels: Kernels, dtype: torch.dtype, name: str, module: nn.Module) -> nn.Module | None:
    """The compiled replacement of a part of a Transformer; None if only its children are replaced."""
    match module:
        case Positions() if module.kind != "rotary":
            return RememberedPositions(module)
        case nn.LayerNorm() | nn.RMSNorm():
            return CompiledNorm(module, kernels)
        case SelfAttention():
            own = replace_children(padded_heads(module), partial(_compiled_part, kernels, dtype))
            return CompiledSelfAttention(own, kernels)
        case CrossAttention():
            cross = replace_children(padded_heads(module), partial(_compiled_part, kernels, dtype))
            return CompiledCrossAttention(cross, kernels)
        case Linear() if name == "output":
            return PackedLinear(module, output_type(dtype), kernels)
        case Linear() if name in ("query", "key_value", "query_key_value"):
            return PackedLinear(module, dtype, kernels, output_dtype=torch.float32)
        case Linear():
            return PackedLinear(module, dtype, kernels)
    return None


class RememberedPositions(nn.Module):
    """Positions that are computed once for each step of a search."""

    def __init__(self, positions: Positions) -> None:
        super().__init__()
        self.positions, self.limit = positions, positions.limit
        self.rows: dict[int, Float[Tensor, "1 1 D"]] = {}

    def forward(self, x: Float[Tensor, "B T D"], start: int) -> Float[Tensor, "B T D"]:
        """See `Positions.forward`."""
        if x.shape[1] != 1:
            return self.positions(x, start)  # type: ignore[no-any-return]
        if start not in self.rows:
            self.rows[start] = self.positions(x.new_zeros(1, 1, x.shape[2]), start)
        return x + self.rows[start]


class CompiledNorm(nn.Module):
    """Layer normalisation or root mean square normalisation by a loop, in fp32."""

    def __init__(self, norm: nn.LayerNorm | nn.RMSNorm, kernels: Kernels) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias if isinstance(norm, nn.LayerNorm) else None
        self.epsilon, self.kernels = norm.eps, kernels

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        x, width = x.float().contiguous(), len(self.weight)
        out, shift = torch.empty_like(x), 0 if self.bias is None else _address(self.bias)
        self.kernels.norm(
            _address(out), _address(x), _address(self.weight), shift, self.epsilon, x.numel() // width, width
        )
        return out


class CompiledSelfAttention(nn.Module):
    """Self-attention by a loop, except that of long sources and of teacher forcing."""

    def __init__(self, attention: SelfAttention, kernels: Kernels) -> None:
        super().__init__()
        self.attention, self.kernels = attention, kernels

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        *,
        bias: Float[Tensor, "B 1 1 T"] | None = None,
        causal: bool = False,
        rotary: Float[Tensor, "2 T E"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        if causal or bias is None or x.shape[1] > MOST_QUERIES:
            return self.attention(x, bias=bias, causal=causal, rotary=rotary)  # type: ignore[no-any-return]
        shape = (2, len(x), self.attention.num_heads, x.shape[1], self.attention.head_size)
        return self.step(x, KeysValues(*torch.empty(shape)), x.shape[1], bias=bias, rotary=rotary)

    def step(
        self,
        x: Float[Tensor, "B W D"],
        cache: KeysValues,
        used: int,
        *,
        bias: Float[Tensor, "B 1 _ C"],
        rotary: Float[Tensor, "2 _ E"] | None,
    ) -> Float[Tensor, "B W D"]:
        """See `SelfAttention.step`."""
        attention = self.attention
        projected = attention.query_key_value(x).view(*x.shape[:2], 3, attention.num_heads, attention.head_size)
        if rotary is not None:
            rotated = rotate(projected[:, :, :2].transpose(1, 3), rotary).transpose(1, 3)
            projected = torch.cat((rotated, projected[:, :, 2:]), dim=2)
        return attention.out(attention_loop(self.kernels, projected, cache, used, bias))  # type: ignore[no-any-return]


class CompiledCrossAttention(nn.Module):
    """Cross-attention by a loop, except where its weights are asked for."""

    def __init__(self, attention: CrossAttention, kernels: Kernels) -> None:
        super().__init__()
        self.attention, self.kernels = attention, kernels

    def project(self, states: Float[Tensor, "B S D"]) -> KeysValues:
        """See `CrossAttention.project`."""
        return self.attention.project(states)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        projected: KeysValues,
        bias: Float[Tensor, "B 1 1 S"],
        *,
        with_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        attention = self.attention
        if with_weights or x.shape[1] > MOST_QUERIES:
            return attention(x, projected, bias, with_weights=with_weights)  # type: ignore[no-any-return]
        query = attention.query(x).view(*x.shape[:2], 1, attention.num_heads, attention.head_size)
        return attention.out(attention_loop(self.kernels, query, projected, bias.shape[3], bias)), None


def attention_loop(
    kernels: Kernels,
    projected: Float[Tensor, "B K P H E"],
    cache: KeysValues,
    used: int,
    bias: Float[Tensor, "B 1 W S"],
) -> Float[Tensor, "B K D"]:
    """The concatenated contexts of all heads, D = H * E: softmax(query keys^T / sqrt(E)) values.

    A query sees those of the first `used` places where `bias` is 0; W is K, or 1 if all queries see the same. With
    P = 3, `projected` holds keys and values behind the queries, which first go into the last K of these places.
    """
    size, fan, parts, heads, width = projected.shape
    context = torch.empty(size, fan, heads, width)
    kernels.attention(
        _address(context),
        _address(projected),
        _address(cache.keys),
        _address(cache.values),
        _address(bias),
        used,
        (size, fan, parts, heads, width),
        cache.keys.shape[2],
        (bias.shape[2], bias.shape[3]),
    )
    return context.flatten(2)


def _address(tensor: Tensor) -> int:
    """Address of a tensor's numbers; raises `TypeError` for a tensor that a loop would misread."""
    if not (tensor.is_contiguous() and tensor.dtype is torch.float32):
        raise TypeError(f"the loops take contiguous tensors in fp32, not {tensor.dtype} with strides {tensor.stride()}")
    return tensor.data_ptr()
