"""Batched search for the best target: beam search, of which greedy is the case `beam_size=1`, and sampling.

Knows the contract of `models/interface.py` and no architecture. A hypothesis of n tokens has length n + 1,
as its end mark counts: score = log P(tokens, EOS | source) / length^alpha. Every hypothesis pays for its
EOS, also one that is cut at the maximum length, so `log_probability` is always what teacher forcing gives
(`scoring.py`).

Stop rule: EOS is accepted only among the best `beam_size` candidates of a position. A sentence is done when
`beam_size` hypotheses have ended, or when nothing alive can overtake the n-best one: log P only falls, so an
alive hypothesis never scores above log P / max_length^alpha. Hence beam 1 is the argmax at each position,
and a beam as wide as the space of hypotheses finds what enumeration finds.

The model runs on its device; the bookkeeping, some numbers per hypothesis, runs on the CPU in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.errors import DivergenceError, UsageError
from seq2seq.inference.choosing import Sampling, check_sampling, draw, generators, top
from seq2seq.models.interface import Seq2SeqModel, log_probabilities, select_rows
from seq2seq.tokens import BOS, EOS, PAD

__all__ = ["Hypothesis", "Sampling", "search"]


class Hypothesis(NamedTuple):
    """One finished output."""

    tokens: list[int]
    """Without BOS and EOS."""
    score: float
    """log_probability / (len(tokens) + 1)^alpha."""
    log_probability: float
    """Natural log of P(tokens, EOS | source) under the model itself, whatever the sampling."""
    attention: Tensor | None = None
    """[T+1, S] on request: row t wrote token t, the last row EOS; the last column is the source's EOS."""
    cut: bool = False
    """True where the maximum length, not the model, put the end."""


class _Live(NamedTuple):
    """The hypotheses that still grow: N sentences, W hypotheses each (W is 1 before the first token)."""

    sentences: list[int]
    totals: Float[Tensor, "N W"]
    """Log-probability so far; -inf marks an empty place."""
    tokens: Int[Tensor, "N W T"]
    """T begins with BOS."""
    attention: Tensor | None
    """[N, W, T-1, S], on the model's device."""


class _Candidates(NamedTuple):
    """One more token: best first for beam search, in any order for sampling."""

    totals: Float[Tensor, "N C"]
    tokens: Int[Tensor, "N C"]
    origins: Int[Tensor, "N C"]
    """Which of the W hypotheses grows."""


class _Rules(NamedTuple):
    width: int
    alpha: float
    n_best: int
    limits: list[int]
    overtaking: bool
    """Stop once nothing alive can overtake (sampling draws all its hypotheses to the end instead)."""


_Choose = Callable[[Float[Tensor, "R V"], _Live], _Candidates]


def search(
    model: Seq2SeqModel,
    source: Int[Tensor, "B S"],
    *,
    beam_size: int,
    length_penalty: float,
    max_lengths: Int[Tensor, " B"],
    n_best: int = 1,
    sampling: Sampling | None = None,
    with_attention: bool = False,
    sentence_keys: Sequence[tuple[int, ...]] | None = None,
) -> list[list[Hypothesis]]:
    """For every sentence its `n_best` hypotheses by falling score; fewer where fewer exist, never none.

    `source` is padded and lies on the model's device; put the model in eval mode first. `max_lengths` counts
    EOS and is lowered to the model's own limit. Equal scores go to the lower beam place, then to the lower
    token id. With `sampling`, `n_best` independent draws per sentence; `beam_size` is not used, and
    `sentence_keys` (by default the row number) seed each sentence. Raises `UsageError` for impossible
    arguments, `DivergenceError` where the model's output is NaN.
    """
    _check(beam_size, length_penalty, n_best, sampling)
    limits = [max(1, min(limit, model.max_target_length or limit)) for limit in max_lengths.tolist()]
    width = beam_size if sampling is None else n_best
    rules = _Rules(width, length_penalty, n_best, limits, overtaking=sampling is None)
    choose: _Choose = partial(_best, width=width)
    if sampling is not None:
        keys = sentence_keys or [(row,) for row in range(len(limits))]
        choose = partial(_drawn, width=width, sampling=sampling, streams=generators(sampling, keys))
    with torch.inference_mode():
        finished = _grow(model, source, rules, choose, with_attention)
    if with_attention:
        lengths = (source != PAD).sum(dim=1).tolist()
        finished = [[_trimmed(h, length) for h in found] for found, length in zip(finished, lengths, strict=True)]
    nothing = Hypothesis([], -float("inf"), -float("inf"), cut=True)
    ranked = [sorted(found, key=lambda h: -h.score)[:n_best] for found in finished]
    return [found or [nothing] for found in ranked]


def _check(beam_size: int, length_penalty: float, n_best: int, sampling: Sampling | None) -> None:
    if beam_size < 1:
        raise UsageError(f"the beam size must be at least 1, not {beam_size}", hint="1 is greedy, 5 is usual")
    if not 0 <= length_penalty < float("inf"):
        raise UsageError(f"the length penalty must be 0 or more, not {length_penalty}", hint="0.6 to 1 is usual")
    if n_best < 1:
        raise UsageError(f"n-best must be at least 1, not {n_best}")
    if sampling is not None:
        check_sampling(sampling)
    elif n_best > beam_size:
        raise UsageError(f"a beam of {beam_size} cannot give {n_best} hypotheses", hint=f"use a beam size of {n_best}")


def _trimmed(hypothesis: Hypothesis, source_length: int) -> Hypothesis:
    if hypothesis.attention is None:
        return hypothesis
    return hypothesis._replace(attention=hypothesis.attention[:, :source_length])


def _grow(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], rules: _Rules, choose: _Choose, with_attention: bool
) -> list[list[Hypothesis]]:
    """The loop of every search: one token a turn; sentences leave the batch when they are done."""
    size = source.shape[0]
    finished: list[list[Hypothesis]] = [[] for _ in range(size)]
    live = _Live(list(range(size)), torch.zeros(size, 1, dtype=torch.float64), torch.full((size, 1, 1), BOS), None)
    if not size:
        return finished
    memory = model.encode(source)
    state = model.start(memory)
    while True:
        last = live.tokens[:, :, -1].flatten().to(source.device)
        stepped = model.step(last, memory, state, with_attention=with_attention)
        scores = log_probabilities(model, stepped.hidden)
        cut = _constrain(scores, live, rules.limits)
        candidates = choose(scores, live)
        if candidates.totals.isnan().any():
            raise DivergenceError(
                "the model's output is not a number",
                hint="its weights hold NaN or infinity; use an earlier checkpoint",
            )
        if with_attention and stepped.attention is not None:
            live = _with_attention(live, stepped.attention)
        _collect(candidates, live, cut, rules, finished)
        live, rows, same_sentences = _survivors(candidates, live, rules, finished)
        if not live.sentences:
            return finished
        if not same_sentences:
            memory = select_rows(memory, rows.to(source.device))
        moved = not torch.equal(rows, torch.arange(len(last)))
        state = select_rows(stepped.state, rows.to(source.device)) if moved else stepped.state


def _constrain(scores: Float[Tensor, "R V"], live: _Live, limits: list[int]) -> Bool[Tensor, "N W"]:
    """In place: PAD and BOS are never written, and the last place of a sentence is for EOS alone.

    Returns where the model would have gone on.
    """
    scores[:, PAD] = -torch.inf
    scores[:, BOS] = -torch.inf
    count, width, length = live.tokens.shape
    cut = torch.zeros(count, width, dtype=torch.bool)
    at_end = torch.tensor([limits[sentence] <= length for sentence in live.sentences])
    if at_end.any():
        rows = at_end.repeat_interleave(width).nonzero().flatten().to(scores.device)
        ends = scores[rows, EOS]
        cut[at_end] = (scores[rows].max(dim=1).values > ends).view(-1, width).cpu()
        scores[rows] = -torch.inf
        scores[rows, EOS] = ends
    return cut


def _best(scores: Float[Tensor, "R V"], live: _Live, *, width: int) -> _Candidates:
    """The best 2 W candidates of each sentence: at most W of them are EOS, so that W can go on."""
    values, tokens = top(scores, 2 * width)
    count, beams = live.totals.shape
    totals = (live.totals[:, :, None] + values.reshape(count, beams, -1)).flatten(1)
    tokens = tokens.reshape(count, -1)
    # The flat order is (beam, token) among equals, which a stable sort keeps.
    totals, order = totals.sort(dim=1, descending=True, stable=True)
    totals, order = totals[:, : 2 * width], order[:, : 2 * width]
    return _Candidates(totals, tokens.gather(1, order), order // (tokens.shape[1] // beams))


def _drawn(
    scores: Float[Tensor, "R V"],
    live: _Live,
    *,
    width: int,
    sampling: Sampling,
    streams: list[np.random.Generator],
) -> _Candidates:
    """One token for each of the `width` samples of a sentence; before the first token they share one row."""
    count, beams = live.totals.shape
    noise = np.stack([streams[sentence].random(width) for sentence in live.sentences])
    tokens = draw(scores, torch.from_numpy(noise).view(count * beams, -1), sampling)
    values = scores.gather(1, tokens).double().cpu().view(count, width)
    origins = torch.arange(beams).repeat_interleave(width // beams).expand(count, width)
    return _Candidates(live.totals.gather(1, origins) + values, tokens.cpu().view(count, width), origins)


def _with_attention(live: _Live, attention: Float[Tensor, "R S"]) -> _Live:
    count, width, _ = live.tokens.shape
    row = attention.view(count, width, 1, -1)
    return live._replace(attention=row if live.attention is None else torch.cat((live.attention, row), dim=2))


def _collect(
    candidates: _Candidates,
    live: _Live,
    cut: Bool[Tensor, "N W"],
    rules: _Rules,
    finished: list[list[Hypothesis]],
) -> None:
    """File the candidates that end among the best `width`."""
    length = live.tokens.shape[2]
    ended = ((candidates.tokens == EOS) & (candidates.totals > -torch.inf))[:, : rules.width]
    for place, rank in ended.nonzero().tolist():
        origin = int(candidates.origins[place, rank])
        total = float(candidates.totals[place, rank])
        finished[live.sentences[place]].append(
            Hypothesis(
                tokens=live.tokens[place, origin, 1:].tolist(),
                score=total / length**rules.alpha,
                log_probability=total,
                attention=None if live.attention is None else live.attention[place, origin].cpu(),
                cut=bool(cut[place, origin]),
            )
        )


def _survivors(
    candidates: _Candidates, live: _Live, rules: _Rules, finished: list[list[Hypothesis]]
) -> tuple[_Live, Int[Tensor, " R"], bool]:
    """What goes on, the rows of the old batch that it grew from, and whether no sentence left or widened."""
    ends = candidates.tokens == EOS
    order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, : rules.width]
    totals = candidates.totals.masked_fill(ends, -torch.inf).gather(1, order)
    best = totals.max(dim=1).values.tolist()
    keep = [
        place
        for place, sentence in enumerate(live.sentences)
        if not _done(finished[sentence], best[place], rules.limits[sentence], rules)
    ]
    kept = torch.tensor(keep, dtype=torch.long)
    beams = live.tokens.shape[1]
    origins = candidates.origins.gather(1, order)[kept]
    rows = (kept[:, None] * beams + origins).flatten()
    shape = (len(keep), order.shape[1])
    past = live.tokens.flatten(0, 1)[rows].view(*shape, live.tokens.shape[2])
    new = candidates.tokens.gather(1, order)[kept]
    attention = live.attention
    if attention is not None:
        attention = attention.flatten(0, 1)[rows.to(attention.device)].view(*shape, *attention.shape[2:])
    grown = _Live(
        [live.sentences[place] for place in keep],
        totals[kept],
        torch.cat((past, new[:, :, None]), dim=2),
        attention,
    )
    return grown, rows, shape == live.totals.shape


def _done(found: list[Hypothesis], best_alive: float, limit: int, rules: _Rules) -> bool:
    if best_alive == -float("inf") or len(found) >= rules.width:
        return True
    if not rules.overtaking or len(found) < rules.n_best:
        return False
    bar = sorted(hypothesis.score for hypothesis in found)[-rules.n_best]
    return bool(best_alive / limit**rules.alpha <= bar)
