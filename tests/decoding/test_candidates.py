"""The best tokens of large vocabularies, against sorting; their normaliser, against float64."""

from __future__ import annotations

import pytest
import torch

from seq2seq.decoding.candidates import Live, Scores, best_candidates, normalisers


def live(sentences: int, beams: int) -> Live:
    totals = -torch.rand(sentences, beams, dtype=torch.float64) * 9
    return Live(list(range(sentences)), totals, torch.zeros(sentences, beams, 3, dtype=torch.long))


@pytest.mark.parametrize("size", [1023, 1024, 1300, 8000, 8003])
@pytest.mark.parametrize("kind", ["distinct", "ties", "forbidden", "one token"])
def test_the_best_candidates_are_those_of_a_stable_sort(size: int, kind: str) -> None:
    """Only some blocks of a large vocabulary are looked at: none that holds a candidate may be left out."""
    torch.manual_seed(size)
    for beams, count in ((1, 1), (1, 10), (5, 10), (12, 24)):
        grown = live(6, beams)
        logits = torch.randn(6 * beams, size) * 4
        if kind == "ties":
            logits = logits.round()
        elif kind == "forbidden":
            logits[torch.rand(logits.shape) < 0.9] = -torch.inf
            logits[0] = -torch.inf
        elif kind == "one token":
            logits[:, torch.arange(size) != size - 2] = -torch.inf
        if kind == "ties":  # and between the hypotheses of a sentence
            grown.totals[:] = grown.totals.round()
            normaliser = torch.zeros(6 * beams, dtype=torch.float64)
        else:
            normaliser = torch.randn(6 * beams, dtype=torch.float64)
        found = best_candidates(Scores(logits, normaliser), grown, count)
        totals = (logits.double() + (grown.totals.flatten() - normaliser)[:, None]).view(6, -1)
        best, order = totals.sort(dim=1, descending=True, stable=True)
        assert torch.equal(found.totals, best[:, :count])
        real = found.totals > -torch.inf
        assert torch.equal((found.origins * size + found.tokens)[real], order[:, :count][real])


def test_the_normaliser_is_that_of_float64() -> None:
    torch.manual_seed(1)
    for spread in (0.1, 3.0, 30.0):
        logits = torch.randn(300, 9000) * spread + torch.randn(300, 1) * 40
        assert (normalisers(logits) - logits.double().logsumexp(dim=1)).abs().max() < 1e-6
    assert normalisers(torch.tensor([[5000.0, -5000.0]])).item() == pytest.approx(5000.0, abs=1e-6)
    broken = torch.zeros(3, 9000)
    broken[0, 7], broken[1, 7], broken[2] = torch.nan, torch.inf, -torch.inf
    assert normalisers(broken).isnan().all()
