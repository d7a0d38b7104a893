"""OpenNMT-py 3.5.1 and eole 0.6.4, its successor: one log format, two configuration formats.

Both import fasttext (and OpenNMT-py spacy) at their start for filters that nobody uses here: empty modules stand in.
OpenNMT-py asks for an older torch, but trains with 2.13; only its loading of checkpoints fails.
"""

from __future__ import annotations

import json
import re
from typing import Any

from peers.system import (
    BATCH_TOKENS,
    DROPOUT,
    FF_WIDTH,
    HEADS,
    LAYERS,
    LEARNING_RATE,
    LOG_EVERY,
    SMOOTHING,
    VOCABULARY,
    WIDTH,
    Job,
    System,
    Window,
)

_LINE = re.compile(r"Step (\d+)/ *\d+;.*?(\d+)/ *(\d+) tok/s")
_POOL = 30_000  # pairs that are sorted by length together: about the whole corpus
_NEVER = 10_000_000


def _windows(job: Job, output: str) -> list[Window]:
    return [Window(int(step), float(target)) for step, _, target in _LINE.findall(output)]


def _data(job: Job) -> dict[str, Any]:
    corpus = {"path_src": str(job.corpus.source), "path_tgt": str(job.corpus.target), "transforms": []}
    return {
        "data": {"corpus": corpus},
        "src_vocab": str(job.corpus.vocabulary),
        "tgt_vocab": str(job.corpus.vocabulary),
        "share_vocab": True,
        "src_vocab_size": VOCABULARY,
        "tgt_vocab_size": VOCABULARY,
        "vocab_size_multiple": 1,
        "save_data": str(job.folder / "data"),
        "overwrite": True,
        "seed": 1,
        "report_every": LOG_EVERY,
    }


def _training(job: Job) -> dict[str, Any]:
    return {
        "world_size": 1,
        "gpu_ranks": [],
        "train_steps": job.updates,
        "save_checkpoint_steps": _NEVER,
        "valid_steps": _NEVER,
        "warmup_steps": 1000,
        "batch_type": "tokens",
        "batch_size": BATCH_TOKENS,
        "batch_size_multiple": 1,
        "bucket_size": _POOL,
        "num_workers": 0,
        "accum_count": [1],
        "normalization": "tokens",
        "optim": "adam",
        "adam_beta2": 0.98,
        "learning_rate": LEARNING_RATE[job.kind],
        "max_grad_norm": 1.0,
        "label_smoothing": SMOOTHING,
        "dropout": [DROPOUT],
        "attention_dropout": [DROPOUT if job.kind == "transformer" else 0.0],
    }


def _opennmt(job: Job) -> list[str]:
    if job.kind == "transformer":
        model: dict[str, Any] = {
            "encoder_type": "transformer",
            "decoder_type": "transformer",
            "enc_layers": LAYERS,
            "dec_layers": LAYERS,
            "heads": HEADS,
            "transformer_ff": FF_WIDTH,
            "position_encoding": True,
            "max_relative_positions": 0,
            "add_qkvbias": True,
            "add_ffnbias": True,
        }
    else:
        model = {
            "encoder_type": "brnn",
            "decoder_type": "rnn",
            "rnn_type": "GRU",
            "enc_layers": 1,
            "dec_layers": 1,
            "global_attention": "mlp",
            "input_feed": 1,
            "bridge": True,
        }
    config = {
        **_data(job),
        **_training(job),
        **model,
        "hidden_size": WIDTH,
        "word_vec_size": WIDTH,
        "share_embeddings": True,
        "share_decoder_embeddings": True,
        "param_init": 0.0,
        "param_init_glorot": True,
        "model_dtype": "fp32",
        "save_model": str(job.folder / "model"),
    }
    return [str(job.python.parent / "onmt_train"), "-config", _written(job, config)]


def _eole(job: Job) -> list[str]:
    shared = {"share_embeddings": True, "share_decoder_embeddings": True, "hidden_size": WIDTH}
    if job.kind == "transformer":
        positions = {"position_encoding": True, "position_encoding_type": "SinusoidalInterleaved"}
        model: dict[str, Any] = {
            "architecture": "transformer",
            "layers": LAYERS,
            "heads": HEADS,
            "transformer_ff": FF_WIDTH,
            "mlp_activation_fn": "relu",
            "add_qkvbias": True,
            "add_final_linear_bias": True,
            "add_ffnbias": True,
            "position_encoding_type": "SinusoidalInterleaved",
            "embeddings": {"word_vec_size": WIDTH, **positions},
        }
    else:
        layer = {"layers": 1, "hidden_size": WIDTH}
        model = {
            "architecture": "rnn",
            "rnn_type": "GRU",
            "bridge": True,
            "layers": 1,
            "word_vec_size": WIDTH,
            "encoder": {"encoder_type": "brnn", **layer},
            "decoder": {"decoder_type": "rnn", "global_attention": "mlp", **layer},
        }
    training = {
        **_training(job),
        "model_path": str(job.folder / "model"),
        "param_init_method": "xavier_uniform",
        "compute_dtype": "fp32",
        "log_attention_entropy": False,  # on by default, and costs a second attention
    }
    config = {**_data(job), "training": training, "model": {**shared, **model}}
    return [str(job.python.parent / "eole"), "train", "-config", _written(job, config)]


def _written(job: Job, config: dict[str, Any]) -> str:
    path = job.folder / "config.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
    return str(path)


SYSTEMS = (
    System("opennmt", _opennmt, _windows, environment="opennmt", stubs=("fasttext", "spacy")),
    System("eole", _eole, _windows, environment="eole", stubs=("fasttext",)),
)
