"""What the compiled loops gain over torch's operators, one by one: products with weights, norms, a step of a decoder.

    python scripts/bench/loops.py

One thread; the best of many calls, the two in turn. `torch` is what is used without the loops: oneDNN for products.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from seq2seq.config.model import TransformerSettings
from seq2seq.kernels import compile as loading
from seq2seq.models import build_model
from seq2seq.models.layers import LayerNorm
from seq2seq.models.linear import Linear, packed_weights
from seq2seq.system import keep_freed_memory

SHAPES = ((128, 128), (128, 384), (256, 128), (128, 8000), (512, 512), (512, 2048), (2048, 512))
ROWS = (4, 16, 64, 128)


def best(call: Callable[[], object], calls: int = 200) -> tuple[float, float]:
    """Microseconds by torch and by the loops."""
    least = [float("inf"), float("inf")]
    for _ in range(calls):
        for place in (0, 1):
            with loading.in_use() if place else torch.inference_mode():
                begin = time.perf_counter()
                call()
                least[place] = min(least[place], time.perf_counter() - begin)
    return least[0] * 1e6, least[1] * 1e6


def report(name: str, call: Callable[[], object], operations: int = 0) -> None:
    """One line of the table."""
    usual, looped = best(call)
    speed = f" {operations / looped / 1e3:8.0f}" if operations else " " * 9
    print(f"{name:34} {usual:10.1f} {looped:10.1f} {usual / looped:8.2f}{speed}", flush=True)


def main() -> None:
    """Print the table."""
    reason = loading.load()
    if reason:
        raise SystemExit(f"no loops here: {reason}")
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print(f"{'':34} {'torch, us':>10} {'loops, us':>10} {'times':>8} {'GFLOP/s':>8}")
    with torch.inference_mode():
        for inner, outer in SHAPES:
            layer = Linear(inner, outer)
            with packed_weights(layer):
                for rows in ROWS:
                    x = torch.randn(rows, inner)
                    report(
                        f"{rows} rows, {inner} x {outer}", lambda x=x, layer=layer: layer(x), 2 * rows * inner * outer
                    )
        norm, x = LayerNorm(128), torch.randn(128, 128)
        report("layer norm of 128 x 128", lambda: norm(x))
        model = build_model(
            TransformerSettings(hidden_size=128, ff_size=256, encoder_layers=4, decoder_layers=4), 99, 99
        )
        model.eval()
        with packed_weights(model):
            for sentences in (1, 16, 128):
                memory = model.encode(torch.randint(4, 99, (sentences, 15)))
                tokens = torch.full((sentences,), 7)
                report(
                    f"first step, 4 layers, {sentences} sentences",
                    lambda tokens=tokens, memory=memory: model.step(tokens, memory, model.start(memory)),
                )


if __name__ == "__main__":
    main()
