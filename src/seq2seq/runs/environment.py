"""The environment of a run: versions, processor, memory, disks, devices, and the choices made for them.

The same facts head the log of every training. Secrets are left out: variables that may
hold one are only reported as set, and the home folder is `~`.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from seq2seq import allocator
from seq2seq.atomic_files import show_bytes
from seq2seq.config import Config
from seq2seq.console import say
from seq2seq.decoding.engine import FEW_THREADS
from seq2seq.decoding.workers import can_fork
from seq2seq.devices import choose_device
from seq2seq.distributed.placement import place
from seq2seq.errors import UserError
from seq2seq.extras import EXTRAS
from seq2seq.kernels.compile import COMPILING, int8_fault, load
from seq2seq.optimization.precision import PrecisionChoice, choose_precision
from seq2seq.sanitize import redact
from seq2seq.system import available_cores, computes_bf16, main_memory

Facts = dict[str, dict[str, str]]
"""Sections of names and values, in the order of printing."""

_LIBRARIES = ("numpy", "numba", "pyarrow", "datasets", "sentencepiece", "safetensors", "sacrebleu", "pydantic", "typer")
# CPU features that decide speed: vector width, and matrix products in low precision.
_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
_VARIABLES = (
    "SEQ2SEQ_ALLOCATOR",
    "SEQ2SEQ_CACHE",
    "SEQ2SEQ_FAILPOINTS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HTTPS_PROXY",
    "WORLD_SIZE",
)
_NUMBERS = {
    "fp32": "fp32, 32-bit numbers",
    "bf16": "bf16, 16-bit numbers",
    "fp16": "fp16, 16-bit numbers",
    "int8": "int8, 8-bit integers",
}
_MAY_HOLD_SECRETS = ("HF_TOKEN", "HTTPS_PROXY")


def machine_facts(config: Config, cache: Path) -> Facts:
    """All facts about this machine, for a run of `config` whose prepared data are in the folder `cache`."""
    return {
        "versions": _versions(),
        "extras": {extra: _versions_of_extra(packages) for extra, packages in EXTRAS.items()},
        "processor": _processor(),
        "memory": {**dict(_memory()), "allocator": _allocator()},
        "disk": {
            "working folder": _disk(Path.cwd()),
            "cache": f"{shown_path(cache)}: {_disk(cache)}",
        },
        "devices": dict(_devices()),
        "chosen": {**dict(_chosen(config)), "long texts": _long_texts(config)},
        "environment": dict(_environment()),
    }


def log_header(config: Config, precision: PrecisionChoice) -> str:
    """One line of the main facts, for the head of the training log of a run in this precision."""
    cpu = _processor()
    facts = [cpu["cores"], *([cpu["features"]] if cpu["features"] else []), *dict(_memory()).values()]
    facts.append(f"memory from {allocator.loaded() or 'the system'}")
    devices = [text for name, text in _devices() if name != "cpu"]
    chosen = [f"{name} {text}" for name, text in _chosen(config, precision)]
    versions = [f"{name} {text}" for name, text in _versions().items() if name in ("seq2seq", "python", "torch")]
    return "; ".join(
        [", ".join(versions), platform.platform(terse=True), ", ".join(facts), *devices, ", ".join(chosen)]
    )


def shown_path(path: Path) -> str:
    """The path with `~` for the home folder, so that reports do not name the user."""
    path = path.absolute()
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) and path != home else str(path)


def _versions() -> dict[str, str]:
    return {
        "seq2seq": _version("seq2seq"),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        **_versions_of_libraries(),
        "text": f"{sys.getfilesystemencoding()} file names, stdout {getattr(sys.stdout, 'encoding', None)}",
    }


def _versions_of_libraries() -> dict[str, str]:
    return {name: _version(name, importable=name) for name in ("torch", *_LIBRARIES)}


def _version(package: str, importable: str = "") -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed, version unknown" if importable and importlib.util.find_spec(importable) else "not installed"


def _versions_of_extra(packages: Sequence[str]) -> str:
    versions = [_version(package, importable=package) for package in packages]
    if len(packages) == 1:
        return versions[0]
    return ", ".join(f"{package} {text}" for package, text in zip(packages, versions, strict=True))


def _processor() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    lines = [line.partition(":") for line in text.splitlines()]
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}  # of the last core
    flags = (fields.get("flags") or fields.get("features") or "").split()
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": f"{available_cores()} of {os.cpu_count()} cores",
        "features": " ".join(flag for flag in _FLAGS if flag in flags),
        "torch's kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _memory() -> Iterator[tuple[str, str]]:
    memory = main_memory()
    if memory.total is not None and memory.free is not None:
        yield "memory", f"{show_bytes(memory.free)} of {show_bytes(memory.total)} memory free"
    elif memory.total is not None:
        yield "memory", f"{show_bytes(memory.total)} memory"
    if memory.limit is not None:
        yield "limit", f"{show_bytes(memory.limit)} allowed to this container"
    if Path("/dev/shm").is_dir():
        yield "shared", f"{show_bytes(shutil.disk_usage('/dev/shm').free)} shared memory free"


def _allocator() -> str:
    library, reason = allocator.choice()
    return f"the system's ({reason})" if library is None else f"mimalloc for training ({library})"


def _disk(path: Path) -> str:
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return error.strerror or str(error)
    read_only = "" if os.access(path, os.W_OK) else ", not writable"
    return f"{show_bytes(usage.free)} of {show_bytes(usage.total)} free{read_only}"


def _devices() -> Iterator[tuple[str, str]]:
    yield "cpu", "always"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        ability = f"compute capability {properties.major}.{properties.minor}"
        yield (
            f"cuda:{index}",
            f"{properties.name}, {show_bytes(properties.total_memory)}, {ability}, CUDA {torch.version.cuda}",
        )
    if not torch.cuda.is_available():
        built = "this torch is built without CUDA" if torch.version.cuda is None else "no usable GPU or driver"
        yield "cuda", f"no ({built})"
    if torch.backends.mps.is_available():
        yield "mps", "yes"


def _chosen(config: Config, precision: PrecisionChoice | None = None) -> Iterator[tuple[str, str]]:
    """Device, precision and ranks that `auto` and 0 resolve to, or the error; a run may have its precision already."""
    try:
        placement = place(config)
        device = placement.device
        precision = precision or choose_precision(config.training.precision, device)
    except UserError as error:
        yield "device", error.what
        return
    yield "device", str(device)
    yield "training in", f"{_NUMBERS[precision.name]} ({precision.reason})"
    translating = config.decoding.precision
    if translating == "auto":
        others = ["bf16"] if device.type != "cpu" or computes_bf16() else []
        others += ["int8"] if device.type == "cpu" and int8_fault() is None else []
        on_demand = f"; {' and '.join(others)} on demand" if others else ""
        yield "translating in", f"{_NUMBERS['fp32']} (independent of the batch{on_demand})"
    else:
        yield "translating in", f"{_NUMBERS[translating]} (as the config says)"
    yield "ranks", f"{placement.ranks} ({placement.threads} thread{'s' if placement.threads > 1 else ''} each)"


def _long_texts(config: Config) -> str:
    """Method of translating long texts (processes, kernels); compiles the kernels if needed."""
    with suppress(UserError):
        if (device := choose_device(config.device)).type != "cpu":
            return f"by {device}"
    threads = torch.get_num_threads()
    if threads > FEW_THREADS and not can_fork():
        return f"by torch in {threads} threads (kernels need single-threaded processes, which cannot be forked here)"
    reason = load(partial(say, COMPILING))
    return f"without kernels, slower ({reason})" if reason else "with kernels compiled by numba"


def _environment() -> Iterator[tuple[str, str]]:
    for name in _VARIABLES:
        if (value := os.environ.get(name)) is not None:
            yield name, "set" if name in _MAY_HOLD_SECRETS else redact(value).replace(str(Path.home()), "~")


def environment() -> dict[str, str]:
    """Versions of this package and of its libraries, on which results may depend."""
    own = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seq2seq": _version("seq2seq", importable="seq2seq"),
    }
    return own | _versions_of_libraries()
