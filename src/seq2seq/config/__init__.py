"""Settings of a run, and the functions that load them."""

from seq2seq.config.load import config_to_yaml, load_config, parse_documents
from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.config.settings import (
    CleaningSettings,
    Config,
    DataSettings,
    DecodingSettings,
    OptimizerSettings,
    ScheduleSettings,
    TokenizerSettings,
    TrainingSettings,
)
from seq2seq.config.sources import Source

__all__ = [
    "CleaningSettings",
    "Config",
    "DataSettings",
    "DecodingSettings",
    "ModelSettings",
    "OptimizerSettings",
    "RNNSettings",
    "ScheduleSettings",
    "Source",
    "TokenizerSettings",
    "TrainingSettings",
    "TransformerSettings",
    "config_to_yaml",
    "load_config",
    "parse_documents",
]
