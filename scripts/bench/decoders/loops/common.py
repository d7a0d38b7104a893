"""What all loops share: the job, the timing, reading neutral weights. Runs in every environment: numpy, sentencepiece.

A loop is `main(load)`, where `load(job)` gives a function from segmented sentences to their translations, both lists of
pieces. The clock runs from text to text: segmenting, translating and joining pieces are counted, starting and loading
are not (the time until a loop is ready is told apart), and neither is a first time through the text, in which memory
grows and kernels are made.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor

PAD, BOS, EOS, UNK = 0, 1, 2, 3
MAX_LENGTH = 100

Translate = Callable[[list[list[str]]], list[list[str]]]


@dataclass
class Job:
    """One measurement, as `decode.py` wrote it."""

    model: Path
    """Neutral weights."""
    folder: Path
    """For files of this process alone."""
    texts: dict[str, Path]
    """Name and file of every text; outputs go to `folder`/NAME.out."""
    lines: int
    """Of each text at most."""
    beam: int
    batch: int
    """Sentences."""
    threads: int
    """Of each process."""
    processes: int
    started: float
    """Wall-clock time at which this process was started."""
    options: dict[str, Any]
    """Further ones of the loop."""

    def shape(self) -> dict[str, int]:
        """Layers, widths and heads."""
        found: dict[str, int] = json.loads((self.model / "shape.json").read_text(encoding="utf-8"))
        return found

    def weights(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Name -> array."""
        with np.load(self.model / "weights.npz") as file:
            return dict(file)

    def vocabulary(self, specials: Sequence[str] = ("<pad>", "<s>", "</s>", "<unk>")) -> list[str]:
        """Pieces in the order of ids, the special ones under the decoder's own names."""
        pieces = (self.model / "vocabulary.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        return [*specials, *pieces[len(specials) :]]


def main(load: Callable[[Job], Translate]) -> None:
    """Run the job of the file named on the command line; print one JSON line for `decode.py`."""
    job = read_job()
    if job.processes == 1:
        report(job, *_work(job, load, None, 0))
        return
    context = multiprocessing.get_context("fork")  # libraries are imported by now, but no thread of theirs runs
    barrier = context.Barrier(job.processes)
    queue = context.Queue()
    workers = [
        context.Process(target=_share, args=(job, load, barrier, number, queue)) for number in range(job.processes)
    ]
    for worker in workers:
        worker.start()
    parts = sorted(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    for name in job.texts:
        outputs = [_outputs(job, name, number).read_text(encoding="utf-8").splitlines() for number, *_ in parts]
        lines = [outputs[i % job.processes][i // job.processes] for i in range(sum(map(len, outputs)))]
        _outputs(job, name, None).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    seconds = {name: max(found[name] for _, _, found in parts) for name in job.texts}
    report(job, max(ready for _, ready, _ in parts), seconds)


def read_job() -> Job:
    """From the file named on the command line."""
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    texts = {name: Path(path) for name, path in data.pop("texts").items()}
    return Job(model=Path(data.pop("model")), folder=Path(data.pop("folder")), texts=texts, **data)


def report(job: Job, ready: float, seconds: dict[str, float]) -> None:
    """The line that `decode.py` reads."""
    print(json.dumps({"ready": ready - job.started, "seconds": seconds}), flush=True)


def _share(job: Job, load: Callable[[Job], Translate], barrier: Any, number: int, queue: Any) -> None:
    queue.put((number, *_work(job, load, barrier, number)))


def _work(job: Job, load: Callable[[Job], Translate], barrier: Any, number: int) -> tuple[float, dict[str, float]]:
    """When this process was ready, and its seconds for its share of every text."""
    processor = SentencePieceProcessor(model_file=str(job.model / "pieces.model"))
    translate = load(job)
    ready = time.time()
    seconds: dict[str, float] = {}
    for name, path in job.texts.items():
        lines = read_lines(path, job.lines)[number :: job.processes]
        translate(processor.encode(lines, out_type=str))
        if barrier is not None:
            barrier.wait()
        begun = time.perf_counter()
        outputs = translate(processor.encode(lines, out_type=str))
        text = "".join(processor.decode(pieces) + "\n" for pieces in outputs)
        _outputs(job, name, number if job.processes > 1 else None).write_text(text, encoding="utf-8")
        seconds[name] = time.perf_counter() - begun
    return ready, seconds


def read_lines(path: Path, most: int) -> list[str]:
    """The first lines, without white space at their ends."""
    return [line.strip() for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")[:most]]


def _outputs(job: Job, name: str, number: int | None) -> Path:
    return job.folder / (f"{name}.out" if number is None else f"{name}.{number}.out")


def batches(rows: Sequence[Sequence[Any]], size: int) -> list[list[int]]:
    """Numbers of rows in batches of this size, the longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def renamed(
    weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]], names: dict[str, str]
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The arrays of all layers and norms under a decoder's names.

    `names` has a neutral name, without its suffix and with N for the layer, and the decoder's, likewise.
    """
    found = {}
    for name, value in weights.items():
        stem, _, suffix = name.rpartition(".")
        if not stem:  # embedding and positions, which every decoder has in its own way
            continue
        parts = stem.split(".")
        number = parts[1] if parts[1].isdigit() else ""
        template = names[".".join("N" if part == number else part for part in parts)]
        found[f"{template.replace('N', number)}.{suffix}"] = value
    return found


def fill(model: Any, arrays: dict[str, np.ndarray[Any, np.dtype[np.float32]]], left: Sequence[str] = ()) -> None:
    """Copy arrays into a torch module's tensors of these names; all but those that end with `left` must be among them.

    Raises:
        ValueError: a tensor has no array, or an array no tensor, or their shapes differ.
    """
    import torch

    tensors = model.state_dict()
    missing = [name for name in tensors if name not in arrays and not name.endswith(tuple(left))]
    if missing or (unknown := [name for name in arrays if name not in tensors]):
        raise ValueError(f"weights missing: {missing}, unknown: {[] if missing else unknown}")
    with torch.no_grad():
        for name, value in arrays.items():
            if tensors[name].shape != value.shape:
                raise ValueError(f"{name}: {tuple(tensors[name].shape)} in the model, {value.shape} given")
            tensors[name].copy_(torch.from_numpy(value))
