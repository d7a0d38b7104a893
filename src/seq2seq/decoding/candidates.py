"""Candidates for the next token: the best ones, or samples.

Samples are drawn with a temperature, among the top k tokens (Fan et al. 2018) or the nucleus of probability p (Holtzman
et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.kernels import BLOCKS, LOG2_E
from seq2seq.kernels import search as compiled_search


class Live(NamedTuple):
    """Unfinished hypotheses on the CPU: N sentences, W hypotheses each (W is 1 before the first token)."""

    sentences: list[int]
    """Indices of the sentences in the call."""
    totals: Float[Tensor, "N W"]
    """Log-probability so far, in float64; -inf marks an unused column, whose tokens are arbitrary."""
    tokens: Int[Tensor, "N W T"]
    """BOS first."""
    history: Float[Tensor, "N W T"] | None = None
    """On request: `totals` after each token."""
    attention: Float[Tensor, "N W T S"] | None = None
    """On request, on the model's device: weights of each step, T - 1 rows."""

    def part(self, begin: int, end: int) -> Live:
        """The sentences `begin` to `end`."""
        return Live(self.sentences[begin:end], self.totals[begin:end], self.tokens[begin:end])


class Scores(NamedTuple):
    """Scores of the next tokens of live hypotheses."""

    logits: Float[Tensor, "R V"]
    """On the model's device, R = N * W; -inf for tokens that are not allowed. May be overwritten."""
    normaliser: Float[Tensor, " R"]
    """log P(token) = logits - normaliser, in float64 on the CPU; forbidden tokens are counted too."""


class Candidates(NamedTuple):
    """Hypotheses with one more token, best first in beam search."""

    totals: Float[Tensor, "N C"]
    """Log-probability with the new token, in float64; -inf marks an unused column."""
    tokens: Int[Tensor, "N C"]
    origins: Int[Tensor, "N C"]
    """Index of the hypothesis that is extended, below W."""


Choose = Callable[[Scores, Live], Candidates]
"""Chooses the candidates of some sentences at a time. The result may not depend on which sentences come together;
`Live.sentences` serves to look up what belongs to a sentence."""


class Sampling(NamedTuple):
    """Options of sampling from the model's next-token distribution."""

    temperature: float = 1.0
    """Divides the log-probabilities: below 1 the distribution is sharper, above 1 flatter."""
    top_k: int = 0
    """Sample among the k most probable tokens; 0 is all."""
    top_p: float = 1.0
    """Sample among the fewest tokens whose probabilities sum to at least p."""
    seed: int = 1
    """The samples of a sentence depend on the seed and on `Sentence.key`, not on the rest of the batch."""


def best_candidates(scores: Scores, live: Live, count: int) -> Candidates:
    """The best `count` candidates of each sentence over all its hypotheses; equal ones by hypothesis, then by token.

    A smaller vocabulary gives fewer columns. The vocabulary is not sorted: the best tokens lie in the blocks with the
    best maxima. torch.topk returns any of several equal values, so sentences where that matters are sorted.
    """
    logits = scores.logits
    sentences, beams = live.totals.shape
    size = logits.shape[1]
    offsets = (live.totals - scores.normaliser.view(sentences, beams)).to(logits.device)
    if count < BLOCKS * beams:
        compiled = compiled_search.best_tokens(logits.view(sentences, beams, size), offsets, count)
        if compiled is not None:
            totals, indices = compiled
            return Candidates(totals, indices % size, indices // size)
    if size < BLOCKS * 4 or count >= BLOCKS * beams:
        totals = (logits.double() + offsets.view(-1, 1)).view(sentences, -1)
        return _sorted(totals, min(count, totals.shape[1]), size)
    maxima = (_block_maxima(logits).double() + offsets.view(-1, 1)).view(sentences, -1)
    values, blocks = maxima.topk(count + 1, dim=1)
    origins, columns = blocks // BLOCKS, blocks % BLOCKS
    inside = torch.arange(0, size, BLOCKS, device=logits.device)
    beyond = columns + inside[-1] >= size
    indices = (origins * size + columns)[:, :, None] + inside
    indices[:, :, -1] -= beyond * BLOCKS
    totals = logits.view(sentences, -1).gather(1, indices.flatten(1)).double().view(indices.shape)
    totals += offsets.gather(1, origins)[:, :, None]
    totals[:, :, -1].masked_fill_(beyond, -torch.inf)
    best, order = totals.flatten(1).topk(count + 1, dim=1)
    best, chosen, values = (part.cpu() for part in (best, indices.flatten(1).gather(1, order), values))
    result = Candidates(best[:, :count], chosen[:, :count] % size, chosen[:, :count] // size)
    equal = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(dim=1)
    # A block that was left out may hold the value of the last token taken.
    equal |= (values[:, -1] >= best[:, count - 1]) & (values[:, -1] > -torch.inf)
    if equal.any():
        for row in equal.nonzero().flatten().tolist():
            some = logits[row * beams : (row + 1) * beams]
            exact = _sorted((some.double() + offsets[row, :, None]).view(1, -1), count, size)
            for part, exact_part in zip(result, exact, strict=True):
                part[row] = exact_part[0]
    return result


def _sorted(totals: Float[Tensor, "N WV"], count: int, size: int) -> Candidates:
    """As `best_candidates`: a stable sort keeps the order by (hypothesis, token) of equal values."""
    totals, order = (part[:, :count].cpu() for part in totals.sort(dim=1, descending=True, stable=True))
    return Candidates(totals, order % size, order // size)


def _block_maxima(logits: Float[Tensor, "R V"]) -> Float[Tensor, "R C"]:
    """The maximum of tokens b, b + C, b + 2 C, ... for every b below C = `BLOCKS`."""
    whole = logits.shape[1] // BLOCKS * BLOCKS
    maxima: Tensor = logits[:, :whole].view(len(logits), -1, BLOCKS).amax(dim=1)
    rest = logits.shape[1] - whole
    if rest:
        torch.maximum(maxima[:, :rest], logits[:, whole:], out=maxima[:, :rest])
    return maxima


def sample(
    scores: Scores, live: Live, *, width: int, sampling: Sampling, streams: Sequence[np.random.Generator]
) -> Candidates:
    """A sampled token for each of a sentence's `width` samples, which share one row before the first token.

    At each step every sentence draws `width` numbers from its own stream, `streams[sentence]`, however many of its
    samples are left, and column w takes the w-th: samples do not depend on the other sentences of the batch.
    """
    count, live_width = live.totals.shape
    is_first = live.tokens.shape[2] == 1
    columns = width if is_first else live_width
    noise = np.stack([streams[sentence].random(width)[:columns] for sentence in live.sentences])
    tokens = draw(scores.logits, torch.from_numpy(noise).view(count * live_width, -1), sampling)
    values = (scores.logits.gather(1, tokens).cpu().double() - scores.normaliser[:, None]).view(count, columns)
    origins = torch.zeros(columns, dtype=torch.long) if is_first else torch.arange(live_width)
    return Candidates(live.totals + values, tokens.cpu().view(count, columns), origins.expand(count, columns))


def normalisers(logits: Float[Tensor, "R V"]) -> Float[Tensor, " R"]:
    """Log-sum-exp of each row, in float64 on the CPU, within 2e-6; NaN if the row holds NaN or infinity.

    On a CPU torch's exp2 takes a quarter to an eighth of the time of exp, softmax or logsumexp. The rounding errors of
    the scaled logits cancel with those of `scaled`.
    """
    compiled = compiled_search.normalisers(logits)
    if compiled is not None:
        return compiled
    scaled = logits.amax(dim=1) * LOG2_E
    powers = torch.add(-scaled[:, None], logits, alpha=LOG2_E).exp2_()
    return (scaled.cpu().double() + powers.sum(dim=1).cpu().double().log2()) / LOG2_E


def generators(sampling: Sampling, keys: Sequence[tuple[int, ...]]) -> list[np.random.Generator]:
    """A random number generator for each sentence, seeded by the seed and the key."""
    return [np.random.default_rng((sampling.seed, *key)) for key in keys]


def draw(scores: Float[Tensor, "R V"], noise: Float[Tensor, "R K"], sampling: Sampling) -> Int[Tensor, "R K"]:
    """K sampled tokens per row: the inverse of the cumulative distribution at uniform `noise` in [0, 1).

    `scores` are log-probabilities; -inf is never sampled. Ties at the edge of top-k go to the lower id.
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
    indices = torch.searchsorted(cumulative, goal, right=True).clamp_(max=scores.shape[1] - 1)
    return indices if order is None else order.gather(1, indices)
