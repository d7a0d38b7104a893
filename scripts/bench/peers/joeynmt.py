"""JoeyNMT 2.3.0.

Its batches are cut from the shuffled corpus without sorting by length, so that much of each is padding: that is how it
ships. It needs sentencepiece 0.2.0 (its tokenizer calls a method that later ones dropped) and does not know torch's
newer defaults: scheduling by plateau and loading a checkpoint both fail with torch 2.13, and neither happens here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from peers.system import (
    BATCH_TOKENS,
    DROPOUT,
    FF_WIDTH,
    HEADS,
    LAYERS,
    LEARNING_RATE,
    LOG_EVERY,
    LONGEST,
    SMOOTHING,
    VOCABULARY,
    WIDTH,
    Job,
    System,
    Window,
)

_LINE = re.compile(r"Step:\s+(\d+),.*Tokens per Sec:\s+(\d+)")
_SPECIALS = ("<unk>", "<pad>", "<s>", "</s>")
_VALIDATION_PAIRS = 20  # never looked at, but asked for


def _command(job: Job) -> list[str]:
    config = job.folder / "config.yaml"
    config.write_text(json.dumps(_config(job), indent=1), encoding="utf-8")  # JSON is YAML
    return [str(job.python), "-m", "joeynmt", "train", str(config), "--skip-test"]


def _config(job: Job) -> dict[str, Any]:
    data = job.folder / "data"
    data.mkdir()
    for language, path in (("src", job.corpus.source), ("trg", job.corpus.target)):
        text = path.read_text(encoding="utf-8")
        (data / f"train.{language}").write_text(text, encoding="utf-8")
        (data / f"dev.{language}").write_text("".join(text.splitlines(keepends=True)[:_VALIDATION_PAIRS]), "utf-8")
    vocabulary = data / "vocabulary.txt"
    pieces = job.corpus.vocabulary.read_text(encoding="utf-8")
    vocabulary.write_text("".join(token + "\n" for token in _SPECIALS) + pieces, encoding="utf-8")
    return {
        "name": job.kind,
        "joeynmt_version": "2.3.0",
        "model_dir": str(job.folder / "model"),
        "use_cuda": False,
        "random_seed": 1,
        "data": {
            "train": str(data / "train"),
            "dev": str(data / "dev"),
            "dataset_type": "plain",
            "src": _side("src", vocabulary),
            "trg": _side("trg", vocabulary),
            "special_symbols": {
                f"{name}_{what}": value
                for number, name in enumerate(("unk", "pad", "bos", "eos"))
                for what, value in (("token", _SPECIALS[number]), ("id", number))
            },
        },
        "testing": {"beam_size": 1, "batch_size": BATCH_TOKENS, "batch_type": "token", "eval_metrics": ["bleu"]},
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": LEARNING_RATE[job.kind],
            "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": 1000,
            "clip_grad_norm": 1.0,
            "loss": "crossentropy",
            "label_smoothing": SMOOTHING,
            "normalization": "tokens",
            "batch_size": BATCH_TOKENS,
            "batch_type": "token",
            "epochs": 1000,
            "updates": job.updates,
            "validation_freq": 10 * job.updates,
            "logging_freq": LOG_EVERY,
            "early_stopping_metric": "loss",
            "shuffle": True,
            "overwrite": True,
            "print_valid_sents": [0],
            "keep_best_ckpts": 1,
        },
        "model": _model(job),
    }


def _side(language: str, vocabulary: Path) -> dict[str, Any]:
    return {
        "lang": language,
        "level": "word",  # the text is segmented already
        "max_length": LONGEST,
        "lowercase": False,
        "voc_limit": VOCABULARY,
        "voc_min_freq": 1,
        "voc_file": str(vocabulary),
    }


def _model(job: Job) -> dict[str, Any]:
    shared = {
        "initializer": "xavier_uniform",
        "embed_initializer": "xavier_uniform",
        "tied_embeddings": True,
        "tied_softmax": True,
    }
    embeddings = {"embedding_dim": WIDTH, "scale": job.kind == "transformer"}
    if job.kind == "transformer":
        stack = {
            "type": "transformer",
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "hidden_size": WIDTH,
            "ff_size": FF_WIDTH,
            "dropout": DROPOUT,
            "layer_norm": "pre",
            "activation": "relu",
            "embeddings": embeddings,
        }
        return {**shared, "encoder": stack, "decoder": stack}
    cells = {"type": "recurrent", "rnn_type": "gru", "num_layers": 1, "dropout": DROPOUT, "embeddings": embeddings}
    decoder = {
        "hidden_size": WIDTH,
        "hidden_dropout": DROPOUT,
        "input_feeding": True,
        "init_hidden": "bridge",
        "attention": "bahdanau",
    }
    return {
        **shared,
        "encoder": {**cells, "hidden_size": WIDTH // 2, "bidirectional": True},
        "decoder": {**cells, **decoder},
    }


def _windows(job: Job, output: str) -> list[Window]:
    return [Window(int(step), float(speed)) for step, speed in _LINE.findall(output)]


SYSTEMS = (System("joeynmt", _command, _windows, environment="joeynmt"),)
