"""Optimizers and learning-rate schedules; optimizer state as named tensors, saved without pickle.

The learning rate is set before every step. One peak serves all kinds: each moves a weight by about the learning rate
per step, as AdamW does.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.config import OptimizerSettings, ScheduleSettings, TrainingSettings
from seq2seq.errors import CheckpointError
from seq2seq.optimization.precision import ASYNCHRONOUS

_MOMENTUM, _ADAMW_RMS = 0.95, 0.2
_ITERATIONS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315
# Counters are on the host, where reading them is free, except those of fused optimizers.
_COUNTERS = ("step", "weight_sum")


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimizer over all parameters that are not frozen.

    `weight_decay` is decoupled and acts on matrices (embeddings included), not on vectors (biases, norms).

    * `adamw`: `torch.optim.AdamW`, fused.
    * `schedule_free`: `ScheduleFreeAdamW`; the schedule that fits it is `constant`, with a warm-up.
    * `muon`: `MuonAndAdamW`.
    * `adafactor`: `torch.optim.Adafactor` without its relative step. `betas` and `epsilon` are not used: there is no
      running mean, the running square decays by 1 - t^-0.8 (Shazeer and Stern 2018, section 7.2), and an update's root
      mean square is clipped to 1. torch multiplies the rate by max(eps2, RMS(weight)); eps2 = 1 leaves it as given
      unless a weight's RMS exceeds 1. Above 1 / sqrt(t) the rate is cut to it, which no usual rate reaches.
    """
    match settings.kind:
        case "adamw":
            return _adamw(_groups(_trainable(model), settings), settings)
        case "schedule_free":
            groups = _groups(_trainable(model), settings)
            return ScheduleFreeAdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon)
        case "muon":
            return _muon(model, settings)
        case "adafactor":
            # torch squares the first epsilon: 1e-15 is the paper's 1e-30. Its own default, 1e-7, is above the mean
            # square of the gradients of a large batch.
            return torch.optim.Adafactor(
                _groups(_trainable(model), settings), lr=settings.learning_rate, eps=(1e-15, 1.0)
            )


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _groups(parameters: list[nn.Parameter], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Parameter groups: matrices with weight decay, vectors without; empty groups are left out."""
    groups = [
        {"params": [each for each in parameters if each.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.AdamW:
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return AdamW(
        groups,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=devices <= {"cpu", "mps", *ASYNCHRONOUS},
    )


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` without torch's compiler.

    Methods of torch's optimizers import the compiler when they are first called, to exclude themselves from compiled
    code: 1.2 s of CPU time and 80 MB before the first step. Here the functions behind these methods are called.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        inspect.unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update."""
        inspect.unwrap(torch.optim.AdamW.step)(self)


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Schedule-Free AdamW (Defazio et al. 2024, "The Road Less Scheduled", algorithm 1).

    With the scheduled rate r_t (the paper's gamma with its warm-up), gamma_t = r_t sqrt(1 - beta2^t):

        y_t = (1 - beta1) z_t + beta1 x_t                           the gradient g_t is taken here
        v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
        z_{t+1} = z_t - gamma_t g_t / (sqrt(v_t) + eps) - gamma_t decay y_t
        c_{t+1} = gamma_t^2 / sum_{i <= t} gamma_i^2
        x_{t+1} = (1 - c_{t+1}) x_t + c_{t+1} z_{t+1}               these weights are validated and saved

    The parameters hold y; `z` and `exp_avg_sq` (v) are state, x follows from y and z (`average_`). The counters of a
    group are stored with its first parameter. The average x replaces a falling rate, so use the `constant` schedule:
    with a falling rate the average favours its early, larger steps and learns more slowly at the end.
    """

    def __init__(self, params: Any, *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update; parameters without a gradient are skipped."""
        for group in self.param_groups:
            rate, share = self._advance(group)
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                self._move(moved, group, rate, share)

    @torch.no_grad()
    def average_(self) -> None:
        """Replace y by x in the parameters. Before the first step they are equal."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if "z" in self.state.get(parameter, {})]
            if moved:
                z = [self.state[parameter]["z"] for parameter in moved]
                torch._foreach_lerp_(moved, z, 1.0 - 1.0 / group["betas"][0])

    def _advance(self, group: dict[str, Any]) -> tuple[float, float]:
        """Count a step of the group; returns its gamma and c."""
        for parameter in group["params"]:
            state = self.state[parameter]
            if "z" not in state:
                state["z"] = parameter.detach().clone()
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        counters = self.state[group["params"][0]]
        for name in _COUNTERS:
            counters.setdefault(name, torch.zeros((), dtype=torch.float64))
        step = float(counters["step"].add_(1.0))
        rate = float(group["lr"]) * (1.0 - group["betas"][1] ** step) ** 0.5
        total = float(counters["weight_sum"].add_(rate**2))
        return rate, rate**2 / total if total > 0.0 else 0.0

    def _move(self, y: list[Tensor], group: dict[str, Any], rate: float, share: float) -> None:
        """The update without x.

        Substitute x_t = (y_t - (1 - beta1) z_t) / beta1 above: with u = g / (sqrt(v) + eps) + decay y,
        y_{t+1} = (1 - c) y_t + c z_t - gamma (1 - beta1 (1 - c)) u.
        """
        beta1, beta2 = group["betas"]
        gradients = [parameter.grad for parameter in y if parameter.grad is not None]
        z = [self.state[parameter]["z"] for parameter in y]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in y]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - beta2)
        moves = torch._foreach_sqrt(squares)
        torch._foreach_add_(moves, group["eps"])
        torch._foreach_reciprocal_(moves)
        torch._foreach_mul_(moves, gradients)
        if group["weight_decay"]:
            torch._foreach_add_(moves, y, alpha=group["weight_decay"])
        torch._foreach_lerp_(y, z, share)
        torch._foreach_add_(y, moves, alpha=-rate * (1.0 - beta1 * (1.0 - share)))
        torch._foreach_add_(z, moves, alpha=-rate)


def _muon(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    inner = inner_matrices(model)
    chosen = {id(parameter) for parameter in inner}
    others = [parameter for parameter in _trainable(model) if id(parameter) not in chosen]
    if not inner:
        return _adamw(_groups(others, settings), settings)
    muon = Muon(inner, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return MuonAndAdamW(muon, _adamw(_groups(others, settings), settings)) if others else muon


def inner_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Trainable weights of linear and recurrent layers, except the output projection, embeddings tied to a layer, and
    matrices with one row or column."""
    outer = {
        id(parameter)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name == "output"
        for parameter in module.parameters(recurse=False)
    }
    inner = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.RNNBase))
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2 and min(parameter.shape) > 1
    }
    return [parameter for parameter in _trainable(model) if id(parameter) in inner - outer]


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for matrices, with Nesterov's momentum of 0.95.

    An update has the root mean square of an AdamW update (Liu et al. 2025, equation 4), so that one learning rate
    serves both. `torch.optim.Muon` computes the same with bf16 products of whole matrices, in two to three times as
    long on a CPU that is no faster in bf16.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
                direction = orthogonalised(matrix.grad.lerp(momentum, _MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(direction, alpha=-group["lr"] * _ADAMW_RMS * math.sqrt(max(matrix.shape)))


def orthogonalised(matrix: Float[Tensor, "M N"]) -> Float[Tensor, "M N"]:
    """The matrix with singular values near 1, by five steps of Newton-Schulz iteration (Jordan et al. 2024), in fp32.

    A step is X <- (a I + b A + c A^2) X with A = X X^T. These polynomials of A commute, so their product is made of the
    smaller side's square matrices alone, and multiplied by X once.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).float()
    x = x / x.norm().clamp_min(1e-7)
    gram = x @ x.T
    product = torch.eye(len(gram), device=gram.device)
    for number in range(_ITERATIONS):
        polynomial = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        polynomial.diagonal().add_(_A)
        product = polynomial @ product
        if number < _ITERATIONS - 1:
            gram = polynomial @ gram @ polynomial
    found: Tensor = product @ x
    return found.T if is_tall else found


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices inside the model, AdamW for everything else, as one optimizer.

    A fused projection (queries, keys and values; the gates of a recurrent cell) counts as one matrix and is made
    orthogonal as a whole. `betas` are AdamW's.
    """

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        # The groups are the dictionaries of the parts, so that a learning rate set here applies to them.
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.parts: tuple[torch.optim.Optimizer, ...] = (muon, adamw)
        for part in self.parts:
            part.state = self.state

    def step(self) -> None:  # type: ignore[override]
        """One update of both parts."""
        for part in self.parts:
            part.step()


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The whole optimizer state as `<parameter>|<slot>` entries."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{slot}": value
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned.

    Raises:
        CheckpointError: a tensor belongs to no parameter of the optimizer.
    """
    parameters = dict(model.named_parameters())
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    for key, value in tensors.items():
        name, _, slot = key.partition("|")
        if name not in parameters:
            raise CheckpointError(
                f"the optimizer state names `{name}`, which the model does not have", code="checkpoint.mismatch"
            )
        parameter = parameters[name]
        if parameter not in groups:
            raise CheckpointError(f"the optimizer state names `{name}`, which is frozen", code="checkpoint.mismatch")
        on_host = slot in _COUNTERS and not groups[parameter].get("fused")
        # A copy: the optimizer changes it in place, and the caller may use the tensors again.
        optimizer.state[parameter][slot] = value.to("cpu" if on_host else parameter.device, copy=True)


def learning_rate(step: int, settings: ScheduleSettings, *, peak: float, max_steps: int) -> float:
    """Learning rate of update `step` (from 1 to `max_steps`).

    Linear warm-up to `peak` over W steps, then: `inverse_sqrt` peak * sqrt(W / step) (Vaswani et al. 2017, equation 3,
    scaled to its peak); `cosine` half a period down to final_ratio * peak (Loshchilov and Hutter 2017); `wsd` flat,
    then linear down over the last decay_fraction (Hu et al. 2024); `constant` flat.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return peak * step / warmup
    match settings.kind:
        case "constant":
            return peak
        case "inverse_sqrt":
            return peak * math.sqrt(max(warmup, 1) / max(step, 1))
        case "cosine":
            progress = min(1.0, (step - warmup) / max(1, max_steps - warmup))
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        case "wsd":
            decay = max(1.0, settings.decay_fraction * (max_steps - warmup))
            share = min(1.0, max(0.0, (max_steps - step) / decay))
    return peak * (settings.final_ratio + (1.0 - settings.final_ratio) * share)


def expected_steps(settings: TrainingSettings, pace: Mapping[str, float]) -> int:
    """Steps until `max_steps`, `max_epochs` or `max_minutes` ends the run, whichever comes first.

    `pace` holds `seconds` and `epochs` of one update; before it has been measured, `max_steps` is expected.
    """
    steps = [float(settings.max_steps)]
    if settings.max_minutes is not None and pace.get("seconds"):
        steps.append(60.0 * settings.max_minutes / pace["seconds"])
    if settings.max_epochs is not None and pace.get("epochs"):
        steps.append(settings.max_epochs / pace["epochs"])
    return max(1, round(min(steps)))


def fitted_schedule(settings: TrainingSettings, steps: int) -> ScheduleSettings:
    """The schedule of a run that a limit ends after `steps`: the warm-up takes no more than a quarter of them."""
    if steps >= settings.max_steps:
        return settings.schedule
    return settings.schedule.model_copy(update={"warmup_steps": min(settings.schedule.warmup_steps, steps // 4)})
