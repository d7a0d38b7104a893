"""Speed of the compiled loops against torch's operators: products with weights, norms, steps of a decoder.

    python scripts/bench/loops.py

One thread; the best of many calls, in turn. The column `torch` is search without the loops: oneDNN for products. The
column `int8` has the loops that multiply 8-bit integers, where the CPU has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from seq2seq.config.model import TransformerSettings
from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compiled_transformer import CompiledNorm, pack_for_search
from seq2seq.kernels.packed_linear import PackedLinear
from seq2seq.models import build_model
from seq2seq.models.interface import Memory, Seq2SeqModel, Stepped
from seq2seq.models.linear import Linear
from seq2seq.system import keep_freed_memory

SHAPES = ((128, 128), (128, 384), (256, 128), (128, 8000), (512, 512), (512, 2048), (2048, 512))
ROWS = (4, 16, 64, 128)


def report(name: str, calls: list[Callable[[], object]], operations: int = 0) -> None:
    """Print one line of the table: torch, the loops, and those of integers where there are any."""
    least = [float("inf")] * len(calls)
    for _ in range(200):
        for place, call in enumerate(calls):
            begin = time.perf_counter()
            call()
            least[place] = min(least[place], (time.perf_counter() - begin) * 1e6)
    speed = f"{operations / least[1] / 1e3:8.0f}" if operations else " " * 8
    integers = f" {least[2]:10.1f} {least[1] / least[2]:8.2f}" if len(least) > 2 else ""
    print(f"{name:34} {least[0]:10.1f} {least[1]:10.1f} {least[0] / least[1]:8.2f} {speed}{integers}", flush=True)


def first_step(model: Seq2SeqModel, tokens: torch.Tensor, memory: Memory) -> Stepped:
    """The first step of a search."""
    return model.step(tokens, memory, model.start(memory))


def main() -> None:
    """Print the table."""
    reason = compiling.load()
    kernels = compiling.loaded()
    if kernels is None:
        raise SystemExit(f"no loops here: {reason}")
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print(f"{'':34} {'torch, us':>10} {'loops, us':>10} {'times':>8} {'GFLOP/s':>8} {'int8, us':>10} {'times':>8}")
    types = (torch.float32, torch.int8) if compiling.int8_fault() is None else (torch.float32,)
    with torch.inference_mode():
        for inner, outer in SHAPES:
            layer = Linear(inner, outer)
            layers = [PackedLinear(layer), *(PackedLinear(layer, dtype, kernels) for dtype in types)]
            for rows in ROWS:
                x = torch.randn(rows, inner)
                calls = [partial(packed, x) for packed in layers]
                report(f"{rows} rows, {inner} x {outer}", calls, 2 * rows * inner * outer)
        norm, x = nn.LayerNorm(128), torch.randn(128, 128)
        compiled_norm = CompiledNorm(norm, kernels)
        report("layer norm of 128 x 128", [lambda: norm(x), lambda: compiled_norm(x)])
        settings = TransformerSettings(hidden_size=128, ff_size=256, encoder_layers=4, decoder_layers=4)
        model = build_model(settings, 99, 99).eval()
        models = [pack_for_search(model, torch.float32, None)]
        models += [pack_for_search(model, dtype, kernels) for dtype in types]
        for sentences in (1, 16, 128):
            source, tokens = torch.randint(4, 99, (sentences, 15)), torch.full((sentences,), 7)
            steps = [partial(first_step, each, tokens, each.encode(source)) for each in models]
            report(f"first step, 4 layers, {sentences} sentences", steps)


if __name__ == "__main__":
    main()
