"""What only the recurrent model has: scheduled sampling, its first state, its dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_configurations import gru
from torch import Tensor

from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import BOS

SIZE = 23


def build(**changes: Any) -> Seq2SeqModel:
    return build_model(gru(dropout=0.0, **changes), SIZE, SIZE)


def inputs() -> tuple[Tensor, Tensor]:
    target = torch.randint(4, SIZE, (3, 6))
    target[:, 0] = BOS
    return torch.randint(4, SIZE, (3, 5)), target


def greedy(model: Seq2SeqModel, source: Tensor, length: int) -> Tensor:
    memory = model.encode(source)
    state, tokens, found = model.start(memory), torch.full((len(source),), BOS), []
    for _ in range(length):
        stepped = model.step(tokens, memory, state)
        state, tokens = stepped.state, model.output(stepped.hidden).argmax(-1)
        found.append(stepped.hidden)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("changes", [{}, {"attention": "none", "input_feeding": False}, {"cell": "lstm"}])
def test_without_teacher_forcing_training_follows_the_models_own_best(changes: dict[str, Any]) -> None:
    model = build(teacher_forcing=0.0, **changes).train()
    source, target = inputs()
    free = model(source, target)
    torch.testing.assert_close(free, greedy(model, source, 6), atol=1e-5, rtol=1e-5)
    target[:, 1:] = 7
    assert torch.equal(model(source, target), free)
    assert not torch.allclose(model.eval()(source, target), free)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_evaluation_always_feeds_the_reference(input_feeding: bool) -> None:
    torch.manual_seed(2)
    sampled = build(teacher_forcing=0.3, input_feeding=input_feeding).eval()
    torch.manual_seed(2)
    forced = build(teacher_forcing=1.0, input_feeding=input_feeding).train()
    source, target = inputs()
    torch.testing.assert_close(sampled(source, target), forced(source, target))


def test_a_coin_is_thrown_for_every_position_of_every_sentence() -> None:
    """One coin for a whole batch is another method: here both kinds of input occur beside each other."""
    model = build(teacher_forcing=0.5).train()
    source = torch.randint(4, SIZE, (1, 5)).expand(200, 5)
    target = torch.randint(4, SIZE, (1, 3)).expand(200, 3).clone()
    target[:, 0] = BOS
    second = model(source, target)[:, 1].detach()
    groups = second.round(decimals=4).unique(dim=0, return_counts=True)[1]
    assert len(groups) == 2
    assert 60 < int(groups[0]) < 140


def test_the_first_state_comes_from_every_layer_and_direction() -> None:
    model = build(encoder_layers=2, decoder_layers=3)
    memory = model.encode(inputs()[0])
    state = model.start(memory)
    assert state.hidden.shape == (3, 3, 16)
    assert state.cell is None
    assert torch.all(state.feed == 0)
    for parameter in model.parameters():
        parameter.grad = None
    state.hidden.sum().backward()
    untouched = [name for name, p in model.encoder.named_parameters() if p.grad is None]  # type: ignore[operator, union-attr]
    assert untouched == []


def test_dropout_is_drawn_in_training_only() -> None:
    model = build_model(gru(dropout=0.5, encoder_layers=2, decoder_layers=2), SIZE, SIZE)
    source, target = inputs()
    assert not torch.equal(model.train()(source, target), model(source, target))
    assert torch.equal(model.eval()(source, target), model(source, target))
