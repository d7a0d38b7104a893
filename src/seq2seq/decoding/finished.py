"""The hypotheses that have ended, and the stop rule that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Live
from seq2seq.decoding.interface import Hypothesis, SearchOptions
from seq2seq.special_tokens import EOS


class _Ended(NamedTuple):
    """Hypotheses that ended at the same position."""

    totals: list[float]
    scores: list[float]
    cut: list[bool]
    tokens: Int[Tensor, "K T"]
    history: Float[Tensor, "K T"] | None
    attention: Float[Tensor, "K T S"] | None


class Endings:
    """Collects the ended hypotheses of every sentence, and says which sentences are done.

    A sentence is done when `width` hypotheses have ended, or when nothing alive can overtake
    the n-best one: log P only falls, so an alive hypothesis never scores above log P / limit^alpha. `limits` count EOS.
    """

    def __init__(self, limits: Sequence[int], options: SearchOptions, width: int) -> None:
        self.alpha, self.n_best, self.width = options.length_penalty, options.n_best, width
        self.overtaking = options.sampling is None
        """Samples are all drawn to their ends instead."""
        self.limits = torch.tensor(limits, dtype=torch.float64) ** self.alpha
        self.counts = torch.zeros(len(limits), dtype=torch.long)
        self.bars = torch.full((len(limits), options.n_best), -torch.inf, dtype=torch.float64)
        """The best scores so far, best first."""
        self.ended: list[_Ended] = []
        self.found: list[list[tuple[float, int, int]]] = [[] for _ in limits]
        """For each sentence: minus score, entry and row in `ended`."""

    def divide(
        self, candidates: Candidates, live: Live, cut: Bool[Tensor, "N W"]
    ) -> tuple[Candidates, Bool[Tensor, " N"]]:
        """What goes on, and for each live sentence whether it is done.

        Candidates with EOS among the first `width` end; the first `width` others go on.
        """
        ends = candidates.tokens == EOS
        is_ended = (ends & (candidates.totals > -torch.inf))[:, : self.width]
        # Where a sentence has one way to go on, its end ends all: nothing has to be compared.
        only = self.width == 1 and candidates.tokens.shape[1] == 1
        numbers = None if only else torch.tensor(live.sentences)
        if is_ended.any():
            self._file(candidates, live, cut, is_ended, numbers)
        if numbers is None:
            going = candidates._replace(totals=candidates.totals.masked_fill(ends, -torch.inf))
            return going, going.totals[:, 0] == -torch.inf
        order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, : self.width]
        going = Candidates(*(part.gather(1, order) for part in candidates))
        going = going._replace(totals=going.totals.masked_fill(ends.gather(1, order), -torch.inf))
        best = going.totals.amax(dim=1)
        done = (best == -torch.inf) | (self.counts[numbers] >= self.width)
        if self.overtaking:
            done |= best / self.limits[numbers] <= self.bars[numbers, -1]
        return going._replace(totals=going.totals.masked_fill(done[:, None], -torch.inf)), done

    def _file(
        self,
        candidates: Candidates,
        live: Live,
        cut: Bool[Tensor, "N W"],
        is_ended: Bool[Tensor, "N E"],
        numbers: Int[Tensor, " N"] | None,
    ) -> None:
        length = live.tokens.shape[2]
        places, columns = is_ended.nonzero(as_tuple=True)
        origins, totals = candidates.origins[places, columns], candidates.totals[places, columns]
        scores = totals / length**self.alpha
        history = None
        if live.history is not None:
            history = torch.cat((live.history[places, origins], totals[:, None]), dim=1)
        attention = None
        if live.attention is not None:
            attention = live.attention[places.to(live.attention.device), origins.to(live.attention.device)].cpu()
        tokens, was_cut = live.tokens[places, origins], cut[places, origins].tolist()
        entry = _Ended(totals.tolist(), scores.tolist(), was_cut, tokens, history, attention)
        for row, (place, score) in enumerate(zip(places.tolist(), entry.scores, strict=True)):
            self.found[live.sentences[place]].append((-score, len(self.ended), row))
        self.ended.append(entry)
        if numbers is None:
            return
        self.counts[numbers] += is_ended.sum(dim=1)
        every = (candidates.totals[:, : self.width] / length**self.alpha).masked_fill(~is_ended, -torch.inf)
        every = torch.cat((self.bars[numbers], every), dim=1)
        self.bars[numbers] = every.sort(dim=1, descending=True).values[:, : self.n_best]

    def best(self, source_lengths: Sequence[int]) -> list[list[Hypothesis]]:
        """The n-best hypotheses of every sentence by falling score; among equals the first that ended."""
        return [
            [self._hypothesis(entry, row, length) for _, entry, row in sorted(found)[: self.n_best]]
            or [Hypothesis([], -float("inf"), -float("inf"), cut=True)]
            for found, length in zip(self.found, source_lengths, strict=True)
        ]

    def _hypothesis(self, entry: int, row: int, source_length: int) -> Hypothesis:
        ended = self.ended[entry]
        return Hypothesis(
            tokens=ended.tokens[row, 1:].tolist(),
            score=ended.scores[row],
            log_probability=ended.totals[row],
            attention=None if ended.attention is None else ended.attention[row, :, :source_length],
            cut=ended.cut[row],
            token_scores=None if ended.history is None else tuple(ended.history[row].diff().tolist()),
        )
