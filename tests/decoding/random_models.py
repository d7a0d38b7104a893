"""Real architectures, small and with random weights."""

from __future__ import annotations

import torch

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokenizers.pair import TokenizerPair

ARCHITECTURES: dict[str, ModelSettings] = {
    "transformer": TransformerSettings(
        hidden_size=8, ff_size=8, num_heads=2, encoder_layers=1, decoder_layers=1, dropout=0.0
    ),
    "gru": RNNSettings(hidden_size=8, embedding_size=8, dropout=0.0),
}


def random_weights(settings: ModelSettings, size: int, *, seed: int, std: float) -> Seq2SeqModel:
    """A model of `size` tokens, in training mode; large weights make distributions that are far from uniform."""
    torch.manual_seed(seed)
    model = build_model(settings, size, size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model


def random_model(kind: str, size: int, seed: int = 1) -> Seq2SeqModel:
    """One of the architectures, in eval mode."""
    return random_weights(ARCHITECTURES[kind], size, seed=seed, std=0.7).eval()


def sharp(settings: ModelSettings, tokenizers: TokenizerPair) -> Seq2SeqModel:
    """Initial weights, made larger so that choices are clear; in training mode, as a trainer hands it over."""
    torch.manual_seed(3)
    model = build_model(settings, tokenizers.source.size, tokenizers.target.size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model
