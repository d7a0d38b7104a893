"""What acts while training only: word dropout, and activations computed again."""

from __future__ import annotations

import pytest
import torch

from seq2seq.config import load_config
from seq2seq.models import build_model
from seq2seq.models.layers import Embedding
from seq2seq.special_tokens import PAD

TINY = {
    "transformer": ["model.hidden_size=16", "model.ff_size=32", "model.encoder_layers=2", "model.decoder_layers=2"],
    "gru": ["model.kind=gru", "model.hidden_size=16", "model.embedding_size=16"],
}


def test_word_dropout_zeroes_whole_embeddings_and_keeps_the_mean() -> None:
    torch.manual_seed(1)
    embedding = Embedding(50, 8, word_dropout=0.25)
    tokens = torch.randint(PAD + 1, 50, (400, 50))
    plain, dropped = embedding.eval()(tokens), embedding.train()(tokens)
    kept = dropped.abs().sum(-1) > 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.75)


@pytest.mark.parametrize("kind", TINY)
def test_word_dropout_reaches_both_sides(kind: str) -> None:
    """With nearly everything dropped, the output of training no longer knows its input."""
    settings = load_config([], [*TINY[kind], "model.dropout=0", "model.word_dropout=0.99"]).model
    torch.manual_seed(1)
    model = build_model(settings, 30, 30)
    source, target = torch.randint(4, 30, (8, 5)), torch.randint(4, 30, (8, 6))
    seen = {}
    for mode in (False, True):
        model.train(mode)
        drops = []
        for embedding in (model.source_embedding, model.target_embedding):
            drops.append(float((embedding(source).abs().sum(-1) == 0).float().mean()))
        seen[mode] = drops
        assert model(source, target).isfinite().all()
    assert max(seen[False]) == 0
    assert min(seen[True]) > 0.8


def test_activation_checkpointing_changes_no_gradient() -> None:
    """Dropout on: the masks of the second computation are those of the first."""
    gradients, losses = [], []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = build_model(load_config([], [*TINY["transformer"], "model.dropout=0.3"]).model, 30, 30).train()
        model.recompute = recompute
        torch.manual_seed(2)
        hidden = model(torch.randint(4, 30, (8, 5)), torch.randint(4, 30, (8, 6)))
        loss = hidden.square().mean() + model.output(hidden).square().mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert torch.equal(*losses)
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


def test_activation_checkpointing_needs_less_memory() -> None:
    kept = []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = build_model(load_config([], [*TINY["transformer"], "model.dropout=0.3"]).model, 30, 30).train()
        model.recompute = recompute
        size = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(torch.randint(4, 30, (8, 20)), torch.randint(4, 30, (8, 20)))
        kept.append(size)
    assert kept[1] < 0.5 * kept[0]
