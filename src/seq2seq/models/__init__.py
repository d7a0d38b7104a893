"""Translation models: two architectures under one contract (`interface`)."""

from __future__ import annotations

from typing_extensions import assert_never

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.models.rnn import RNNModel
from seq2seq.models.transformer import TransformerModel


def build_model(settings: ModelSettings, source_size: int, target_size: int) -> Seq2SeqModel:
    """A new model in fp32 on the CPU, initialised from torch's global generator.

    `source_size` and `target_size` are the sizes of the vocabularies. Raises `ConfigError` if they differ under
    `tied_embeddings: all`.
    """
    match settings:
        case TransformerSettings():
            return TransformerModel(settings, source_size, target_size)
        case RNNSettings():
            return RNNModel(settings, source_size, target_size)
        case _:
            assert_never(settings)
