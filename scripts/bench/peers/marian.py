"""Marian 1.12.42, through pymarian's binary wheel: each CPU thread is a worker that takes its share of the batch.

Transformer only: the first decoder layer of its recurrent model is two cells with the attention between them, which
none of the others has.
"""

from __future__ import annotations

import json
import re

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
    WIDTH,
    Job,
    System,
    Window,
)

_LINE = re.compile(r"Up\. (\d+) .*?([\d.,]+) words/s")


def _command(job: Job) -> list[str]:
    vocabulary = job.folder / "vocabulary.yml"
    pieces = job.corpus.vocabulary.read_text(encoding="utf-8").splitlines()
    lines = (f"{json.dumps(piece)}: {number}\n" for number, piece in enumerate(["</s>", "<unk>", *pieces]))
    vocabulary.write_text("".join(lines), encoding="utf-8")
    options: dict[str, object] = {
        "type": "transformer",
        "model": job.folder / "model.npz",
        "enc-depth": LAYERS,
        "dec-depth": LAYERS,
        "dim-emb": WIDTH,
        "transformer-dim-ffn": FF_WIDTH,
        "transformer-heads": HEADS,
        "transformer-ffn-activation": "relu",
        "transformer-preprocess": "n",
        "transformer-postprocess": "da",
        "transformer-postprocess-top": "n",
        "transformer-dropout": DROPOUT,
        "transformer-dropout-attention": DROPOUT,
        "transformer-dropout-ffn": DROPOUT,
        "label-smoothing": SMOOTHING,
        "cost-type": "ce-mean-words",
        "max-length": LONGEST,
        "mini-batch": 100_000,
        "mini-batch-words": BATCH_TOKENS,
        "mini-batch-round-up": "false",
        "maxi-batch": 1000,
        "cpu-threads": job.threads,
        "workspace": 4000,
        "optimizer": "adam",
        "learn-rate": LEARNING_RATE["transformer"],
        "lr-warmup": 1000,
        "clip-norm": 1,
        "disp-freq": LOG_EVERY,
        "seed": 1,
        "after": f"{job.updates}u",
    }
    return [
        str(job.python.parent / "pymarian"),
        "train",
        *("--train-sets", str(job.corpus.source), str(job.corpus.target)),
        *("--vocabs", str(vocabulary), str(vocabulary)),
        *("--optimizer-params", "0.9", "0.98", "1e-9"),
        *("--tied-embeddings-all", "--sync-sgd", "--overwrite"),
        *(word for name, value in options.items() for word in _option(name, value)),
    ]


def _option(name: str, value: object) -> list[str]:
    return [f"--{name}={value}"] if value in ("true", "false") else [f"--{name}", str(value)]


def _windows(job: Job, output: str) -> list[Window]:
    return [Window(int(step), float(speed.replace(",", ""))) for step, speed in _LINE.findall(output)]


SYSTEMS = (System("marian", _command, _windows, kinds=("transformer",), environment="marian"),)
