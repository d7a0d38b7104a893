"""Cost of a training step by its operations: floating-point operations, bytes and the utilisation to expect of a card.

    python scripts/gpu/cost.py [--card H100] [--tokens 25000] [--length 30] [--vocabulary 32000] [key=value ...]
    python scripts/gpu/cost.py --here --tokens 2000 preset=transformer-tiny

A step of the model of the config runs on torch's `meta` device, which computes nothing, while every operation is
counted. An operation takes as long as the slower of its arithmetic and its passes over memory, and at least the time of
a launch. `--here` measures the rates of this CPU instead, and times the same step on it, to hold the model against.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from seq2seq.config import load_config
from seq2seq.data.batches import Batch, collate
from seq2seq.models import build_model
from seq2seq.optimization import loss

YARDSTICK = [
    "preset=transformer-base",
    "model.encoder_layers=6",
    "model.decoder_layers=6",
    "model.hidden_size=512",
    "model.ff_size=2048",
]


class Card(NamedTuple):
    """Rates of a device: dense products per second, bytes per second, seconds of one launch."""

    flops: float
    bandwidth: float
    launch: float


CARDS = {
    "A100": Card(312e12, 2.0e12, 5e-6),
    "H100": Card(989e12, 3.35e12, 4e-6),
    "H200": Card(989e12, 4.8e12, 4e-6),
    "L4": Card(121e12, 0.3e12, 5e-6),
    "RTX 4090": Card(165e12, 1.0e12, 5e-6),
}
"""bf16 products with fp32 sums, as the makers publish them (without sparsity), and their memory."""


class Cost(NamedTuple):
    """One kind of operation."""

    calls: int
    flops: float
    bytes: float
    seconds: float


Call = tuple[str, float, float]
"""Name, floating-point operations and bytes of one operation."""

_FREE = ("_unsafe_view", "empty", "empty_like", "new_empty", "detach")


class _Fused(torch.autograd.Function):
    """A kernel that a GPU has for several operations: one call forward and one backward."""

    @staticmethod
    def forward(ctx: Any, calls: list[Call], name: str, shape: torch.Size, flops: float, *inputs: Tensor) -> Tensor:
        result = inputs[0].new_empty(shape)
        moved = sum(tensor.nbytes for tensor in (result, *inputs))
        calls.append((name, flops, moved))
        ctx.save_for_backward(*inputs)
        ctx.call = calls, (f"{name}_backward", 2.5 * flops, 2.0 * moved)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        calls, call = ctx.call
        calls.append(call)
        return (None, None, None, None, *map(torch.empty_like, ctx.saved_tensors))


class _FusedKernels(TorchFunctionMode):
    """Replaces attention and dropout, which `meta` computes in many operations, by kernels of a GPU."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            query, keys, values = args[:3]
            shape = torch.Size((*query.shape[:-1], values.shape[-1]))
            flops = 4.0 * query.numel() * keys.shape[-2]
            return _Fused.apply(self.calls, "fused_attention", shape, flops, query, keys, values)
        if function in (torch.dropout, F.dropout):
            return _Fused.apply(self.calls, "dropout", args[0].shape, 0.0, args[0])
        return function(*args, **(kwargs or {}))


class _Counting(TorchDispatchMode):
    """Counts every operation inside."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation._overloadpacket.__name__
        count = flop_registry.get(operation._overloadpacket)
        flops = float(count(*args, **(kwargs or {}), out_val=result)) if count else 0.0
        tensors = [value for value in tree_flatten((args, kwargs, result))[0] if isinstance(value, Tensor)]
        is_view = any(
            alias.alias_info is not None and not alias.alias_info.is_write for alias in operation._schema.returns
        )
        if not is_view and name not in _FREE:
            moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.calls.append((name, flops, float(moved)))
        return result


def kind_of(name: str) -> str:
    """The row of the table that an operation belongs to."""
    if name in ("mm", "addmm", "bmm", "baddbmm", "mv", "_linear_pointwise"):
        return "matrix products"
    if "attention" in name:
        return "fused attention"
    if "dropout" in name:
        return "dropout"
    if "norm" in name:
        return "normalisation"
    if "gru" in name or "lstm" in name:
        return "recurrent cells"
    if "embedding" in name or "index" in name or "gather" in name:
        return "rows by index"
    return "passes over memory"


def batch_of(tokens: int, length: int, vocabulary: int) -> Batch:
    """A batch of random pairs of one length."""
    ids = torch.randint(
        4, vocabulary, (2, max(1, tokens // length), length - 1), generator=torch.Generator().manual_seed(1)
    )
    return collate(*(list(side.numpy()) for side in ids))


def step(model: nn.Module, batch: Batch) -> None:
    """Forward and backward pass."""
    hidden = model(batch.source, batch.target_in)
    summed = loss.summed_loss(model.output, hidden, batch.target_out, 0.1, tokens=batch.tokens)  # type: ignore[arg-type]
    summed.loss.backward()


def count(settings: list[str], batch: Batch, vocabulary: int, dtype: torch.dtype) -> tuple[list[Call], int]:
    """Operations of one step, the optimizer's as one pass over its state, and the number of weights."""
    with torch.device("meta"):
        model = build_model(load_config([], settings).model, vocabulary, vocabulary).to(dtype).train()
    weights = sum(parameter.numel() for parameter in model.parameters())
    there = batch.to("meta")
    loss._CHUNK_NUMBERS["meta"] = loss._CHUNK_NUMBERS["cuda"]
    calls: list[Call] = []
    with _FusedKernels(calls), _Counting(calls):
        step(model, there)
    # AdamW in fp32 reads and writes the weight and both moments, and the gradient is read twice: for its norm, too.
    return [*calls, ("adamw", 0.0, weights * 8 * 4.0)], weights


def table(calls: list[Call], card: Card) -> dict[str, Cost]:
    """Costs by kind of operation."""
    totals: dict[str, list[float]] = {}
    for name, flops, moved in calls:
        kind = "optimizer" if name.startswith("adamw") else kind_of(name)
        seconds = max(flops / card.flops, moved / card.bandwidth, card.launch)
        for place, value in enumerate((1, flops, moved, seconds)):
            totals.setdefault(kind, [0.0] * 4)[place] += value
    return {kind: Cost(int(row[0]), *row[1:]) for kind, row in totals.items()}


def rates_here(dtype: torch.dtype) -> Card:
    """Products and copies of this CPU, as torch computes them with all its threads."""

    def best(call: Any) -> float:
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    left, right = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
    source = torch.randn(1 << 24)
    target = torch.empty_like(source)
    small = torch.randn(8)
    flops = 2 * 1024**3 / best(lambda: left @ right)
    return Card(flops, 2 * source.nbytes / best(lambda: target.copy_(source)), best(lambda: small + small))


def seconds_here(settings: list[str], batch: Batch, vocabulary: int) -> float:
    """Seconds of forward and backward pass on this CPU in fp32, the best of three."""
    model = build_model(load_config([], settings).model, vocabulary, vocabulary).train()
    step(model, batch)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        step(model, batch)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def main() -> None:
    """Parse, count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", choices=CARDS, default="H100")
    parser.add_argument("--tokens", type=int, default=25_000, help="target tokens of a batch")
    parser.add_argument("--length", type=int, default=30, help="tokens of a sentence")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--here", action="store_true", help="rates and time of this CPU, in fp32")
    parser.add_argument("settings", nargs="*", default=YARDSTICK)
    options = parser.parse_args()
    dtype = torch.float32 if options.here else torch.bfloat16
    card = rates_here(dtype) if options.here else CARDS[options.card]
    batch = batch_of(options.tokens, options.length, options.vocabulary)
    calls, weights = count(options.settings, batch, options.vocabulary, dtype)
    rows = table(calls, card)
    total = sum(row.seconds for row in rows.values())
    flops = sum(row.flops for row in rows.values())
    name = "this CPU" if options.here else options.card
    print(f"{weights:,} weights, {batch.tokens:,} target tokens, {options.length} a sentence, {name}:")
    print(f"{card.flops / 1e12:.2f} TFLOP/s, {card.bandwidth / 1e9:,.0f} GB/s\n")
    print("| | calls | GFLOP | GB | ms | share |\n|---|---|---|---|---|---|")
    for kind, row in sorted(rows.items(), key=lambda item: -item[1].seconds):
        figures = [f"{row.calls}", f"{row.flops / 1e9:,.0f}", f"{row.bytes / 1e9:.1f}", f"{1e3 * row.seconds:.1f}"]
        print(f"| {' | '.join([kind, *figures, f'{row.seconds / total:.0%}'])} |")
    print(f"\nstep {1e3 * total:.1f} ms, {batch.tokens / total:,.0f} target tokens/s, ", end="")
    print(f"utilisation to expect {flops / card.flops / total:.0%}")
    if options.here:
        expected = sum(row.seconds for kind, row in rows.items() if kind != "optimizer")
        measured = seconds_here(options.settings, batch, options.vocabulary)
        print(f"forward and backward pass: {1e3 * expected:.0f} ms expected, {1e3 * measured:.0f} ms measured")


if __name__ == "__main__":
    main()
