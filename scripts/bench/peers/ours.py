"""This package: real runs of `seq2seq train`, read from their metrics.jsonl, so that whatever it chooses is counted."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

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
    json_windows,
)

_SOURCES = Path(__file__).resolve().parents[3] / "src"
_MODEL = {
    "transformer": [
        "model.kind=transformer",
        f"model.hidden_size={WIDTH}",
        f"model.ff_size={FF_WIDTH}",
        f"model.num_heads={HEADS}",
        f"model.encoder_layers={LAYERS}",
        f"model.decoder_layers={LAYERS}",
        f"model.dropout={DROPOUT}",
    ],
    "gru": [
        "preset=gru",
        f"model.hidden_size={WIDTH}",
        f"model.embedding_size={WIDTH}",
        "model.layer_norm=false",
        "model.input_feeding=true",
        f"model.dropout={DROPOUT}",
    ],
}


def data_settings(job: Job) -> list[str]:
    """The corpus whole, segmented by the model that segmented it for all."""
    corpus = job.corpus
    files = [{"source": str(corpus.raw_source), "target": str(corpus.raw_target)}]
    return [
        f"data.train={json.dumps(files)}",
        "data.cleaning.drop_duplicates=false",
        "data.cleaning.max_ratio=1000",
        f"data.cleaning.max_tokens={LONGEST}",
        "tokenizer.kind=bpe",
        f"tokenizer.vocabulary_size={VOCABULARY}",
        f"tokenizer.source_model={json.dumps(str(corpus.model))}",
    ]


def variables(job: Job) -> dict[str, str]:
    """This checkout rather than an installed one. OMP_NUM_THREADS is left to the tool."""
    path = os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SEQ2SEQ_CACHE": str(job.corpus.model.parent / "cache")}


def prepare_command(job: Job) -> list[str]:
    """Prepares the data ahead of the measured runs, as the text of the peers is segmented ahead of theirs."""
    return [str(job.python), "-m", "seq2seq", "data", "prepare", *_MODEL[job.kind], *data_settings(job)]


def _command(job: Job, *, settings: tuple[str, ...]) -> list[str]:
    training = [
        f"training.batch_size={BATCH_TOKENS}",
        f"training.label_smoothing={SMOOTHING}",
        f"training.optimizer.learning_rate={LEARNING_RATE[job.kind]}",
        "training.schedule.kind=inverse_sqrt",
        "training.schedule.warmup_steps=1000",
        f"training.max_steps={job.updates}",
        f"training.validate_every={job.updates}",
        f"training.log_every={LOG_EVERY}",
        "training.average_checkpoints=1",
    ]
    chosen = [setting.replace("THREADS", str(job.threads)) for setting in settings]
    run = ["-o", str(job.folder / "run")]
    return [
        *(str(job.python), "-m", "seq2seq", "train"),
        *(*_MODEL[job.kind], *data_settings(job), *training, *chosen, *run),
    ]


def _windows(job: Job, output: str) -> list[Window]:
    metrics = job.folder / "run" / "metrics.jsonl"
    return json_windows(metrics.read_text(encoding="utf-8")) if metrics.exists() else []


def systems(extra: list[str]) -> tuple[System, ...]:
    """The variants, each with the user's further settings."""
    variants: dict[str, tuple[str, ...]] = {
        "ours": (),
        "ours, one process": ("devices=1", "threads=THREADS"),
        "ours, fp32": ("training.precision=fp32",),
    }
    every = [
        System(name, partial(_command, settings=(*settings, *extra)), _windows, variables=variables)
        for name, settings in variants.items()
    ]
    everywhere = ("model.attention_dropout=0.1", "model.ff_dropout=0.1", *extra)
    every.append(
        System(
            "ours, dropout everywhere",
            partial(_command, settings=everywhere),
            _windows,
            kinds=("transformer",),
            variables=variables,
        )
    )
    return tuple(every)
