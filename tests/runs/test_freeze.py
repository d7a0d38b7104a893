"""Freezing: what matches, what is refused, and that frozen weights stay."""

from __future__ import annotations

import pytest
import torch

from seq2seq.config import OptimizerSettings, load_config
from seq2seq.errors import ConfigError
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, PrecisionChoice
from seq2seq.runs.fine_tuning import freeze

TINY = [
    "model.hidden_size=8",
    "model.ff_size=16",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.num_heads=2",
]


def tiny(*settings: str) -> Seq2SeqModel:
    torch.manual_seed(1)
    return build_model(load_config([], [*TINY, *settings]).model, 12, 12)


def trainable(model: Seq2SeqModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_patterns_choose_by_name() -> None:
    model = tiny()
    every = [name for name, _ in model.named_parameters()]
    frozen = freeze(model, ["encoder.*", "*norm*"])
    assert frozen == [name for name in every if name.startswith("encoder.") or "norm" in name]
    assert trainable(model) == set(every) - set(frozen)
    assert freeze(tiny(), []) == []


def test_a_tied_matrix_is_frozen_by_any_of_its_names() -> None:
    """named_parameters() knows a tied output projection only as the source embedding."""
    for pattern in ("output.*", "target_embedding.*", "*embedding*"):
        model = tiny("model.tied_embeddings=all")
        assert freeze(model, [pattern]) == ["source_embedding.weight"]
        assert not model.output.weight.requires_grad


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("encodr.*", "encoder.*"), ("encoder", "encoder.*"), ("source_embeding.weight", "source_embedding.weight")],
)
def test_a_pattern_without_a_match_is_refused_with_a_suggestion(pattern: str, hint: str) -> None:
    model = tiny()
    with pytest.raises(ConfigError, match="matches no parameter") as caught:
        freeze(model, ["decoder.*", pattern])
    assert hint in str(caught.value.hint)
    assert trainable(model) == {name for name, _ in model.named_parameters()}


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is left"):
        freeze(tiny(), ["*"])


@pytest.mark.parametrize("kind", ["transformer", "gru"])
@pytest.mark.parametrize("patterns", [["*embedding*"], ["encoder*"], ["[!o]*"]])
def test_frozen_weights_stay_and_the_others_move_as_before(kind: str, patterns: list[str]) -> None:
    """`[!o]*` leaves the output projection alone; an untied one, for a tied one would be frozen with the embedding."""
    options = [f"model.kind={kind}"] if kind == "gru" else []
    tied = "none" if patterns == ["[!o]*"] else "all"
    keep = ["model.hidden_size=8"] if kind == "gru" else TINY
    gradients = []
    for frozen in ([], patterns):
        torch.manual_seed(1)
        model = build_model(
            load_config([], [*keep, *options, f"model.tied_embeddings={tied}", "model.dropout=0"]).model, 12, 12
        )
        names = freeze(model, frozen)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = build_optimizer(model, OptimizerSettings())
        source = torch.randint(4, 12, (3, 5), generator=torch.Generator().manual_seed(1))
        loss = summed_loss(model.output, model(source, source), source, 0.1).loss
        precision = Precision(PrecisionChoice("fp32", ""), torch.device("cpu"))
        precision.backward(loss)
        gradients.append({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})
        precision.step(model, optimizer, None)
        for name, parameter in model.named_parameters():
            assert torch.equal(before[name], parameter) == (name in names), name
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][name])
