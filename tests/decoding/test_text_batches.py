"""What makes batches cheap changes no result."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import SearchOptions, Sentence
from tests.decoding.random_models import ARCHITECTURES, random_model
from tests.decoding.tiny_models import RecurrentModel, find, random_source


def test_batches_shrink_to_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of rows costs a CPU new kernels (0.4 ms a layer's shape), more than the rows that are spared."""
    model = RecurrentModel(9, seed=3)
    sizes: list[int] = []
    step = model.step

    def counted(tokens: Tensor, *rest: Any, **options: Any) -> Any:
        sizes.append(len(tokens))
        return step(tokens, *rest, **options)

    monkeypatch.setattr(model, "step", counted)
    source = random_source(60, 9, seed=1, longest=20)
    options = {"beam_size": 1, "max_length_ratio": 2.0, "max_length_offset": 1}
    together = find(model, source, **options)
    assert sizes[0] == 60
    assert {size for size in sizes if size < 60} <= {1, 2, 4, *range(8, 60, 8)}
    assert len(set(sizes)) > 2
    alone = [find(model, source[place : place + 1], **options)[0] for place in range(60)]
    assert [found[0].tokens for found in together] == [found[0].tokens for found in alone]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_weights_put_in_order_once_are_let_go(kind: str) -> None:
    """Workers put the weights in oneDNN's order once and not for each batch; a copy must not outlive its time."""
    model = random_model(kind, 12)
    engine, sentences, options = NativeEngine(model, torch.device("cpu")), [Sentence([5, 6, 7])], SearchOptions(3)
    plain = engine.search(sentences, options)
    with engine.unchanged():
        assert engine.search(sentences, options) == plain == engine.search(sentences, options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    assert engine.search(sentences, options)[0][0].score != plain[0][0].score
