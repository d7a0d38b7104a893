"""The device that computes: CPU, CUDA or MPS."""

from __future__ import annotations

import torch

from seq2seq.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    # cuDNN plans attention for every new shape, and batches have thousands of shapes. The other kernels need no plan
    # and are no slower.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(
            f"device: {name} is not a device", hint="auto, cpu, cuda, cuda:N or mps", code="device.unknown"
        )
    devices = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
    if device.type != "cpu" and (device.index or 0) >= devices:
        raise ConfigError(
            f"device: {name} is not there ({devices} {device.type} devices found)",
            hint="device auto",
            code="device.missing",
        )
    return device
