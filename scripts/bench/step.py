"""Training speed of one process: precision, allocator and threads against the plain choice, interleaved in one run.

    python scripts/bench/step.py SOURCE TARGET [--preset gru] [--rounds 3] [key=value ...]

Each round times every variant in a process of its own (20 updates after 8): drifts of the machine hit all alike;
printed are medians of target tokens/s and their ratio to the first variant.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = {
    "fp32": ("fp32", False, 1),
    "fp32, pages kept": ("fp32", True, 1),
    "bf16": ("bf16", False, 1),
    "bf16, pages kept": ("bf16", True, 1),
    "bf16, pages kept, 2 threads": ("bf16", True, 2),
}
WARM, COUNTED = 8, 20


def measure(precision_name: str, keep_pages: bool, threads: int, settings: list[str]) -> float:
    """Target tokens/s of one variant."""
    import torch

    from seq2seq.config import load_config
    from seq2seq.data.batch_plan import Cursor
    from seq2seq.data.prepare import prepare
    from seq2seq.models import build_model
    from seq2seq.optimization.optimizers import build_optimizer
    from seq2seq.optimization.precision import Precision, choose_precision
    from seq2seq.runs.train import training_data
    from seq2seq.system import keep_freed_memory
    from seq2seq.training.step import LossModule, train_step

    if keep_pages:
        keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = load_config([], settings)
    cache = Path(tempfile.gettempdir()) / "seq2seq-bench"
    prepared = prepare(config.data, config.tokenizer, cache=cache)
    model = build_model(config.model, prepared.tokenizers.source.size, prepared.tokenizers.target.size).train()
    device = torch.device("cpu")
    precision = Precision(choose_precision(precision_name, device), device)  # type: ignore[arg-type]
    optimizer = build_optimizer(model, config.training.optimizer)
    losses = LossModule(model, label_smoothing=0.1)
    started, tokens = time.perf_counter(), 0
    for number, (batch, _) in enumerate(training_data(config, prepared, 4096).epoch(Cursor())):
        if number == WARM:
            started, tokens = time.perf_counter(), 0
        if number == WARM + COUNTED:
            break
        report = train_step(losses, [batch], optimizer, precision, max_gradient_norm=1.0)
        tokens += report.target_tokens
    return tokens / (time.perf_counter() - started)


def main() -> None:
    """Parse, run every variant in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--preset", default="transformer-tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    data = f"data.train=[{{source: {options.source}, target: {options.target}}}]"
    if options.variant:
        print(measure(*VARIANTS[options.variant], [f"preset={options.preset}", data, *options.settings]))
        return
    speeds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--variant", name], capture_output=True, text=True, check=True
            )
            speeds[name].append(float(done.stdout.split()[-1]))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    first = next(iter(medians.values()))
    print(f"{options.preset}: target tokens/s, ratio to the first, range over {options.rounds} rounds")
    for name, value in medians.items():
        print(f"{name:30} {value:8,.0f} {value / first:6.2f}   {min(speeds[name]):,.0f}-{max(speeds[name]):,.0f}")


if __name__ == "__main__":
    main()
