"""What the CPU at hand has: cores, and arithmetic in bf16."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def computes_bf16() -> bool:
    """Whether oneDNN multiplies in bf16 here. Where it does not, torch fails in some layers and is slow in others."""
    import torch  # takes a second or two, which those who only count cores need not wait

    # A private name of torch, looked up with care: without an answer fp32 is the safe one.
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return bool(torch._C._has_mkldnn and supported())
