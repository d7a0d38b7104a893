"""Small models that together use every value of every setting."""

from __future__ import annotations

from typing import Any

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings

SOURCE_SIZE = TARGET_SIZE = 23


def transformer(**changes: Any) -> TransformerSettings:
    base = {"hidden_size": 16, "ff_size": 24, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
    return TransformerSettings(**{**base, "dropout": 0.1, **changes})


def gru(**changes: Any) -> RNNSettings:
    base = {"hidden_size": 16, "embedding_size": 16, "num_heads": 2, "dropout": 0.1}
    return RNNSettings(**{**base, **changes})


CONFIGURATIONS: dict[str, ModelSettings] = {
    "transformer": transformer(),
    "transformer-post": transformer(norm_position="post"),
    "transformer-post-rms-rotary": transformer(norm_position="post", norm="rms_norm", positions="rotary"),
    "transformer-modern": transformer(
        norm="rms_norm", positions="rotary", activation="swiglu", ff_dropout=0.1, attention_dropout=0.1
    ),
    "transformer-learned-gelu": transformer(
        positions="learned", max_positions=12, activation="gelu", tied_embeddings="none"
    ),
    "transformer-wide": transformer(attention="wide", tied_embeddings="target"),
    "transformer-wide-rotary": transformer(attention="wide", positions="rotary", num_heads=3),
    "transformer-shallow-decoder": transformer(encoder_layers=3, decoder_layers=1),
    "gru-additive": gru(),
    "gru-additive-unfed": gru(input_feeding=False, tied_embeddings="none"),
    "gru-none": gru(attention="none", input_feeding=False),
    "gru-dot": gru(attention="dot", tied_embeddings="target"),
    "gru-general-unfed": gru(attention="general", input_feeding=False, layer_norm=True),
    "gru-scaled-dot": gru(attention="scaled_dot", bidirectional=False),
    "gru-multi-head": gru(attention="multi_head", layer_norm=True),
    "gru-multi-head-unfed": gru(attention="multi_head", input_feeding=False, encoder_layers=2),
    "gru-deep": gru(encoder_layers=2, decoder_layers=3, embedding_size=12),
    "gru-deep-unfed": gru(encoder_layers=3, decoder_layers=2, input_feeding=False, attention="dot"),
    "gru-narrow-untied": gru(embedding_size=10, tied_embeddings="none"),
    "gru-sampled": gru(teacher_forcing=0.5),
    "gru-none-sampled": gru(attention="none", input_feeding=False, teacher_forcing=0.5, layer_norm=True),
    "lstm-additive": gru(cell="lstm", decoder_layers=2),
    "lstm-none": gru(cell="lstm", attention="none", input_feeding=False, encoder_layers=2, decoder_layers=2),
    "lstm-general-unfed": gru(cell="lstm", attention="general", input_feeding=False),
    "rnn-general": gru(cell="tanh", attention="general"),
    "rnn-dot-unfed": gru(cell="tanh", attention="dot", input_feeding=False, bidirectional=False),
}

COMPILED = {
    f"compiled-{name}": settings.model_copy(update={"hidden_size": 32})  # the compiled loops know heads of 16
    for name, settings in CONFIGURATIONS.items()
    if isinstance(settings, TransformerSettings)
}
"""Settings of Transformers that are searched by compiled loops."""
