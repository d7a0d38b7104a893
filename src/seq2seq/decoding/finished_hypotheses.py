"""Finished hypotheses, and the stop rule of the search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Live
from seq2seq.decoding.interface import Hypothesis, SearchOptions
from seq2seq.special_tokens import EOS


class _Finished(NamedTuple):
    """Hypotheses that finished at the same position."""

    totals: list[float]
    scores: list[float]
    cut: list[bool]
    tokens: Int[Tensor, "K T"]
    history: Float[Tensor, "K T"] | None
    attention: Float[Tensor, "K T S"] | None


class FinishedHypotheses:
    """Finished hypotheses of every sentence, which decide whether its search is done.

    A search is done when `width` hypotheses have finished, or when no live one can reach the score of the n-best: log P
    only falls, so the score of a live hypothesis stays below log P / max_length^alpha. `max_lengths` count EOS.
    """

    def __init__(self, max_lengths: Sequence[int], options: SearchOptions, width: int) -> None:
        self.alpha, self.n_best, self.width = options.length_penalty, options.n_best, width
        self.stops_early = options.sampling is None  # samples are all drawn to their end
        self.max_penalties = torch.tensor(max_lengths, dtype=torch.float64) ** self.alpha
        self.counts = torch.zeros(len(max_lengths), dtype=torch.long)
        self.best_scores = torch.full((len(max_lengths), options.n_best), -torch.inf, dtype=torch.float64)
        """The n-best scores so far, best first."""
        self.groups: list[_Finished] = []
        self.ranking: list[list[tuple[float, int, int]]] = [[] for _ in max_lengths]
        """For each sentence: (minus score, index in `groups`, row in it)."""

    def split(
        self, candidates: Candidates, live: Live, cut: Bool[Tensor, "N W"]
    ) -> tuple[Candidates, Bool[Tensor, " N"]]:
        """Take the finished candidates; return those that continue, and for each live sentence whether it is done.

        Candidates with EOS among the first `width` finish; the first `width` others continue.
        """
        ends = candidates.tokens == EOS
        finishes = (ends & (candidates.totals > -torch.inf))[:, : self.width]
        # If there is a single candidate, EOS is the end of the search, and no scores need to be compared.
        single = self.width == 1 and candidates.tokens.shape[1] == 1
        numbers = None if single else torch.tensor(live.sentences)
        if finishes.any():
            self._add(candidates, live, cut, finishes, numbers)
        if numbers is None:
            continuing = candidates._replace(totals=candidates.totals.masked_fill(ends, -torch.inf))
            return continuing, continuing.totals[:, 0] == -torch.inf
        if ends.any():
            order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, : self.width]
            continuing = Candidates(*(part.gather(1, order) for part in candidates))
            continuing = continuing._replace(totals=continuing.totals.masked_fill(ends.gather(1, order), -torch.inf))
        else:
            continuing = Candidates(*(part[:, : self.width] for part in candidates))
        best = continuing.totals.amax(dim=1)
        done = (best == -torch.inf) | (self.counts.index_select(0, numbers) >= self.width)
        if self.stops_early:
            worst = self.best_scores[:, -1].index_select(0, numbers)
            done |= best / self.max_penalties.index_select(0, numbers) <= worst
        return continuing._replace(totals=continuing.totals.masked_fill(done[:, None], -torch.inf)), done

    def _add(
        self,
        candidates: Candidates,
        live: Live,
        cut: Bool[Tensor, "N W"],
        finishes: Bool[Tensor, "N E"],
        numbers: Int[Tensor, " N"] | None,
    ) -> None:
        length = live.tokens.shape[2]
        rows, columns = finishes.nonzero(as_tuple=True)
        origins, totals = candidates.origins[rows, columns], candidates.totals[rows, columns]
        scores = totals / length**self.alpha
        history = None
        if live.history is not None:
            history = torch.cat((live.history[rows, origins], totals[:, None]), dim=1)
        attention = None
        if live.attention is not None:
            attention = live.attention[rows.to(live.attention.device), origins.to(live.attention.device)].cpu()
        tokens, was_cut = live.tokens[rows, origins], cut[rows, origins].tolist()
        group = _Finished(totals.tolist(), scores.tolist(), was_cut, tokens, history, attention)
        for index, (row, score) in enumerate(zip(rows.tolist(), group.scores, strict=True)):
            self.ranking[live.sentences[row]].append((-score, len(self.groups), index))
        self.groups.append(group)
        if numbers is None:
            return
        self.counts[numbers] += finishes.sum(dim=1)
        scores_of_all = (candidates.totals[:, : self.width] / length**self.alpha).masked_fill(~finishes, -torch.inf)
        scores_of_all = torch.cat((self.best_scores[numbers], scores_of_all), dim=1)
        self.best_scores[numbers] = scores_of_all.sort(dim=1, descending=True).values[:, : self.n_best]

    def best(self, source_lengths: Sequence[int]) -> list[list[Hypothesis]]:
        """The n-best hypotheses of every sentence, best first; of equal ones the first that finished."""
        return [
            [self._hypothesis(self.groups[group], row, length) for _, group, row in sorted(ranking)[: self.n_best]]
            or [Hypothesis([], -float("inf"), -float("inf"), cut=True)]
            for ranking, length in zip(self.ranking, source_lengths, strict=True)
        ]

    @staticmethod
    def _hypothesis(group: _Finished, row: int, source_length: int) -> Hypothesis:
        return Hypothesis(
            tokens=group.tokens[row, 1:].tolist(),
            score=group.scores[row],
            log_probability=group.totals[row],
            attention=None if group.attention is None else group.attention[row, :, :source_length],
            cut=group.cut[row],
            token_scores=None if group.history is None else tuple(group.history[row].diff().tolist()),
        )
