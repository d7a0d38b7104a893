"""Mixed precision: choice by device, loss scaling, and an optimizer step that skips gradients that are not finite."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.errors import ConfigError
from seq2seq.system import computes_bf16

ASYNCHRONOUS = {"cuda"}
"""Kinds of devices that run behind the host: they skip an update that is not finite by themselves, and the host finds
out at the next log line."""

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]


class PrecisionChoice(NamedTuple):
    """A number format, and the reason for it."""

    name: Literal["fp32", "bf16", "fp16"]
    reason: str
    is_measured: bool = False
    """True if products were timed, since another time may lead to another choice."""


def choose_precision(wanted: PrecisionName, device: torch.device) -> PrecisionChoice:
    """Resolve `auto`, and check that the device supports the choice.

    Raises:
        ConfigError: fp16 without CUDA, or bf16 on a GPU or CPU without it.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"precision: fp16 needs a CUDA device, not {device.type}",
            hint="training.precision=auto",
            code="device.precision",
        )
    if wanted == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError("this GPU does not compute in bf16", hint="training.precision=fp16", code="device.precision")
    if wanted == "bf16" and device.type == "cpu" and not computes_bf16():
        raise ConfigError("this CPU does not compute in bf16", hint="training.precision=auto", code="device.precision")
    if wanted != "auto":
        return PrecisionChoice(wanted, "as the config says")
    match device.type:
        case "cuda" if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bf16", "the GPU computes in bf16")
        case "cuda":
            return PrecisionChoice("fp16", "the GPU has no bf16")
        case "cpu" if computes_bf16() and _has_bf16_instructions():
            if bf16_speedup() > _WORTHWHILE:
                return PrecisionChoice("bf16", "the CPU multiplies matrices faster in bf16", is_measured=True)
            return PrecisionChoice("fp32", "bf16 is not much faster on this CPU", is_measured=True)
        case "cpu":
            return PrecisionChoice("fp32", "the CPU has no bf16 matrix instructions")
    return PrecisionChoice("fp32", f"mixed precision is not tried on {device.type}")


def _has_bf16_instructions() -> bool:
    # Private names of torch: without an answer, fp32 is the safe choice.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)


_WORTHWHILE = 1.2
"""Times as fast as in fp32 that products in bf16 must be, since they also need casts."""


@lru_cache(maxsize=1)
def bf16_speedup() -> float:
    """Speed of matrix products in bf16 relative to fp32 on this CPU, at the size of a small model's layers.

    With instructions for bf16 it is 2.5 times (AMD Zen 5) to 7 times (Intel with AMX), but 0.6 times on an Intel Xeon
    whose AMX the virtual machine hides. One thread computes, for 0.1 to 0.3 s; the fastest of five products counts,
    since other programs only ever make one slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        operands = {kind: torch.ones(1024, 512, dtype=kind) for kind in (torch.float32, torch.bfloat16)}
        seconds = dict.fromkeys(operands, float("inf"))
        for round_number in range(6):
            for kind, operand in operands.items():
                begin = time.perf_counter()
                torch.mm(operand, operand.t())
                if round_number:  # oneDNN generates code in the first
                    seconds[kind] = min(seconds[kind], time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.float32] / seconds[torch.bfloat16]


class Precision:
    """Autocast, loss scaling (fp16 only), clipping and the guarded optimizer step."""

    def __init__(self, choice: PrecisionChoice, device: torch.device) -> None:
        self.choice = choice
        self.device = device
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[choice.name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=choice.name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward pass."""
        if self.choice.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients, scaled in fp16."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> Tensor:
        """Unscale, clip and step; returns the gradient norm before clipping, a scalar on the device.

        A norm that is not finite skips the step, which the caller sees in the result; fp16 then also lowers its scale.
        With fused AdamW an asynchronous device decides, without synchronisation.
        """
        self.scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        decides_itself = self.device.type in ASYNCHRONOUS and getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (self.scaler.is_enabled() or decides_itself or bool(torch.isfinite(norm))):
            return norm
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm, foreach=True)
        if decides_itself and not self.scaler.is_enabled():
            _step_where_finite(optimizer, norm)
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        return norm

    def state(self) -> dict[str, float]:
        """State of the loss scaling (fp16): its scale, and the updates since the scale changed."""
        if self.choice.name != "fp16":
            return {}
        scaler_state = self.scaler.state_dict()
        return {"scale": float(scaler_state["scale"]), "updates_at_scale": float(scaler_state["_growth_tracker"])}

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned; ignored without loss scaling."""
        if self.scaler.is_enabled() and "scale" in state:
            updates = int(state.get("updates_at_scale", 0))
            new = {"scale": state["scale"], "_growth_tracker": updates}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **new})


def _step_where_finite(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """A step that the device skips if the norm is not finite, through the flag that GradScaler sets for fused
    optimizers."""
    fused: Any = optimizer
    fused.grad_scale, fused.found_inf = None, (~torch.isfinite(norm)).float()
    try:
        optimizer.step()
    finally:
        del fused.grad_scale, fused.found_inf
