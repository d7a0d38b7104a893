"""Attention by scaled dot products, and the heads of the Transformer."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seq2seq.kernels import tensors
from seq2seq.models.layers import Dropout, angles
from seq2seq.models.linear import Linear

EXPLICIT_LIMIT = 2**25
"""Most attention weights (all heads and rows) that the explicit product may hold while training on a CPU."""

HIDDEN = -1e4
"""Added to the scores of keys that are not to be seen: exp(HIDDEN) is 0 in fp32, and fp16 can hold it."""


def padding_bias(mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B 1 1 S"]:
    """What is added to attention scores, in fp32: 0 at real tokens, `HIDDEN` at padding.

    Finite, so that a row without any real token gets even weights instead of NaN.
    """
    return (~mask).float().mul_(HIDDEN)[:, None, None, :]


NARROWEST = 16
"""Keys to which rows of weights are filled up on a CPU: torch's softmax over fewer is not vectorised (190 ns against 15
for a row), nor are products as small as those."""

LONGEST_EXPLICIT = 128
"""Keys from which torch's fused attention is faster on a CPU, without gradients."""


def prefers_explicit(query: Float[Tensor, "B H T E"], keys: Float[Tensor, "B H S E"]) -> bool:
    """Whether matmul + softmax is faster here than torch's fused attention.

    On CPU the fused kernel's backward is slow for short sentences, most of all in bf16 (12 ms against 2 ms at
    batch 64, 4 heads, 20 tokens), and its forward is slow for them as well, and for few queries; it wins in long
    sequences without gradients.
    """
    if query.device.type != "cpu":
        return False
    if torch.is_grad_enabled():
        return query[..., 0].numel() * keys.shape[2] <= EXPLICIT_LIMIT
    return query.shape[2] <= NARROWEST or keys.shape[2] <= LONGEST_EXPLICIT


def attend(
    query: Float[Tensor, "B H T E"],
    keys: Float[Tensor, "B H S E"],
    values: Float[Tensor, "B H S E"],
    *,
    bias: Float[Tensor, "B 1 #T S"] | None = None,
    causal: bool = False,
    dropout: Dropout | None = None,
    with_weights: bool = False,
) -> tuple[Float[Tensor, "B H T E"], Float[Tensor, "B H T S"] | None]:
    """softmax(query keys^T / sqrt(E) + bias) values (Vaswani et al. 2017, equation 1); the weights on demand.

    `causal` hides later keys and needs T == S. The weights are those before dropout.
    """
    query = query.to(keys.dtype)  # fp32 for compiled loops, which may be in use elsewhere
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
    # The softmax is in fp32: torch's bf16 one is ten times slower on CPU in rows shorter than 32, and CUDA
    # does the same.
    scores = torch.matmul(query, keys.transpose(-1, -2)).float().mul_(query.shape[-1] ** -0.5)
    if bias is not None:
        scores = scores.add_(bias)
    if causal:
        length = query.shape[2]
        future = torch.full((length, length), HIDDEN, device=query.device).triu_(1)
        scores = scores.add_(future)
    weights = _softmax(scores)
    dropped = weights.to(values.dtype)
    if dropout is not None:
        dropped = dropout(dropped)
    return torch.matmul(dropped, values), weights if with_weights else None


def _softmax(scores: Float[Tensor, "B H T S"]) -> Float[Tensor, "B H T S"]:
    missing = NARROWEST - scores.shape[3]
    if missing <= 0 or scores.device.type != "cpu":
        return scores.softmax(dim=-1)
    return F.pad(scores, (0, missing), value=-torch.inf).softmax(dim=-1)[..., :-missing]


def rotation(start: int, length: int, width: int, device: torch.device) -> Float[Tensor, "2 T E"]:
    """Cosines and sines that turn a head by its position (Su et al. 2021, equation 34); E = width / 2."""
    angle = angles(start, length, width, device)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "*N T E2"], turn: Float[Tensor, "2 _ E"]) -> Float[Tensor, "*N T E2"]:
    """Turn the pairs (i, i + E2 / 2): products of rotated vectors depend on the positions' distance alone."""
    cosine, sine = turn.to(x.dtype).unbind()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class Past(NamedTuple):
    """Keys and values of one attention layer."""

    keys: Float[Tensor, "B H S E"]
    values: Float[Tensor, "B H S E"]


class HeadedAttention(nn.Module):
    """What self- and cross-attention share: the heads, the output projection, dropout on the weights."""

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = width if wide else width // num_heads
        self.inner = num_heads * self.head_size
        self.out = Linear(self.inner, width)
        self.dropout = Dropout(dropout)

    def in_heads(self, x: Float[Tensor, "B T P"], parts: int) -> Float[Tensor, "B T parts H E"]:
        """The fused projection [B, T, parts * H * E] with its parts and heads on axes of their own."""
        return x.view(x.shape[0], x.shape[1], parts, self.num_heads, self.head_size)

    def split(self, projected: Float[Tensor, "B T parts H E"]) -> tuple[Tensor, ...]:
        """Each part as [B, H, T, E]."""
        return projected.permute(2, 0, 3, 1, 4).unbind(0)

    def compiled(
        self, projected: Float[Tensor, "B T parts H E"], past: Past, filled: int, bias: Float[Tensor, "B 1 W S"]
    ) -> Float[Tensor, "B T D"] | None:
        """What `attend` and `join` would give, where compiled loops are in use; see `kernels.tensors.attend`."""
        context = tensors.attend(projected.float(), *past, filled, bias.squeeze(1)) if tensors.in_use() else None
        return None if context is None else self.out(context)

    def join(self, x: Float[Tensor, "B H T E"]) -> Float[Tensor, "B T D"]:
        """The heads side by side, projected."""
        joined: Tensor = self.out(x.transpose(1, 2).flatten(2))
        return joined


class SelfAttention(HeadedAttention):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2.2); one product for all projections."""

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__(width, num_heads, wide=wide, dropout=dropout)
        self.query_key_value = Linear(width, 3 * self.inner)

    @property
    def first(self) -> Linear:
        """What an input meets first."""
        return self.query_key_value

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        *,
        bias: Float[Tensor, "B 1 1 T"] | None = None,
        causal: bool = False,
        turn: Float[Tensor, "2 T E"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Every position attends to all, or to those before it and itself."""
        projected = self.in_heads(self.query_key_value(x), 3)
        if tensors.in_use() and bias is not None and not causal:
            projected, turn = self._turned(projected, turn), None
            room = Past(*x.new_empty(2, len(x), self.num_heads, x.shape[1], self.head_size, dtype=torch.float32))
            found = self.compiled(projected, room, x.shape[1], bias)
            if found is not None:
                return found
        query, keys, values = self.split(projected)
        if turn is not None:
            query, keys = rotate(query, turn), rotate(keys, turn)
        context, _ = attend(query, keys, values, bias=bias, causal=causal, dropout=self.dropout)
        return self.join(context)

    def step(
        self,
        x: Float[Tensor, "B W D"],
        past: Past,
        used: int,
        *,
        bias: Float[Tensor, "B 1 W C"],
        turn: Float[Tensor, "2 1 E"] | None,
    ) -> Float[Tensor, "B W D"]:
        """W rows at one position attend to the whole of `past` as `bias` lets them.

        Their keys and values are written into the last W of the first `used` places.
        """
        projected = self._turned(self.in_heads(self.query_key_value(x), 3), turn)
        found = self.compiled(projected, past, used, bias)
        if found is not None:
            return found
        query, keys, values = self.split(projected)
        begin = used - x.shape[1]
        past.keys[:, :, begin:used], past.values[:, :, begin:used] = keys, values
        context, _ = attend(query, *past, bias=bias)
        return self.join(context)

    @staticmethod
    def _turned(
        projected: Float[Tensor, "B T 3 H E"], turn: Float[Tensor, "2 _ E2"] | None
    ) -> Float[Tensor, "B T 3 H E"]:
        """With queries and keys turned by their positions."""
        if turn is None:
            return projected
        both = rotate(projected[:, :, :2].transpose(1, 3), turn).transpose(1, 3)
        return torch.cat((both, projected[:, :, 2:]), dim=2)


class CrossAttention(HeadedAttention):
    """Multi-head attention over a memory whose keys and values are projected once."""

    def __init__(self, width: int, num_heads: int, *, wide: bool, dropout: float) -> None:
        super().__init__(width, num_heads, wide=wide, dropout=dropout)
        self.query = Linear(width, self.inner)
        self.key_value = Linear(width, 2 * self.inner)

    @property
    def first(self) -> Linear:
        """What an input meets first."""
        return self.query

    def project(self, states: Float[Tensor, "B S D"]) -> Past:
        """Keys and values of the memory; without gradients on a CPU at least `NARROWEST`, the last ones empty."""
        projected = self.in_heads(self.key_value(states), 2)
        if tensors.in_use():
            projected = projected.float()  # the loops know fp32 alone, also where products are in bf16
        past = Past(*self.split(projected))
        if torch.is_grad_enabled() or states.device.type != "cpu":
            return past
        missing = max(0, NARROWEST - states.shape[1])
        # Side by side in memory: every step of decoding would have to copy them otherwise.
        return Past(*(F.pad(part, (0, 0, 0, missing)).contiguous() for part in past))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        projected: Past,
        bias: Float[Tensor, "B 1 1 S"],
        *,
        with_weights: bool = False,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """The memory as `x` sees it, and the weights of every head if asked for."""
        query = self.in_heads(self.query(x), 1)
        found = None if with_weights else self.compiled(query, projected, bias.shape[3], bias)
        if found is not None:
            return found, None
        (query,) = self.split(query)
        size, missing = bias.shape[3], projected.keys.shape[2] - bias.shape[3]
        if missing:
            bias = F.pad(bias, (0, missing), value=HIDDEN)
        context, weights = attend(query, *projected, bias=bias, dropout=self.dropout, with_weights=with_weights)
        return self.join(context), None if weights is None else weights[..., :size]
