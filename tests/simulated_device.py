"""A simulated accelerator: torch's Python backend, whose tensors are kept on the CPU and behave as those of a GPU.

An operation on tensors of two devices is refused as CUDA refuses it, and every wait of the host for the device (a
value, a copy to the CPU, a shape that depends on values) is recorded. So the paths that only accelerators take run
without one, and an error of placement or a hidden synchronisation is found on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_flatten, tree_map

from seq2seq.distributed import placement
from seq2seq.optimization import optimizers, precision
from seq2seq.runs import environment, load
from seq2seq.training import trainer

NAME = "simulated"

_IS_SUPPORTED = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

needs_simulated_device = pytest.mark.skipif(not _IS_SUPPORTED, reason="this torch has no backends in Python")

_WAITS = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.equal.default",
    "aten.is_nonzero.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
}
"""Operations whose result, or its shape, the host must know."""

_waits: list[str] = []


class _SimulatedTensor(Tensor):
    """A tensor of the simulated device; `kept` holds its values on the CPU."""

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor) -> _SimulatedTensor:
        shape = {"strides": kept.stride(), "storage_offset": kept.storage_offset(), "dtype": kept.dtype}
        tensor: _SimulatedTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, kept.size(), device=torch.device(NAME, 0), **shape
        )
        tensor.kept = kept
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _compute(operation, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        _waits.append("tolist")
        return self.kept.tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"simulated({self.kept!r})"


def _gru_cell(
    inputs: Tensor, hidden: Tensor, state: Tensor, input_bias: Tensor, hidden_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """New state and saved values of a GRU cell, as the fused kernel of GPUs computes them."""
    for_reset, for_update, for_new = (inputs + input_bias).chunk(3, dim=1)
    of_reset, of_update, of_new = (hidden + hidden_bias).chunk(3, dim=1)
    reset, update = torch.sigmoid(for_reset + of_reset), torch.sigmoid(for_update + of_update)
    new = torch.tanh(for_new + reset * of_new)
    return new + update * (state - new), torch.cat([reset, update, new, state, of_new], dim=1)


def _gru_cell_backward(gradient: Tensor, saved: Tensor, has_bias: bool) -> tuple[Tensor, ...]:
    """Gradients of the arguments of `_gru_cell`."""
    reset, update, new, state, of_new = saved.chunk(5, dim=1)
    for_new = gradient * (1 - update) * (1 - new**2)
    for_update = gradient * (state - new) * update * (1 - update)
    for_reset = for_new * of_new * reset * (1 - reset)
    inputs = torch.cat([for_reset, for_update, for_new], dim=1)
    hidden = torch.cat([for_reset, for_update, for_new * reset], dim=1)
    return inputs, hidden, gradient * update, inputs.sum(dim=0), hidden.sum(dim=0)


_ONLY_ON_GPUS = {
    "aten._thnn_fused_gru_cell.default": _gru_cell,
    "aten._thnn_fused_gru_cell_backward.default": _gru_cell_backward,
}
"""Kernels that torch has for GPUs alone."""


def _compute(operation: Any, *args: Any, **kwargs: Any) -> Any:
    name = str(operation)
    given, _ = tree_flatten((args, kwargs))
    tensors = [value for value in given if isinstance(value, Tensor)]
    moves = name in ("aten.copy_.default", "aten._to_copy.default")
    strangers = [value for value in tensors if not isinstance(value, _SimulatedTensor) and value.dim()]
    if strangers and not moves:
        raise RuntimeError(f"{name}: tensors on {NAME}:0 and on {strangers[0].device}")
    target = args[0].device if name == "aten.copy_.default" else kwargs.get("device")
    indexes_by_truth = name.startswith("aten.index") and any(
        value.dtype in (torch.bool, torch.uint8) for value in tree_flatten(args[1:2])[0] if isinstance(value, Tensor)
    )
    if name in _WAITS or indexes_by_truth or (moves and target is not None and torch.device(target).type == "cpu"):
        _waits.append(name)
    to_device = target is None or torch.device(target).type == NAME
    plain_args, plain_kwargs = tree_map(_on_cpu, (args, kwargs))
    result = _ONLY_ON_GPUS.get(name, operation)(*plain_args, **plain_kwargs)
    if moves and not to_device:
        return args[0] if name == "aten.copy_.default" else result
    if torch.Tag.inplace_view in operation.tags:
        _change_shape(operation, args, kwargs)
    # Operations in place return the tensor that they were given.
    known = {id(value.kept): value for value in tensors if isinstance(value, _SimulatedTensor)}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else _SimulatedTensor(value)

    return tree_map(wrap, result)


def _change_shape(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Let a view in place, `transpose_` say, act on the shape of the simulated tensor, too."""
    was_meta = torch._C._meta_in_tls_dispatch_include()
    with no_dispatch():
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            operation(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(was_meta)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, _SimulatedTensor):
        return value.kept
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


class _Module:
    """What torch asks of `torch.simulated`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_CASTS = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "scaled_dot_product_attention")
"""Operations that autocast computes in the narrow type."""

_libraries: list[Any] = []
"""Registrations, which end with these objects."""


def _register() -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    _libraries.extend(torch.library.Library(namespace, "IMPL") for namespace in ("_", "aten"))
    _libraries[0].fallback(_compute, "PrivateUse1")
    _libraries[0].fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _CASTS:
        _libraries[1].impl(name, _in_low_precision(getattr(torch.ops.aten, name).default), "AutocastPrivateUse1")
    # torch makes ranges by resizing an empty tensor, which a tensor in Python cannot follow.
    for name, overload in (("arange", "default"), ("arange.start", "start"), ("arange.start_step", "start_step")):
        _libraries[1].impl(name, _arange(getattr(torch.ops.aten.arange, overload)), "PrivateUse1")


def _in_low_precision(operation: Any) -> Any:
    """The operation as autocast calls it."""

    def cast(*args: Any, **kwargs: Any) -> Any:
        def narrow(value: Any) -> Any:
            return value.to(torch.get_autocast_dtype(NAME)) if _is_float32(value) else value

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operation(*tree_map(narrow, args), **tree_map(narrow, kwargs))

    return cast


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _arange(operation: Any) -> Any:
    def arange(*args: Any, **kwargs: Any) -> Any:
        return _compute(operation, *args, **kwargs)

    return arange


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The simulated device, which `auto` chooses, and which is treated as CUDA is."""
    device = torch.device(NAME, 0)
    tensor = torch.tensor

    def moved(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        made = tensor(data, *args, **kwargs)
        return made if device is None else made.to(device)

    # Tied weights stay tied, as on a GPU.
    monkeypatch.setattr(torch.__future__, "get_swap_module_params_on_conversion", lambda: True)
    # Tensors in Python cannot be made there, and know no inference mode; functions may have been decorated with it.
    monkeypatch.setattr(torch, "tensor", moved)
    monkeypatch.setattr(torch._C, "_InferenceMode", lambda mode: torch.no_grad() if mode else nullcontext())
    monkeypatch.setattr(precision, "ASYNCHRONOUS", precision.ASYNCHRONOUS | {NAME})
    for module in (placement, load, environment):
        monkeypatch.setattr(module, "choose_device", lambda name: device if name == "auto" else torch.device(name))
    for module in (trainer, optimizers):
        monkeypatch.setattr(module, "ASYNCHRONOUS", precision.ASYNCHRONOUS)
    return device


@contextmanager
def waits() -> Iterator[list[str]]:
    """Operations inside for which the host waits for the device."""
    _waits.clear()
    yield _waits


if _IS_SUPPORTED:
    _register()  # before the first backward pass of the process, which starts a thread for each device
