"""Hugging Face transformers: Seq2SeqTrainer with a MarianMTModel from scratch, in fp32 and bf16."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from peers.system import Job, System, Window, json_windows

_LOOP = Path(__file__).parent / "loops" / "marian_mt.py"


def _command(job: Job, *, precision: str) -> list[str]:
    corpus = job.corpus
    files = [str(corpus.source), str(corpus.target), str(corpus.vocabulary)]
    where = ["--folder", str(job.folder / "trainer"), "--precision", precision]
    return [str(job.python), str(_LOOP), *files, *where, "--updates", str(job.updates), "--threads", str(job.threads)]


def _windows(job: Job, output: str) -> list[Window]:
    return json_windows(output)


SYSTEMS = tuple(
    System(
        f"huggingface, {precision}",
        partial(_command, precision=precision),
        _windows,
        kinds=("transformer",),
        environment="huggingface",
    )
    for precision in ("fp32", "bf16")
)
