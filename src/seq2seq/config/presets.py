"""Named starting points: `preset: NAME` in a config. A preset is plain settings; every key can be overridden."""

from __future__ import annotations

from typing import Any


def _demo(model: dict[str, Any], *, max_steps: int) -> dict[str, Any]:
    """The built-in task, sized for a minute on two CPU cores."""
    return {
        "data": {
            "source_language": "en",
            "target_language": "de",
            "train": [{"builtin": "demo", "split": "train"}],
            "valid": [{"builtin": "demo", "split": "valid"}],
            "test": [{"builtin": "demo", "split": "test"}],
        },
        # The words of the task are entries; invented words, which occur once on each side, teach to copy unknown ones.
        "tokenizer": {"kind": "wordpunct", "vocabulary_size": 3000, "min_frequency": 3},
        "decoding": {"replace_unknown": True},
        "model": model,
        "training": {
            # A short run needs many updates, hence small batches; regular text needs no dropout.
            "batch_size": 1024,
            "max_steps": max_steps,
            "label_smoothing": 0.05,
            "validate_every": max_steps // 2,
            "log_every": 50,
            "average_checkpoints": 1,
            "optimizer": {"learning_rate": 4e-3},
            "schedule": {"kind": "wsd", "warmup_steps": 50, "decay_fraction": 0.7},
        },
    }


PRESETS: dict[str, dict[str, Any]] = {
    "transformer-tiny": {  # up to some 50,000 pairs
        "tokenizer": {"vocabulary_size": 6000},
        "model": {
            "kind": "transformer",
            "hidden_size": 192,
            "ff_size": 768,
            "encoder_layers": 4,
            "decoder_layers": 2,
            "num_heads": 4,
            "dropout": 0.3,
            "attention_dropout": 0.1,
        },
        "training": {"batch_size": 4096, "optimizer": {"learning_rate": 3e-3}},
    },
    "transformer-small": {  # up to a few hundred thousand pairs
        "tokenizer": {"vocabulary_size": 16000},
        "model": {
            "kind": "transformer",
            "hidden_size": 320,
            "ff_size": 1280,
            "encoder_layers": 6,
            "decoder_layers": 3,
            "num_heads": 5,
            "dropout": 0.2,
        },
        "training": {"batch_size": 6144, "max_steps": 60_000, "optimizer": {"learning_rate": 1.5e-3}},
    },
    "transformer-base": {  # millions of pairs, a GPU (Vaswani et al. 2017, pre-norm)
        "tokenizer": {"vocabulary_size": 32000},
        "model": {
            "kind": "transformer",
            "hidden_size": 512,
            "ff_size": 2048,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "num_heads": 8,
            "dropout": 0.1,
        },
        "training": {
            "batch_size": 25_000,
            "max_steps": 100_000,
            "validate_every": 2000,
            "optimizer": {"learning_rate": 7e-4},
            "schedule": {"warmup_steps": 4000},
        },
    },
    "marian": {  # up to a few hundred thousand pairs; what Marian and transformers' Marian class can hold: post-norm
        "tokenizer": {"vocabulary_size": 16000},
        "model": {
            "kind": "transformer",
            "hidden_size": 256,
            "ff_size": 1024,
            "encoder_layers": 4,
            "decoder_layers": 4,
            "num_heads": 4,
            "norm_position": "post",
            "dropout": 0.2,
        },
        # Post-norm models diverge without a long warm-up (Xiong et al. 2020).
        "training": {
            "batch_size": 6144,
            "max_steps": 60_000,
            "optimizer": {"learning_rate": 1e-3},
            "schedule": {"warmup_steps": 4000},
        },
    },
    "gru": {  # Bahdanau-style attention, up to a few hundred thousand pairs
        "tokenizer": {"vocabulary_size": 6000},
        "model": {
            "kind": "rnn",
            "embedding_size": 256,
            "hidden_size": 256,
            "attention": "additive",
            "layer_norm": True,
            "dropout": 0.3,
        },
        "training": {"batch_size": 4096, "optimizer": {"learning_rate": 2e-3}},
    },
    "demo-transformer": _demo(
        {
            "kind": "transformer",
            "hidden_size": 128,
            "ff_size": 512,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "num_heads": 4,
            "dropout": 0.0,
        },
        max_steps=550,
    ),
    "demo-gru": _demo(
        {
            "kind": "rnn",
            "embedding_size": 128,
            "hidden_size": 192,
            "attention": "additive",
            "dropout": 0.0,
        },
        max_steps=350,
    ),
}
