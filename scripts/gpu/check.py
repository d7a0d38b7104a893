"""What a GPU does: steps without a wait, utilisation, decoding, BLEU within a minute; prints a block of Markdown.

    scripts/gpu/check.sh [FOLDER]             the tests marked gpu, then this script
    python scripts/gpu/check.py --device cpu --quick

FOLDER holds Multi30k as text: train.de, train.en, val.de, val.en, test_2016_flickr.de and .en; without it the last part
is left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from cost import CARDS, YARDSTICK, batch_of, count, table

from seq2seq.config import OptimizerSettings, load_config
from seq2seq.data.batches import Batch
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.devices import choose_device
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, choose_precision
from seq2seq.training.step import LossModule, train_step

QUICK = ["preset=transformer-tiny"]


class Training:
    """One model with its optimizer, stepping over one batch."""

    def __init__(self, settings: list[str], batch: Batch, vocabulary: int, device: torch.device) -> None:
        torch.manual_seed(1)
        self.model: Seq2SeqModel = (
            build_model(load_config([], settings).model, vocabulary, vocabulary).to(device).train()
        )
        self.precision = Precision(choose_precision("auto", device), device)
        self.optimizer = build_optimizer(self.model, OptimizerSettings())
        self.losses = LossModule(self.model, label_smoothing=0.1)
        self.batch = batch.to(device)

    def step(self) -> None:
        """One update."""
        train_step(self.losses, [self.batch], self.optimizer, self.precision, max_gradient_norm=1.0)

    def seconds(self, steps: int) -> float:
        """Seconds of one update, over `steps` of them."""
        wait(self.precision.device)
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait(self.precision.device)
        return (time.perf_counter() - begin) / steps


def wait(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def no_waits(device: torch.device) -> Iterator[None]:
    """Context in which CUDA raises RuntimeError where the host waits for it."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def card_of(device: torch.device) -> str | None:
    """The row of `CARDS` for this GPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((card for card in CARDS if card.lower() in name.lower()), None)


def training_rows(device: torch.device, quick: bool) -> list[tuple[str, str]]:
    """Speed and utilisation of the yardstick, beside what the cost model expects."""
    vocabulary, settings = (1000, QUICK) if quick else (32_000, YARDSTICK)
    batch = batch_of(500 if quick else 25_000, 10 if quick else 30, vocabulary)
    training = Training(settings, batch, vocabulary, device)
    for _ in range(2 if quick else 8):
        training.step()
    with no_waits(device):
        training.step()
    seconds = training.seconds(2 if quick else 20)
    calls, weights = count(settings, batch, vocabulary, training.precision.dtype)
    flops = sum(call[1] for call in calls)
    rows = [
        ("yardstick", f"{weights:,} weights, {batch.tokens:,} target tokens a step, {training.precision.choice.name}"),
        ("step", f"{1e3 * seconds:.1f} ms, {batch.tokens / seconds:,.0f} target tokens/s, no wait within it"),
        ("products", f"{flops / seconds / 1e12:.2f} TFLOP/s"),
    ]
    if (name := card_of(device)) is not None:
        expected = sum(cost.seconds for cost in table(calls, CARDS[name]).values())
        used = flops / seconds / CARDS[name].flops
        rows.append(("utilisation", f"{used:.0%} of {name}; {flops / expected / CARDS[name].flops:.0%} expected"))
    if device.type == "cuda":
        rows.append(("memory", f"{torch.cuda.max_memory_reserved(device) / 2**30:.1f} GiB"))
    return rows


def decoding_rows(device: torch.device, quick: bool) -> list[tuple[str, str]]:
    """Tokens per second of search with random weights."""
    vocabulary, settings, lines = (1000, QUICK, 4) if quick else (32_000, YARDSTICK, 256)
    torch.manual_seed(1)
    model = build_model(load_config([], settings).model, vocabulary, vocabulary).to(device).eval()
    ids = torch.randint(4, vocabulary, (lines, 25)).tolist()
    sentences = [Sentence(row) for row in ids]
    rows = []
    for beam in (1, 5):
        for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
            engine = NativeEngine(model, device, precision)
            options = SearchOptions(beam_size=beam, max_length_ratio=0.01, max_length_offset=25)
            engine.search(sentences[:2], options)
            wait(device)
            begin = time.perf_counter()
            found = engine.search(sentences, options)
            wait(device)
            tokens = sum(len(hypotheses[0].tokens) + 1 for hypotheses in found)
            speed = tokens / (time.perf_counter() - begin)
            rows.append((f"search, beam {beam}, {precision}", f"{speed:,.0f} tokens/s, {lines} sentences at once"))
    return rows


def training_run_rows(folder: Path, device: torch.device, quick: bool) -> list[tuple[str, str]]:
    """BLEU of a model of Multi30k trained for a minute."""
    run = Path("runs/gpu-check")
    command = [sys.executable, "-m", "seq2seq", "train", "-o", str(run)]
    for option, file in (("source", "train.de"), ("target", "train.en")):
        command += [f"--{option}", str(folder / file)]
    for option, file in (("valid", "val"), ("test", "test_2016_flickr")):
        command += [part for side in ("de", "en") for part in (f"--{option}", str(folder / f"{file}.{side}"))]
    minutes = 0.2 if quick else 1
    subprocess.run([*command, f"--budget={minutes}m", f"device={device.type}"], check=True)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    score = results["test"]["metrics"][0]
    return [
        (
            "Multi30k de-en",
            f"{score['value']:.2f} BLEU after {minutes} minutes of training ({results['steps']:,} steps)",
        )
    ]


def main() -> None:
    """Measure and print the block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models, to try the script itself")
    options = parser.parse_args()
    device = choose_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
    rows = [("device", f"{name}, torch {torch.__version__}")]
    rows += training_rows(device, options.quick) + decoding_rows(device, options.quick)
    if options.folder is not None:
        rows += training_run_rows(options.folder, device, options.quick)
    print(f"\n## {time.strftime('%Y-%m-%d')}: scripts/gpu/check.sh\n\n| | |\n|---|---|")
    for row in rows:
        print("| {} | {} |".format(*row))


if __name__ == "__main__":
    main()
