"""The attentions of recurrent decoders."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.models.attention import CrossAttention, Past
from seq2seq.models.linear import Linear


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

    def project(self, states: Float[Tensor, "B S D"], dtype: torch.dtype) -> Past:
        """What does not depend on the query, in the type that products are computed in."""
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
        return Past(keys[:, None], values[:, None])

    def forward(
        self, query: Float[Tensor, "B T D"], projected: Past, bias: Float[Tensor, "B 1 1 S"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"]]:
        """The context of every query, and its weights over the memory (one head but in `multi_head`)."""
        if self.kind == "multi_head":
            context, weights = self.heads(query, projected, bias, with_weights=True)
            return context, weights
        # squeeze and not [:, 0], whose gradient is a copy of the whole memory at every position.
        keys, values = projected.keys.squeeze(1), projected.values.squeeze(1)
        query = query.to(keys.dtype)
        if self.kind == "additive":
            scores = self.additive_scores(query, keys)
        else:
            scores = torch.matmul(query, keys.transpose(1, 2))
        weights = scores.float().mul_(self.scale).add_(bias.squeeze(1)).softmax(dim=-1)
        return torch.matmul(weights.to(values.dtype), values), weights[:, None]

    def additive_scores(self, query: Float[Tensor, "B T D"], keys: Float[Tensor, "B S D"]) -> Float[Tensor, "B T S"]:
        """v . tanh(W q + U m + b) + sum(v), one query position at a time: [B, T, S, D] would not fit into a
        cache.

        Computed as 2 v . sigmoid(2 (W q + U m + b)): the softmax does not see the constant, and torch's
        sigmoid is three (bf16) to ten times (fp32) as fast as its tanh on CPU. `project` has doubled the
        keys.
        """
        queries = 2.0 * self.query(query)
        energies = [self.energy(torch.sigmoid(keys + one)) for one in queries.split(1, dim=1)]
        return torch.cat(energies, dim=2).transpose(1, 2)
