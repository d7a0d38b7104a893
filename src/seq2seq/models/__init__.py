"""The translation models: one contract (`interface`), two architectures."""

from __future__ import annotations

from typing_extensions import assert_never

from seq2seq.config.model import GRUSettings, ModelSettings, TransformerSettings
from seq2seq.models.interface import (
    Decoded,
    Memory,
    Seq2SeqModel,
    Stepped,
    keep_rows,
    log_probabilities,
    select_rows,
)
from seq2seq.models.rnn import GRUModel
from seq2seq.models.transformer import TransformerModel


def build_model(settings: ModelSettings, source_size: int, target_size: int) -> Seq2SeqModel:
    """A fresh model in fp32 on the CPU, its weights drawn from torch's global generator.

    `source_size` and `target_size` are the vocabularies' entries. Raises `ConfigError` where
    `tied_embeddings: all` meets two vocabularies of different size.
    """
    match settings:
        case TransformerSettings():
            return TransformerModel(settings, source_size, target_size)
        case GRUSettings():
            return GRUModel(settings, source_size, target_size)
        case _:
            assert_never(settings)


__all__ = [
    "Decoded",
    "GRUModel",
    "Memory",
    "Seq2SeqModel",
    "Stepped",
    "TransformerModel",
    "build_model",
    "keep_rows",
    "log_probabilities",
    "select_rows",
]
