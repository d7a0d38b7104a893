"""Attention: scaled dot-product and multi-head (Vaswani et al. 2017), additive (Bahdanau et al. 2015), and the kinds of
Luong et al. 2015."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seq2seq.models.layers import Dropout
from seq2seq.models.linear import Linear
from seq2seq.models.positions import rotate

MASK_VALUE = -1e4
"""Added to the scores of masked keys: exp(MASK_VALUE) is 0 in fp32, and fp16 can hold it."""

EXPLICIT_LIMIT = 2**25
"""Maximum number of attention weights (over all heads and rows) of the explicit product in training on a CPU."""

LONGEST_EXPLICIT = 128
"""Number of keys up to which the explicit product is faster on a CPU without gradients."""

FEWEST_KEYS = 16
"""Number of keys up to which rows of weights are padded on a CPU: torch does not vectorise the softmax of shorter rows
(190 ns a row against 15), nor such small products."""


def padding_bias(mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B 1 1 S"]:
    """Bias of the attention scores in fp32: 0 at real tokens, `MASK_VALUE` at padding.

    Finite, so that a row without any real token gets even weights instead of NaN.
    """
    return (~mask).float().mul_(MASK_VALUE)[:, None, None, :]


def scaled_dot_product_attention(
    query: Float[Tensor, "B H T E"],
    keys: Float[Tensor, "B H S E"],
    values: Float[Tensor, "B H S E"],
    *,
    bias: Float[Tensor, "B 1 #T S"] | None = None,
    causal: bool = False,
    dropout: Dropout | None = None,
    with_weights: bool = False,
) -> tuple[Float[Tensor, "B H T E"], Float[Tensor, "B H T S"] | None]:
    """softmax(query keys^T / sqrt(E) + bias) values (Vaswani et al. 2017, equation 1), and the weights on demand.

    `causal` masks later keys and needs T == S. The weights are those before dropout.
    """
    if not with_weights and not prefers_explicit(query, keys):
        probability = dropout.probability if dropout is not None and dropout.training else 0.0
        fused = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=None if bias is None else bias.to(query.dtype),
            dropout_p=probability,
            is_causal=causal,
        )
        return fused, None
    # The softmax is in fp32: torch's bf16 softmax is ten times slower on CPU in rows shorter than 32, and CUDA does
    # the same.
    scores = torch.matmul(query, keys.transpose(-1, -2)).float().mul_(query.shape[-1] ** -0.5)
    if bias is not None:
        scores = scores.add_(bias)
    if causal:
        length = query.shape[2]
        future = torch.full((length, length), MASK_VALUE, device=query.device).triu_(1)
        scores = scores.add_(future)
    weights = _softmax(scores)
    dropped = weights.to(values.dtype)
    if dropout is not None:
        dropped = dropout(dropped)
    return torch.matmul(dropped, values), weights if with_weights else None


def prefers_explicit(query: Float[Tensor, "B H T E"], keys: Float[Tensor, "B H S E"]) -> bool:
    """Whether matmul and softmax are faster here than torch's fused attention.

    On a CPU the backward pass of the fused kernel is slow for short sentences, most of all in bf16 (12 ms against 2 ms
    at batch 64, 4 heads, 20 tokens). Its forward pass is slow for short sentences and few queries, too; it wins in long
    sequences without gradients.
    """
    if query.device.type != "cpu":
        return False
    if torch.is_grad_enabled():
        return query[..., 0].numel() * keys.shape[2] <= EXPLICIT_LIMIT
    return query.shape[2] <= FEWEST_KEYS or keys.shape[2] <= LONGEST_EXPLICIT


def _softmax(scores: Float[Tensor, "B H T S"]) -> Float[Tensor, "B H T S"]:
    missing = FEWEST_KEYS - scores.shape[3]
    if missing <= 0 or scores.device.type != "cpu":
        return scores.softmax(dim=-1)
    return F.pad(scores, (0, missing), value=-torch.inf).softmax(dim=-1)[..., :-missing]


class KeysValues(NamedTuple):
    """Keys and values of one attention layer."""

    keys: Float[Tensor, "B H S E"]
    values: Float[Tensor, "B H S E"]


class MultiHeadAttention(nn.Module):
    """Base of self- and cross-attention: the heads, the output projection, dropout on the weights.

    Heads split the width, or have the full width each if `wide`.
    """

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = width if wide else width // num_heads
        self.inner = num_heads * self.head_size
        self.out = Linear(self.inner, width)
        self.dropout = Dropout(dropout)

    def split_heads(self, projected: Float[Tensor, "B T P"], parts: int) -> tuple[Float[Tensor, "B H T E"], ...]:
        """The parts of a fused projection to P = parts * H * E."""
        heads = projected.view(projected.shape[0], projected.shape[1], parts, self.num_heads, self.head_size)
        return heads.permute(2, 0, 3, 1, 4).unbind(0)

    def join_heads(self, context: Float[Tensor, "B H T E"]) -> Float[Tensor, "B T D"]:
        """The concatenated heads, projected."""
        joined: Tensor = self.out(context.transpose(1, 2).flatten(2))
        return joined


class SelfAttention(MultiHeadAttention):
    """Multi-head self-attention, with one product for all projections."""

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__(width, num_heads, wide=wide, dropout=dropout)
        self.query_key_value = Linear(width, 3 * self.inner)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        *,
        bias: Float[Tensor, "B 1 1 T"] | None = None,
        causal: bool = False,
        rotary: Float[Tensor, "2 T E"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from every position to all positions, or if `causal` to itself and those before it."""
        query, keys, values = self._project(x, rotary)
        context, _ = scaled_dot_product_attention(query, keys, values, bias=bias, causal=causal, dropout=self.dropout)
        return self.join_heads(context)

    def step(
        self,
        x: Float[Tensor, "B W D"],
        cache: KeysValues,
        used: int,
        *,
        bias: Float[Tensor, "B 1 W C"],
        rotary: Float[Tensor, "2 1 E"] | None,
    ) -> Float[Tensor, "B W D"]:
        """Attend from W rows at one position to the cached places that `bias` does not mask.

        Their keys and values are written into the last W of the first `used` places.
        """
        query, keys, values = self._project(x, rotary)
        begin = used - x.shape[1]
        cache.keys[:, :, begin:used], cache.values[:, :, begin:used] = keys, values
        context, _ = scaled_dot_product_attention(query, *cache, bias=bias)
        return self.join_heads(context)

    def _project(
        self, x: Float[Tensor, "B T D"], rotary: Float[Tensor, "2 _ E2"] | None
    ) -> tuple[Float[Tensor, "B H T E"], ...]:
        query, keys, values = self.split_heads(self.query_key_value(x), 3)
        if rotary is not None:
            query, keys = rotate(query, rotary), rotate(keys, rotary)
        return query, keys, values


class CrossAttention(MultiHeadAttention):
    """Multi-head attention over the encoder's states, whose keys and values are projected once."""

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__(width, num_heads, wide=wide, dropout=dropout)
        self.query = Linear(width, self.inner)
        self.key_value = Linear(width, 2 * self.inner)

    def project(self, states: Float[Tensor, "B S D"]) -> KeysValues:
        """Keys and values of the encoder's states, without gradients on a CPU padded to at least `FEWEST_KEYS`."""
        projected = KeysValues(*self.split_heads(self.key_value(states), 2))
        if torch.is_grad_enabled() or states.device.type != "cpu":
            return projected
        missing = max(0, FEWEST_KEYS - states.shape[1])
        # Contiguous, as every step of decoding would have to copy them otherwise.
        return KeysValues(*(F.pad(part, (0, 0, 0, missing)).contiguous() for part in projected))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        projected: KeysValues,
        bias: Float[Tensor, "B 1 1 S"],
        *,
        with_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """The attention's output, and on demand the weights of every head."""
        (query,) = self.split_heads(self.query(x), 1)
        size, missing = bias.shape[3], projected.keys.shape[2] - bias.shape[3]
        if missing:
            bias = F.pad(bias, (0, missing), value=MASK_VALUE)
        context, weights = scaled_dot_product_attention(
            query, *projected, bias=bias, dropout=self.dropout, with_weights=with_weights
        )
        return self.join_heads(context), None if weights is None else weights[..., :size]


class RecurrentAttention(nn.Module):
    """Attention of a recurrent decoder over the encoder's states, for query q and memory m_1 ... m_S.

    * `additive`: v . tanh(W q + U m + b) (Bahdanau et al. 2015, appendix A.1.2)
    * `dot`: q . m, and `general`: q . W m (Luong et al. 2015, equation 8)
    * `scaled_dot`: q . m / sqrt(D) (Vaswani et al. 2017, equation 1)
    * `multi_head`: `CrossAttention` with narrow heads
    """

    def __init__(
        self,
        kind: Literal["additive", "dot", "general", "scaled_dot", "multi_head"],
        width: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.scale = {"additive": 2.0, "scaled_dot": width**-0.5}.get(kind, 1.0)
        match kind:
            case "additive":
                self.query = Linear(width, width, bias=False)
                self.key = Linear(width, width)
                self.energy = Linear(width, 1, bias=False)
            case "general":
                self.key = Linear(width, width, bias=False)
            case "multi_head":
                self.heads = CrossAttention(width, num_heads, wide=False, dropout=0.0)
            case "dot" | "scaled_dot":
                pass

    def project(self, states: Float[Tensor, "B S D"], dtype: torch.dtype) -> KeysValues:
        """Keys and values of the encoder's states, in the type that products are computed in."""
        if self.kind == "multi_head":
            return self.heads.project(states)
        values = states.to(dtype)
        match self.kind:
            case "additive":
                keys = 2.0 * self.key(values)
            case "general":
                keys = self.key(values)
            case _:
                keys = values
        return KeysValues(keys[:, None], values[:, None])

    def forward(
        self, query: Float[Tensor, "B T D"], projected: KeysValues, bias: Float[Tensor, "B 1 1 S"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"]]:
        """The context of every query, and its weights over the memory (one head, except in `multi_head`)."""
        if self.kind == "multi_head":
            context, weights = self.heads(query, projected, bias, with_weights=True)
            return context, weights
        # Not [:, 0], whose gradient is a copy of the whole memory at every position.
        keys, values = projected.keys.squeeze(1), projected.values.squeeze(1)
        query = query.to(keys.dtype)
        if self.kind == "additive":
            scores = self.additive_scores(query, keys)
        else:
            scores = torch.matmul(query, keys.transpose(1, 2))
        weights = scores.float().mul_(self.scale).add_(bias.squeeze(1)).softmax(dim=-1)
        return torch.matmul(weights.to(values.dtype), values), weights[:, None]

    def additive_scores(self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S D"]) -> Float[Tensor, "B T S"]:
        """v . tanh(W q + U m + b) + sum(v), one query position at a time, as [B, T, S, D] would not fit into a cache.

        Computed as 2 v . sigmoid(2 (W q + U m + b)): the constant does not change the softmax, and torch's sigmoid is
        three (bf16) to ten times (fp32) as fast as its tanh on CPU. `project` has doubled the keys.
        """
        queries = 2.0 * self.query(query)
        energies = [self.energy(torch.sigmoid(keys + one)) for one in queries.split(1, dim=1)]
        return torch.cat(energies, dim=2).transpose(1, 2)
