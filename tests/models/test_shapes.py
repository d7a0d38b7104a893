"""The shapes in the annotations of seq2seq.models are those of the tensors."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from tests.models.model_configurations import CONFIGURATIONS, SOURCE_SIZE, TARGET_SIZE

from seq2seq.models import build_model
from seq2seq.models.interface import log_probabilities
from seq2seq.special_tokens import BOS

pytestmark = pytest.mark.usefixtures("executed_shapes")
SOURCE = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0], [9, 10, 2, 0]])
TARGET = torch.tensor([[1, 5, 6, 7, 8], [1, 9, 0, 0, 0], [1, 5, 5, 0, 0]])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_call_keeps_its_annotations(name: str) -> None:
    model = build_model(CONFIGURATIONS[name], SOURCE_SIZE, TARGET_SIZE)
    model.output(model(SOURCE, TARGET)).sum().backward()
    model.eval()
    with torch.inference_mode():
        memory = model.encode(SOURCE)
        assert log_probabilities(model, model.decode(TARGET, memory).hidden).shape == (3, 5, TARGET_SIZE)
        state, tokens = model.start(memory), torch.full((3,), BOS)
        stepped = model.step(tokens, memory, state, with_attention=True)
        state = model.select(stepped.state, torch.tensor([[0, 0], [1, 1], [2, 2]]))
        model.step(torch.full((6,), 5), memory, state)


def test_another_shape_is_refused() -> None:
    model = build_model(CONFIGURATIONS["transformer"], SOURCE_SIZE, TARGET_SIZE)
    with pytest.raises(TypeCheckError):
        model(SOURCE[0], TARGET)
