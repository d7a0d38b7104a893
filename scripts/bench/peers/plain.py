"""The yardstick: a plain fp32 PyTorch loop with sorted token batches, as in `loops/plain.py`."""

from __future__ import annotations

from pathlib import Path

from peers.system import Job, System, Window, json_windows

_LOOP = Path(__file__).parent / "loops" / "plain.py"


def _command(job: Job) -> list[str]:
    corpus = job.corpus
    files = [str(corpus.source), str(corpus.target), str(corpus.vocabulary)]
    counts = ["--updates", str(job.updates), "--threads", str(job.threads)]
    return [str(job.python), str(_LOOP), job.kind, *files, *counts]


def _windows(job: Job, output: str) -> list[Window]:
    return json_windows(output)


SYSTEMS = (System("plain", _command, _windows),)
