"""The compiled loops against torch and float64."""

from __future__ import annotations

import pytest
import torch

from seq2seq.decoding.candidates import Live, Scores, best_candidates
from seq2seq.kernels import BLOCKS
from seq2seq.kernels.compile import Kernels, in_use
from seq2seq.kernels.compiled_transformer import attention_loop
from seq2seq.kernels.search import best_tokens, normalisers
from seq2seq.models.attention import MASK_VALUE, KeysValues

pytestmark = pytest.mark.usefixtures("loops")


def seen_by(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The same by torch in float64: [B K D]."""
    scores = torch.einsum("bkhe,bhce->bhkc", query.double(), keys.double()) / query.shape[3] ** 0.5
    weights = (scores + bias[:, None]).softmax(dim=3)
    return torch.einsum("bhkc,bhce->bkhe", weights, values.double()).flatten(2)


@pytest.mark.parametrize("width", [16, 32, 48, 64, 128])
@pytest.mark.parametrize("fan", [1, 2, 5, 12])
def test_every_query_sees_what_its_bias_does_not_mask(width: int, fan: int, kernels: Kernels) -> None:
    size, heads, room = 7, 3, 61
    for filled in (1, 2, 15, 16, 17, 33, room):
        query = torch.randn(size, fan, 1, heads, width) * 3
        keys, values = torch.randn(2, size, heads, room, width)
        bias = torch.where(torch.rand(size, fan, room) < 0.5, 0.0, MASK_VALUE)
        bias[:, :, filled:] = MASK_VALUE
        bias[:, :, 0] = 0
        keys[:, :, filled:], values[:, :, filled:] = torch.nan, torch.inf  # unused places
        found = attention_loop(kernels, query, KeysValues(keys, values), filled, bias[:, None])
        keys[:, :, filled:], values[:, :, filled:] = 0, 0
        torch.testing.assert_close(found.double(), seen_by(query[:, :, 0], keys, values, bias), atol=4e-6, rtol=1e-5)


def test_new_keys_and_values_are_written_before_they_are_seen(kernels: Kernels) -> None:
    size, fan, heads, width, room, filled = 4, 3, 2, 16, 20, 9
    projected = torch.randn(size, fan, 3, heads, width)
    keys, values = torch.randn(2, size, heads, room, width)
    before = keys.clone(), values.clone()
    bias = torch.zeros(size, 1, room)
    found = attention_loop(kernels, projected, KeysValues(keys, values), filled, bias[:, None])
    for now, old, part in ((keys, before[0], 1), (values, before[1], 2)):
        assert torch.equal(now[:, :, filled - fan : filled], projected[:, :, part].transpose(1, 2))
        assert torch.equal(now[:, :, : filled - fan], old[:, :, : filled - fan])
        assert torch.equal(now[:, :, filled:], old[:, :, filled:])
    bias[:, :, filled:] = MASK_VALUE
    torch.testing.assert_close(found.double(), seen_by(projected[:, :, 0], keys, values, bias), atol=4e-6, rtol=1e-5)


def test_a_sentence_has_the_same_bits_in_every_batch(kernels: Kernels) -> None:
    query = torch.randn(9, 5, 1, 4, 32)
    keys, values = torch.randn(2, 9, 4, 30, 32)
    bias = torch.where(torch.rand(9, 1, 5, 30) < 0.5, 0.0, MASK_VALUE)
    whole = attention_loop(kernels, query, KeysValues(keys, values), 30, bias)
    for some in ([3], [8, 0], [1, 2, 3, 4, 5, 6, 7]):
        part = attention_loop(kernels, query[some], KeysValues(keys[some], values[some]), 30, bias[some])
        assert torch.equal(part, whole[some])


def test_large_scores_and_masked_rows_stay_finite(kernels: Kernels) -> None:
    query = torch.full((1, 1, 1, 1, 16), 1e9)
    keys, values = torch.randn(2, 1, 1, 8, 16)
    found = attention_loop(kernels, query, KeysValues(keys, values), 8, torch.zeros(1, 1, 1, 8))
    best = (query.flatten().double() @ keys[0, 0].double().T).argmax()
    torch.testing.assert_close(found[0, 0], values[0, 0, best])
    blind = attention_loop(kernels, query, KeysValues(keys, values), 8, torch.full((1, 1, 1, 8), MASK_VALUE))
    assert torch.equal(blind, torch.zeros(1, 1, 16))


@pytest.mark.parametrize("size", [BLOCKS, 300, 1023, 8000, 32003])
def test_normalisers_are_those_of_float64(size: int) -> None:
    for spread in (0.0, 0.1, 3.0, 30.0):
        logits = torch.randn(40, size) * spread + torch.randn(40, 1) * 40
        found = normalisers(logits)
        assert found is not None
        assert (found - logits.double().logsumexp(dim=1)).abs().max() < 2e-6
    broken = torch.zeros(4, size)
    broken[0, size - 1], broken[1, 7], broken[2], broken[3] = torch.nan, torch.inf, -torch.inf, torch.nan
    found = normalisers(broken)
    assert found is not None
    assert found.isnan().all()


@pytest.mark.parametrize("size", [BLOCKS, 300, 8003])
@pytest.mark.parametrize("kind", ["distinct", "ties", "forbidden", "one token", "nothing"])
def test_the_best_are_those_of_a_stable_sort(size: int, kind: str) -> None:
    for beams, count in ((1, 1), (1, 10), (5, 10), (12, 24)):
        logits = torch.randn(6, beams, size) * 4
        offsets = -torch.rand(6, beams, dtype=torch.float64) * 9
        if kind == "ties":
            logits, offsets = logits.round(), offsets.round()
        elif kind == "forbidden":
            logits[torch.rand(logits.shape) < 0.9] = -torch.inf
            offsets[torch.rand(offsets.shape) < 0.5] = -torch.inf
        elif kind == "one token":
            logits[..., torch.arange(size) != size - 2] = -torch.inf
        elif kind == "nothing":
            offsets[:] = -torch.inf
        found = best_tokens(logits, offsets, count)
        assert found is not None
        totals, places = found
        every = (logits.double() + offsets[:, :, None]).flatten(1)
        best, order = every.sort(dim=1, descending=True, stable=True)
        assert torch.equal(totals, best[:, :count])
        real = totals > -torch.inf
        assert torch.equal(places[real], order[:, :count][real])
        assert (places[~real] == 0).all()


def test_candidates_are_the_same_with_and_without_the_loops() -> None:
    live = Live(list(range(20)), -torch.rand(20, 5, dtype=torch.float64), torch.zeros(20, 5, 3, dtype=torch.long))
    scores = Scores(torch.randn(100, 9000), torch.randn(100, dtype=torch.float64))
    compiled = best_candidates(scores, live, 10)
    with in_use(None):
        usual = best_candidates(scores, live, 10)
    assert all(map(torch.equal, compiled, usual))


def test_tensors_that_the_loops_would_misread_are_refused(kernels: Kernels) -> None:
    """Loops get addresses: another type or order of the numbers would give garbage without any error."""
    keys, bias = torch.randn(2, 4, 8, 16), torch.zeros(2, 1, 1, 8)

    def attend(query: torch.Tensor, keys: torch.Tensor = keys) -> torch.Tensor:
        return attention_loop(kernels, query, KeysValues(keys, keys), 8, bias)

    attend(torch.randn(2, 1, 1, 4, 16))
    with pytest.raises(TypeError, match="bfloat16"):
        attend(torch.randn(2, 1, 1, 4, 16).bfloat16())
    with pytest.raises(TypeError, match="strides"):
        attend(torch.randn(2, 1, 1, 4, 16), keys.transpose(1, 2).contiguous().transpose(1, 2))


def test_search_uses_torch_for_what_the_loops_do_not_take() -> None:
    with torch.inference_mode(False), torch.enable_grad():
        assert normalisers(torch.randn(2, 400)) is None
    assert normalisers(torch.randn(2, 400).bfloat16()) is None
    assert normalisers(torch.randn(400, 400).t()) is None
    assert normalisers(torch.randn(2, BLOCKS - 1)) is None
    assert best_tokens(torch.randn(2, 1, BLOCKS - 1), torch.zeros(2, 1, dtype=torch.float64), 1) is None
