"""The chunked loss against torch's own, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seq2seq.optimization import loss as loss_module
from seq2seq.optimization.loss import summed_loss
from seq2seq.tokens import PAD


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_numbers", [31, 200, 1 << 20])
def test_equals_cross_entropy(
    bias: bool, smoothing: float, chunk_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss_module._CHUNK_NUMBERS, "cpu", chunk_numbers)
    torch.manual_seed(3)
    output = nn.Linear(8, 31, bias=bias).double()
    hidden = torch.randn(4, 5, 8, dtype=torch.double, requires_grad=True)
    targets = torch.randint(0, 31, (4, 5))
    targets[0, 2:] = PAD

    ours = summed_loss(output, hidden, targets, smoothing)
    theirs = F.cross_entropy(
        output(hidden).flatten(0, 1),
        targets.flatten(),
        ignore_index=PAD,
        reduction="sum",
        label_smoothing=smoothing,
    )
    plain = F.cross_entropy(output(hidden).flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")
    assert ours.loss.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert ours.nll.item() == pytest.approx(plain.item(), rel=1e-6)
    inputs = [hidden, *output.parameters()]
    for got, wanted in zip(
        torch.autograd.grad(ours.loss / 7, inputs), torch.autograd.grad(theirs / 7, inputs), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_padding_has_no_gradient_and_no_cost() -> None:
    output, hidden = nn.Linear(8, 31), torch.randn(2, 3, 8, requires_grad=True)
    targets = torch.tensor([[4, 5, PAD], [6, PAD, PAD]])
    result = summed_loss(output, hidden, targets, 0.1)
    result.loss.backward()
    assert hidden.grad is not None
    assert (hidden.grad[targets == PAD] == 0).all()
    assert (hidden.grad[targets != PAD].abs().sum(-1) > 0).all()
    changed = hidden.detach().clone()
    changed[targets == PAD] = 1e6
    assert summed_loss(output, changed, targets, 0.1).loss == result.loss


def test_autocast_stays_near_fp32() -> None:
    torch.manual_seed(0)
    output, hidden = nn.Linear(64, 500), torch.randn(8, 9, 64)
    targets = torch.randint(1, 500, (8, 9))
    exact = summed_loss(output, hidden, targets, 0.1).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = summed_loss(output, hidden, targets, 0.1).loss
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=3e-3)


def test_a_batch_of_padding_alone_costs_nothing() -> None:
    assert summed_loss(nn.Linear(4, 9), torch.randn(1, 2, 4), torch.full((1, 2), PAD)).loss == 0
