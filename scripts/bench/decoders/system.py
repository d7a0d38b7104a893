"""The rows of the table: which loop runs in which environment, with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """One row of the table."""

    name: str
    loop: str
    """File under `loops/`, without its ending; `command` runs `seq2seq translate` itself."""
    environment: str | None = None
    """Name of the environment (`peers/NAME.txt`); None runs in the interpreter of `decode.py`."""
    stubs: tuple[str, ...] = ()
    """As in `peers.system.System`."""
    batch: int = 128
    """Sentences at once, where the loop makes batches."""
    processes: int = 1
    """Copies of the decoder side by side, each with its share of the lines."""
    threads: int | None = None
    """Of each process; by default the threads asked for, divided among the processes."""
    lines: int | None = None
    """Of each text at most, for those that would take an hour."""
    export: str | None = None
    """`run_ours` on what `seq2seq export --format ctranslate2` writes with this quantization."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further ones of the loop."""


def _ctranslate2(name: str, compute_type: str, *, workers: int, threads: int, tokens: int) -> Decoder:
    options = {"compute_type": compute_type, "workers": workers, "tokens": tokens}
    # It is part of eole's environment. Batches of 512 to 4,096 tokens were tried for two workers.
    return Decoder(name, "run_ctranslate2", "eole", stubs=("fasttext",), threads=threads, options=options)


_OPENNMT = ("fasttext", "spacy")

DECODERS = (
    Decoder("ours", "run_ours"),
    Decoder("ours, shortlist", "run_ours", options={"load": {"shortlist": True}}),
    Decoder("ours, int8", "run_ours", options={"load": {"precision": "int8"}}),
    Decoder("ours, int8, shortlist", "run_ours", options={"load": {"precision": "int8", "shortlist": True}}),
    Decoder("ours, bf16", "run_ours", options={"load": {"precision": "bf16"}}),
    Decoder("ours, one process", "run_ours", options={"load": {"workers": 1}}),
    Decoder("ours, ctranslate2 engine", "run_ours", export="float32"),
    Decoder("ours, ctranslate2 engine, int8", "run_ours", export="int8"),
    Decoder("ours, the command", "command"),
    _ctranslate2("ctranslate2, 2 workers", "float32", workers=2, threads=1, tokens=1024),
    _ctranslate2("ctranslate2, 2 threads", "float32", workers=1, threads=2, tokens=2048),
    _ctranslate2("ctranslate2, int8, 2 workers", "int8", workers=2, threads=1, tokens=512),
    _ctranslate2("ctranslate2, int8, 2 threads", "int8", workers=1, threads=2, tokens=1024),
    Decoder("opennmt", "run_opennmt", "opennmt", stubs=_OPENNMT),
    Decoder("opennmt, 2 processes", "run_opennmt", "opennmt", stubs=_OPENNMT, processes=2),
    Decoder("eole", "run_eole", "eole", stubs=("fasttext",)),
    Decoder("huggingface", "run_huggingface", "huggingface"),
    Decoder("joeynmt", "run_joeynmt", "joeynmt", lines=200),
)
