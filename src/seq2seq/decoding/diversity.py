"""Diverse beam search (Vijayakumar et al. 2018).

The beam is divided into groups, one for each output. A group chooses its next tokens by

    log P(y_1 ... y_t | source) - diversity * (how often earlier groups chose y_t at position t)

A group depends on earlier groups only, so each one is an ordinary beam search, run after the others. The penalty
affects the choice alone; scores are the model's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Choose, Live, Scores, best_candidates
from seq2seq.decoding.interface import Hypothesis, SearchOptions
from seq2seq.special_tokens import EOS

Run = Callable[[SearchOptions, Choose], list[list[Hypothesis]]]
"""An ordinary search of the same sentences, with these options and this choice of tokens."""


def diverse_search(run: Run, options: SearchOptions) -> list[list[Hypothesis]]:
    """At most `n_best` different hypotheses of each sentence, best first: the best one of each group.

    A group has beam_size / n_best beams. There are fewer hypotheses if groups find the same one.
    """
    width = options.beam_size // options.n_best
    each = options._replace(n_best=1, beam_size=width, diversity=0.0)
    penalties = _Penalties(options.diversity, width)
    groups = [run(each, penalties.choose) for _ in range(options.n_best)]
    return [_distinct(list(chain.from_iterable(found))) for found in zip(*groups, strict=True)]


class _Penalties:
    """Tokens that earlier groups chose, as penalties for the next group."""

    def __init__(self, diversity: float, width: int) -> None:
        self.diversity, self.width = diversity, width
        self.chosen: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        """By sentence and position: tokens of the groups so far, with their counts."""
        self.latest: dict[int, tuple[int, list[int]]] = {}
        """By sentence: the last position and its tokens, which count only if the search continues with them."""

    def choose(self, scores: Scores, live: Live) -> Candidates:
        """The best candidates by their penalised scores, with their unpenalised totals."""
        position = live.tokens.shape[2]
        self._confirm(live.sentences, position)
        earlier = [self.chosen[sentence, position] for sentence in live.sentences]
        penalised = scores.logits
        if any(earlier):
            penalised = self._penalised(scores.logits, earlier, live.totals.shape[1])
        candidates = best_candidates(Scores(penalised, scores.normaliser), live, 2 * self.width)
        if any(earlier):
            candidates = candidates._replace(totals=_totals(candidates, scores, live))
        for row, sentence in enumerate(live.sentences):
            going = (candidates.tokens[row] != EOS) & (candidates.totals[row] > -torch.inf)
            self.latest[sentence] = (position, candidates.tokens[row][going][: self.width].tolist())
        return candidates

    def _confirm(self, sentences: list[int], position: int) -> None:
        """Count the tokens of the position before: the search continued with them in these sentences."""
        for sentence in sentences:
            before, tokens = self.latest.pop(sentence, (0, []))
            if before == position - 1:
                self.chosen[sentence, before].update(tokens)

    def _penalised(self, logits: Float[Tensor, "R V"], earlier: list[Counter[int]], beams: int) -> Float[Tensor, "R V"]:
        entries = [(row, token, count) for row, counts in enumerate(earlier) for token, count in counts.items()]
        rows, tokens, counts = torch.tensor(entries, device=logits.device).unbind(1)
        penalty = logits.new_zeros(len(earlier), logits.shape[1])
        penalty[rows, tokens] = self.diversity * counts.to(penalty.dtype)
        return (logits.view(len(earlier), beams, -1) - penalty[:, None]).flatten(0, 1)


def _totals(found: Candidates, scores: Scores, live: Live) -> Float[Tensor, "N C"]:
    """The unpenalised log-probability of each candidate."""
    beams = live.totals.shape[1]
    rows = torch.arange(len(live.sentences))[:, None] * beams + found.origins
    values = scores.logits[rows.to(scores.logits.device), found.tokens.to(scores.logits.device)].cpu().double()
    return live.totals.gather(1, found.origins) + values - scores.normaliser[rows]


def _distinct(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Each output once, best first; of equal scores the earlier group first."""
    outputs: dict[tuple[int, ...], Hypothesis] = {}
    for hypothesis in hypotheses:
        outputs.setdefault(tuple(hypothesis.tokens), hypothesis)
    return sorted(outputs.values(), key=lambda hypothesis: -hypothesis.score)
