"""The chunked loss against torch's own, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seq2seq.optimization import loss as loss_module
from seq2seq.optimization.loss import SummedLoss, TwoPasses, summed_loss
from seq2seq.special_tokens import PAD


def assert_equal(ours: SummedLoss, loss: Tensor, nll: Tensor, inputs: list[Tensor]) -> None:
    """The same sums, and the same gradients of the loss."""
    assert ours.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert ours.nll.item() == pytest.approx(nll.item(), rel=1e-6)
    gradients = (torch.autograd.grad(each / 7, inputs) for each in (ours.loss, loss))
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


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
    assert_equal(ours, theirs, plain, [hidden, *output.parameters()])


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


@pytest.mark.parametrize("method", ["r_drop", "simcut"])
@pytest.mark.parametrize(("bias", "chunk_numbers"), [(False, 62), (True, 62), (True, 500), (False, 1 << 20)])
def test_two_passes_equal_their_definition(
    method: str, bias: bool, chunk_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of Liang et al. (2021), equation 4, and Gao et al. (2022), with torch's own cross-entropy and divergence."""
    monkeypatch.setitem(loss_module._CHUNK_NUMBERS, "cpu", chunk_numbers)
    torch.manual_seed(3)
    output = nn.Linear(8, 31, bias=bias).double()
    hidden = torch.randn(6, 5, 8, dtype=torch.double, requires_grad=True)
    targets = torch.randint(1, 31, (3, 5))
    targets[1, 3:] = PAD

    passes = TwoPasses.r_drop(5.0) if method == "r_drop" else TwoPasses.simcut(3.0)
    ours = summed_loss(output, hidden, targets, 0.1, passes)
    logits = output(hidden).view(2, 15, 31)[:, targets.flatten() != PAD]
    wanted = targets.flatten()[targets.flatten() != PAD]
    first, second = logits.log_softmax(-1)
    smoothed = [F.cross_entropy(one, wanted, label_smoothing=0.1, reduction="sum") for one in logits]
    plain = [F.cross_entropy(one, wanted, reduction="sum") for one in logits]
    forward = F.kl_div(second, first, reduction="sum", log_target=True)
    backward = F.kl_div(first, second, reduction="sum", log_target=True)
    if method == "r_drop":
        theirs, nll = sum(smoothed) / 2 + 5.0 / 4 * (forward + backward), sum(plain) / 2
    else:
        theirs, nll = smoothed[0] + 3.0 * forward, plain[0]
    assert_equal(ours, theirs, nll, [hidden, *output.parameters()])


@pytest.mark.parametrize("passes", [TwoPasses.r_drop(3.0), TwoPasses.simcut(3.0)])
def test_equal_passes_are_the_plain_loss(passes: TwoPasses) -> None:
    torch.manual_seed(0)
    output, hidden, targets = nn.Linear(8, 31), torch.randn(2, 3, 8), torch.randint(1, 31, (2, 3))
    plain = summed_loss(output, hidden, targets, 0.1)
    twice = summed_loss(output, torch.cat([hidden, hidden]), targets, 0.1, passes)
    assert twice.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)


def test_a_frozen_output_gets_no_gradient() -> None:
    output, hidden = nn.Linear(8, 31), torch.randn(2, 3, 8, requires_grad=True)
    output.requires_grad_(False)
    summed_loss(output, hidden, torch.randint(1, 31, (2, 3))).loss.backward()
    assert output.weight.grad is None
    assert output.bias.grad is None
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0
