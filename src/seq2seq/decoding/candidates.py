"""Next tokens from their scores: the best ones, or random ones.

Random: with a temperature, among the top k (Fan et al. 2018) or the nucleus of probability p (Holtzman et
al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.errors import UsageError
from seq2seq.kernels import BLOCKS, LOG2_E
from seq2seq.kernels import search as compiled_search


class Live(NamedTuple):
    """The hypotheses that still grow: N sentences, W hypotheses each (W is 1 before the first token); on the CPU."""

    sentences: list[int]
    """Which of the call's sentences."""
    totals: Float[Tensor, "N W"]
    """Log-probability so far, in float64; -inf marks an empty place, whose tokens mean nothing."""
    tokens: Int[Tensor, "N W T"]
    """T begins with BOS."""
    history: Float[Tensor, "N W T"] | None = None
    """`totals` after each token, where token scores are wanted."""
    attention: Float[Tensor, "N W T S"] | None = None
    """On the model's device, where attention is wanted; T - 1 rows."""

    def part(self, begin: int, end: int) -> Live:
        """Some of the sentences."""
        return Live(self.sentences[begin:end], self.totals[begin:end], self.tokens[begin:end])


class Scores(NamedTuple):
    """What the model says of the next tokens of some live hypotheses."""

    logits: Float[Tensor, "R V"]
    """On the model's device, R = N * W; -inf at tokens that are not allowed now. May be written into."""
    normaliser: Float[Tensor, " R"]
    """log P(token) = logits - normaliser, in float64 on the CPU; of all tokens, whether allowed or not."""


class Candidates(NamedTuple):
    """One more token: the best first for beam search."""

    totals: Float[Tensor, "N C"]
    """Log-probability with the new token, in float64; -inf where there is none."""
    tokens: Int[Tensor, "N C"]
    origins: Int[Tensor, "N C"]
    """Which of the W hypotheses grows."""


Choose = Callable[[Scores, Live], Candidates]
"""Must depend on its arguments alone, and on `Live.sentences` only to look up what belongs to a sentence: it is
called with some of the sentences at a time. Its order is its own."""


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


def best_candidates(scores: Scores, live: Live, count: int) -> Candidates:
    """The best `count` tokens of each sentence, over all its hypotheses; equals by rising place, then token.

    Fewer columns where the vocabulary has no more. Exact and without sorting the vocabulary: the best tokens lie in the
    blocks with the best maxima. torch.topk takes any of several equals, so sentences where that matters are sorted.
    """
    logits = scores.logits
    sentences, beams = live.totals.shape
    size = logits.shape[1]
    offsets = (live.totals - scores.normaliser.view(sentences, beams)).to(logits.device)
    if size < BLOCKS * 4 or count >= BLOCKS * beams:
        totals = (logits.double() + offsets.view(-1, 1)).view(sentences, -1)
        return _first(totals, min(count, totals.shape[1]), size)
    compiled = compiled_search.best_tokens(logits.view(sentences, beams, size), offsets, count)
    if compiled is not None:
        totals, places = compiled
        return Candidates(totals, places % size, places // size)
    maxima = (_block_maxima(logits).double() + offsets.view(-1, 1)).view(sentences, -1)
    values, blocks = maxima.topk(count + 1, dim=1)
    origins, columns = blocks // BLOCKS, blocks % BLOCKS
    inside = torch.arange(0, size, BLOCKS, device=logits.device)
    beyond = columns + inside[-1] >= size
    places = (origins * size + columns)[:, :, None] + inside
    places[:, :, -1] -= beyond * BLOCKS
    totals = logits.view(sentences, -1).gather(1, places.flatten(1)).double().view(places.shape)
    totals += offsets.gather(1, origins)[:, :, None]
    totals[:, :, -1].masked_fill_(beyond, -torch.inf)
    best, order = totals.flatten(1).topk(count + 1, dim=1)
    best, chosen, values = (part.cpu() for part in (best, places.flatten(1).gather(1, order), values))
    result = Candidates(best[:, :count], chosen[:, :count] % size, chosen[:, :count] // size)
    equal = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(dim=1)
    # A block left out may begin with the value of the last token taken.
    equal |= (values[:, -1] >= best[:, count - 1]) & (values[:, -1] > -torch.inf)
    if equal.any():
        for place in equal.nonzero().flatten().tolist():
            some = logits[place * beams : (place + 1) * beams]
            again = _first((some.double() + offsets[place, :, None]).view(1, -1), count, size)
            for part, mended in zip(result, again, strict=True):
                part[place] = mended[0]
    return result


def _first(totals: Float[Tensor, "N WV"], count: int, size: int) -> Candidates:
    """By sorting: the flat order is (place, token) among equals, which a stable sort keeps."""
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
    """One token for each of a sentence's samples, of which `width` were begun; at first they share one row."""
    count, places = live.totals.shape
    beginning = live.tokens.shape[2] == 1
    columns = width if beginning else places
    noise = np.stack([streams[sentence].random(width)[:columns] for sentence in live.sentences])
    tokens = draw(scores.logits, torch.from_numpy(noise).view(count * places, -1), sampling)
    values = (scores.logits.gather(1, tokens).cpu().double() - scores.normaliser[:, None]).view(count, columns)
    origins = torch.zeros(columns, dtype=torch.long) if beginning else torch.arange(places)
    return Candidates(live.totals + values, tokens.cpu().view(count, columns), origins.expand(count, columns))


def normalisers(logits: Float[Tensor, "R V"]) -> Float[Tensor, " R"]:
    """log sum exp of each row, in float64 on the CPU; within 2e-6, and NaN where a row holds NaN or infinity.

    Powers of two: on CPU torch's exp2 takes a fourth to an eighth of its exp, softmax or logsumexp. What is rounded on
    the way to them is rounded alike in `scaled`, and drops out.
    """
    compiled = compiled_search.normalisers(logits)
    if compiled is not None:
        return compiled
    scaled = logits.amax(dim=1) * LOG2_E
    powers = torch.add(-scaled[:, None], logits, alpha=LOG2_E).exp2_()
    return (scaled.cpu().double() + powers.sum(dim=1).cpu().double().log2()) / LOG2_E


def check_sampling(sampling: Sampling) -> None:
    """Raise `UsageError` for values that name no distribution."""
    if not 0 < sampling.temperature < float("inf"):
        raise UsageError(
            f"temperature must be above 0, not {sampling.temperature}",
            hint="a beam size of 1 without sampling always takes the likeliest token",
            code="usage.value",
        )
    if sampling.top_k < 0:
        raise UsageError(
            f"top_k must be 0 or more, not {sampling.top_k}", hint="0 draws among all tokens", code="usage.value"
        )
    if not 0 < sampling.top_p <= 1:
        raise UsageError(
            f"top_p must be above 0 and at most 1, not {sampling.top_p}",
            hint="1 draws among all tokens",
            code="usage.value",
        )
    if sampling.seed < 0:
        raise UsageError(f"the seed must be 0 or more, not {sampling.seed}", code="usage.value")


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
