"""This package's own run, loaded once, text in and text out; option `load` has arguments of `load`."""

from __future__ import annotations

import time
from pathlib import Path

from common import read_job, read_lines, report


def run() -> None:
    """As `common.main`, but the package does its own segmenting, batching and sharing between processes."""
    from seq2seq.runs.load import load

    job = read_job()
    loaded = load(Path(job.options["run"]), **job.options.get("load", {}))
    ready = time.time()
    seconds: dict[str, float] = {}
    for name, path in job.texts.items():
        lines = read_lines(path, job.lines)
        loaded.translate(lines, beam_size=job.beam, length_penalty=1.0)
        begun = time.perf_counter()
        outputs = loaded.translate(lines, beam_size=job.beam, length_penalty=1.0)
        (job.folder / f"{name}.out").write_text("".join(line + "\n" for line in outputs), encoding="utf-8")
        seconds[name] = time.perf_counter() - begun
    report(job, ready, seconds)


if __name__ == "__main__":
    run()
