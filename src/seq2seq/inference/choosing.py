"""Next tokens from their scores: the best ones, or random ones.

Random: with a temperature, among the top k (Fan et al. 2018) or the nucleus of probability p (Holtzman et
al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.errors import UsageError


class Sampling(NamedTuple):
    """How to draw from the model's next-token distribution."""

    temperature: float = 1.0
    """Divides the log-probabilities: below 1 sharper, above 1 flatter."""
    top_k: int = 0
    """Draw among the k likeliest tokens only; 0 draws among all."""
    top_p: float = 1.0
    """Draw among the fewest tokens whose probabilities sum to at least p."""
    seed: int = 1
    """Same seed, same sentence number: same draw, whatever else is in the batch."""


def top(scores: Float[Tensor, "R V"], count: int) -> tuple[Float[Tensor, "R C"], Int[Tensor, "R C"]]:
    """The largest `count` of each row, on the CPU in float64, equal ones by rising index.

    torch.topk leaves open which of several equals it takes; rows that have some are sorted anew.
    """
    size = scores.shape[1]
    values, tokens = (part.cpu() for part in scores.topk(min(count + 1, size), dim=1))
    equal = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any(dim=1)
    if equal.any():
        rows = equal.nonzero().flatten()
        again = scores[rows.to(scores.device)].sort(dim=1, descending=True, stable=True)
        values[rows] = again.values[:, : values.shape[1]].cpu()
        tokens[rows] = again.indices[:, : values.shape[1]].cpu()
    return values[:, :count].double(), tokens[:, :count]


def check_sampling(sampling: Sampling) -> None:
    """Raise `UsageError` for values that name no distribution."""
    if not 0 < sampling.temperature < float("inf"):
        raise UsageError(
            f"temperature must be above 0, not {sampling.temperature}",
            hint="a beam size of 1 without sampling always takes the likeliest token",
        )
    if sampling.top_k < 0:
        raise UsageError(f"top_k must be 0 or more, not {sampling.top_k}", hint="0 draws among all tokens")
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1, not {sampling.top_p}", hint="1 draws among all tokens")
    if sampling.seed < 0:
        raise UsageError(f"the seed must be 0 or more, not {sampling.seed}")


def generators(sampling: Sampling, keys: Sequence[tuple[int, ...]]) -> list[np.random.Generator]:
    """One stream of random numbers per sentence: numpy mixes the seed and the key into unrelated streams."""
    return [np.random.default_rng((sampling.seed, *key)) for key in keys]


def draw(scores: Float[Tensor, "R V"], noise: Float[Tensor, "R K"], sampling: Sampling) -> Int[Tensor, "R K"]:
    """K tokens per row by inverting the cumulative distribution at uniform `noise` in [0, 1).

    `scores` are log-probabilities; -inf is never drawn. Ties at the edge of top-k go to the lower id.
    """
    precise = torch.float32 if scores.device.type == "mps" else torch.float64
    scores, order = scores.to(precise) / sampling.temperature, None
    if sampling.top_k or sampling.top_p < 1:
        scores, order = scores.sort(dim=1, descending=True, stable=True)
    if sampling.top_k:
        scores[:, sampling.top_k :] = -torch.inf
    probabilities = torch.softmax(scores, dim=1).nan_to_num()
    if sampling.top_p < 1:
        before = probabilities.cumsum(dim=1) - probabilities
        probabilities = probabilities * (before < sampling.top_p)
    cumulative = probabilities.cumsum(dim=1)
    goal = noise.to(precise).to(scores.device) * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, goal, right=True).clamp_(max=scores.shape[1] - 1)
    return places if order is None else order.gather(1, places)
