"""Real architectures, small and with random weights."""

from __future__ import annotations

import torch

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel

ARCHITECTURES: dict[str, ModelSettings] = {
    "transformer": TransformerSettings(
        hidden_size=8, ff_size=8, num_heads=2, encoder_layers=1, decoder_layers=1, dropout=0.0
    ),
    "gru": RNNSettings(hidden_size=8, embedding_size=8, dropout=0.0),
}


def random_model(kind: str, size: int, seed: int = 1) -> Seq2SeqModel:
    """A model of `size` tokens in eval mode, whose distributions are far from uniform."""
    torch.manual_seed(seed)
    model = build_model(ARCHITECTURES[kind], size, size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model
