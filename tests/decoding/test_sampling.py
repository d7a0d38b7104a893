"""Samples follow the distribution that the settings name."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from seq2seq.decoding.candidates import Sampling, draw
from seq2seq.decoding.interface import Hypothesis
from seq2seq.special_tokens import BOS, EOS, PAD
from tests.decoding.tiny_models import MarkovModel, RecurrentModel, find, random_source

SIZE, DRAWS = 8, 6000


def samples(sampling: Sampling, table: Tensor, limit: int, count: int = DRAWS) -> list[Hypothesis]:
    source = torch.tensor([[4, EOS]])
    return find(
        MarkovModel(table), source, beam_size=1, length_penalty=0.0, limit=limit, n_best=count, sampling=sampling
    )[0]


def allowed_probabilities(logits: Tensor, temperature: float = 1.0) -> list[float]:
    logits = logits.clone().double()
    logits[PAD] = logits[BOS] = -math.inf
    return (logits / temperature).softmax(dim=0).tolist()


def chi_square_fits(counts: list[int], probabilities: list[float]) -> bool:
    """Within five standard deviations of the statistic's mean."""
    total = sum(counts)
    cells = [(n, total * p) for n, p in zip(counts, probabilities, strict=True) if p > 0]
    assert sum(n for n, _ in cells) == total, "something impossible was drawn"
    statistic = sum((n - expected) ** 2 / expected for n, expected in cells)
    freedom = len(cells) - 1
    return statistic < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_match_the_model(temperature: float) -> None:
    table = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = samples(Sampling(temperature=temperature, seed=7), table, limit=3)
    assert len(found) == DRAWS
    first = Counter(h.tokens[0] if h.tokens else EOS for h in found)
    assert chi_square_fits([first[t] for t in range(SIZE)], allowed_probabilities(table[BOS], temperature))
    for last in range(3, SIZE):
        second = Counter(h.tokens[1] if len(h.tokens) > 1 else EOS for h in found if h.tokens[:1] == [last])
        assert chi_square_fits([second[t] for t in range(SIZE)], allowed_probabilities(table[last], temperature))


def test_log_probability_is_the_models_own_whatever_the_temperature() -> None:
    table = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    scores = table.log_softmax(dim=1)
    for hypothesis in samples(Sampling(temperature=3.0, top_k=4), table, limit=5, count=200):
        path = [BOS, *hypothesis.tokens, EOS]
        total = sum(float(scores[a, b]) for a, b in itertools.pairwise(path))
        assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)


def test_top_k_and_top_p_restrict_the_support() -> None:
    logits = torch.tensor([[math.log(p) for p in (0.02, 0.4, 0.08, 0.3, 0.2)]])
    noise = torch.rand(1, 4000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def support(sampling: Sampling) -> list[int]:
        return sorted(set(draw(logits, noise, sampling)[0].tolist()))

    assert support(Sampling()) == [0, 1, 2, 3, 4]
    assert support(Sampling(top_k=1)) == [1]
    assert support(Sampling(top_k=3)) == [1, 3, 4]
    assert support(Sampling(top_k=99)) == [0, 1, 2, 3, 4]
    assert support(Sampling(top_p=0.39)) == [1]
    assert support(Sampling(top_p=0.41)) == [1, 3]
    assert support(Sampling(top_p=0.95)) == [1, 2, 3, 4]
    assert support(Sampling(top_p=1e-9)) == [1]
    # The share of the kept ones is their own: 4/7 and 3/7.
    counts = Counter(draw(logits, noise, Sampling(top_k=2))[0].tolist())
    assert chi_square_fits([counts[1], counts[3]], [4 / 7, 3 / 7])


def test_draws_depend_on_seed_and_sentence_not_on_the_batch() -> None:
    model, source = RecurrentModel(20, seed=1, width=12), random_source(10, 20, seed=2)

    def drawn(rows: list[int], seed: int = 5) -> list[list[list[int]]]:
        keys = [(row,) for row in rows]
        found = find(model, source[rows], limit=12, n_best=3, sampling=Sampling(seed=seed), keys=keys)
        return [[h.tokens for h in hypotheses] for hypotheses in found]

    before = torch.get_rng_state()
    together = drawn(list(range(10)))
    assert drawn([7, 3, 0]) == [together[7], together[3], together[0]]
    assert drawn(list(range(10))) == together
    assert drawn(list(range(10)), seed=6) != together
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    assert len({str(tokens) for tokens in together}) == 10
