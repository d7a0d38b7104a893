"""Every kind of optimizer: against its paper, and that its saved state is all there is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seq2seq.config import OptimizerSettings, load_config
from seq2seq.errors import CheckpointError
from seq2seq.models import build_model
from seq2seq.optimization.optimizers import (
    Muon,
    ScheduleFreeAdamW,
    build_optimizer,
    inner_matrices,
    load_optimizer_tensors,
    optimizer_tensors,
    orthogonalised,
    set_learning_rate,
)
from seq2seq.optimization.precision import Precision, PrecisionChoice

KINDS = ("adamw", "schedule_free", "muon", "adafactor")
CPU = torch.device("cpu")


class TinyModel(nn.Module):
    """Embedding, a layer inside, a vector and an output projection: one parameter of every sort."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.inside = nn.Linear(6, 8)
        self.cell = nn.GRU(8, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.output = nn.Linear(4, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.output(self.norm(self.cell(self.inside(self.embedding(tokens)))[0]))
        return logits


def loss_of(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Say every token again."""
    tokens = torch.randint(0, 11, (8, 5), generator=generator)
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int, peak: float = 0.01) -> float:
    loss = math.nan
    for step in range(first, last + 1):
        set_learning_rate(optimizer, peak * min(1.0, step / 4))
        optimizer.zero_grad(set_to_none=True)
        computed = loss_of(model, torch.Generator().manual_seed(step))
        computed.backward()
        optimizer.step()
        loss = float(computed.detach())
    return loss


def of_kind(kind: str, **options: object) -> OptimizerSettings:
    return OptimizerSettings.model_validate({"kind": kind, "learning_rate": 0.01, **options})


def test_adamw_is_that_of_torch_to_the_last_bit() -> None:
    """Ours calls the functions behind torch's methods, which import its compiler."""
    ours, theirs = TinyModel(), TinyModel()
    optimizer = build_optimizer(ours, of_kind("adamw"))
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    parameters = dict(zip(ours.parameters(), theirs.parameters(), strict=True))
    other = torch.optim.AdamW(
        [
            {"params": [parameters[each] for each in group["params"]], **options}
            for group, options in zip(optimizer.param_groups, groups, strict=True)
        ]
    )
    assert take_steps(ours, optimizer, 1, 6) == take_steps(theirs, other, 1, 6)
    for mine, its in parameters.items():
        assert torch.equal(mine, its)
        assert all(torch.equal(value, other.state[its][slot]) for slot, value in optimizer.state[mine].items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(kind: str) -> None:
    model = TinyModel()
    optimizer = build_optimizer(model, of_kind(kind))
    first = take_steps(model, optimizer, 1, 1)
    assert take_steps(model, optimizer, 2, 120) < 0.6 * first


@settings(max_examples=12)
@given(
    kind=st.sampled_from(KINDS), before=st.integers(1, 5), after=st.integers(1, 5), decay=st.sampled_from([0.0, 0.1])
)
def test_saved_and_restored_state_continues_to_the_same_bits(kind: str, before: int, after: int, decay: float) -> None:
    """The counters of an optimizer that are not tensors would be lost here."""
    model = TinyModel()
    optimizer = build_optimizer(model, of_kind(kind, weight_decay=decay))
    take_steps(model, optimizer, 1, before)
    saved = safetensors.torch.load(safetensors.torch.save(optimizer_tensors(model, optimizer)))
    twin = copy.deepcopy(model)
    resumed = build_optimizer(twin, of_kind(kind, weight_decay=decay))
    load_optimizer_tensors(twin, resumed, saved)
    take_steps(model, optimizer, before + 1, before + after)
    take_steps(twin, resumed, before + 1, before + after)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    whole, parts = optimizer_tensors(model, optimizer), optimizer_tensors(twin, resumed)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_loading_copies(kind: str) -> None:
    """Stepping after a load once changed the caller's tensors, which shared memory with the state."""
    model = TinyModel()
    optimizer = build_optimizer(model, of_kind(kind))
    take_steps(model, optimizer, 1, 2)
    saved = {key: value.clone() for key, value in optimizer_tensors(model, optimizer).items()}
    kept = copy.deepcopy(saved)
    load_optimizer_tensors(model, optimizer, saved)
    take_steps(model, optimizer, 3, 4)
    assert all(torch.equal(saved[key], kept[key]) for key in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_are_left_out(kind: str) -> None:
    model = TinyModel()
    model.inside.requires_grad_(False)
    before = copy.deepcopy(model.inside.weight)
    optimizer = build_optimizer(model, of_kind(kind, weight_decay=0.1))
    take_steps(model, optimizer, 1, 3)
    moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(moved) == len(set(moved)) == len(list(model.parameters())) - 2
    assert torch.equal(before, model.inside.weight)
    for name, match in (("inside.weight", "frozen"), ("nobody", "nobody")):
        with pytest.raises(CheckpointError, match=match):
            load_optimizer_tensors(model, optimizer, {f"{name}|step": torch.ones(())})


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_set_from_outside_is_the_rate(kind: str) -> None:
    """A first step moves by about the learning rate, whichever the kind: relative steps would not."""
    model = TinyModel()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(model, of_kind(kind))
    set_learning_rate(optimizer, 1e-3)
    loss_of(model, torch.Generator().manual_seed(1)).backward()
    optimizer.step()
    for (name, after), old in zip(model.named_parameters(), before, strict=True):
        moved = (after.detach() - old).square().mean().sqrt().item()
        assert 0.1e-3 < moved < 1.1e-3, name
    set_learning_rate(optimizer, 0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_decay_and_vectors_do_not(kind: str) -> None:
    model = TinyModel()
    optimizer = build_optimizer(model, of_kind(kind, weight_decay=0.5))
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert decays == {parameter: 0.5 if parameter.ndim >= 2 else 0.0 for parameter in model.parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("device", "precision", "poison"),
    [("cpu", "fp32", math.nan), ("cpu", "bf16", math.inf), ("cuda", "bf16", math.nan)],
)
def test_no_update_from_a_gradient_that_is_not_finite(kind: str, device: str, precision: str, poison: float) -> None:
    """On CUDA, where nothing looked at the norm, NaN once went into the weights and stayed until the next log line."""
    twins = []
    for poisoned in (False, True):
        model = TinyModel()
        optimizer = build_optimizer(model, of_kind(kind, weight_decay=0.1))
        # The tensors lie on the CPU; the path is the device's.
        guarded = Precision(PrecisionChoice(precision, ""), torch.device(device))
        for number in range(4):
            if number == 2 and not poisoned:
                continue
            loss = loss_of(model, torch.Generator().manual_seed(number))
            guarded.backward(loss * poison if number == 2 else loss)
            norm = guarded.step(model, optimizer, 1.0)
            assert bool(torch.isfinite(norm)) == (number != 2)
            optimizer.zero_grad(set_to_none=True)
        twins.append([parameter.detach() for parameter in model.parameters()])
        twins[-1] += optimizer_tensors(model, optimizer).values()
    assert all(torch.equal(without, with_it) for without, with_it in zip(*twins, strict=True))


def literal_schedule_free(
    start: Tensor,
    slope: Callable[[Tensor], Tensor],
    rates: list[float],
    *,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of Defazio et al. 2024, line by line, with x, y and z kept apart, in fp64; x and y at the end."""
    beta1, beta2 = betas
    z, x, v = start.clone(), start.clone(), torch.zeros_like(start)
    squares = 0.0
    for t, rate in enumerate(rates, start=1):
        y = (1 - beta1) * z + beta1 * x
        g = slope(y)
        v = beta2 * v + (1 - beta2) * g * g
        gamma = rate * math.sqrt(1 - beta2**t)
        z = z - gamma * g / (v.sqrt() + eps) - gamma * decay * y
        squares += gamma * gamma
        c = gamma * gamma / squares
        x = (1 - c) * x + c * z
    return x, (1 - beta1) * z + beta1 * x


@settings(max_examples=20)
@given(
    beta1=st.sampled_from([0.5, 0.9, 0.98]),
    beta2=st.sampled_from([0.9, 0.98, 0.999]),
    decay=st.sampled_from([0.0, 0.05]),
    steps=st.integers(1, 40),
    warmup=st.integers(1, 10),
)
def test_schedule_free_is_the_papers(beta1: float, beta2: float, decay: float, steps: int, warmup: int) -> None:
    """On a quadratic. A visible epsilon: without one, a weight near its goal divides
    rounding by next to nothing."""
    torch.manual_seed(1)
    start, goal = torch.randn(30, 25, dtype=torch.float64), torch.randn(30, 25, dtype=torch.float64)
    curvature = torch.rand(30, 25, dtype=torch.float64) + 0.1
    rates = [0.05 * min(1.0, t / warmup) for t in range(1, steps + 1)]
    weight = nn.Parameter(start.clone())
    optimizer = ScheduleFreeAdamW([{"params": [weight], "weight_decay": decay}], lr=1.0, betas=(beta1, beta2), eps=1e-3)
    for rate in rates:
        set_learning_rate(optimizer, rate)
        weight.grad = curvature * (weight.detach() - goal)
        optimizer.step()
    x, y = literal_schedule_free(
        start, lambda y: curvature * (y - goal), rates, betas=(beta1, beta2), eps=1e-3, decay=decay
    )
    torch.testing.assert_close(weight.detach(), y, rtol=1e-6, atol=1e-7)
    optimizer.average_()
    torch.testing.assert_close(weight.detach(), x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("smallest", [0.1, 1e-6])
def test_newton_schulz_iterations_act_on_the_singular_values_alone(shape: tuple[int, int], smallest: float) -> None:
    generator = torch.Generator().manual_seed(1)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, math.log10(smallest), min(shape), dtype=torch.float64)
    found = orthogonalised((left * values @ right).float())
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(found.double(), left * values @ right, rtol=0, atol=1e-3)


def test_muon_is_that_of_torch() -> None:
    """torch's products are in bf16."""
    torch.manual_seed(1)
    ours, theirs = (nn.Linear(40, 24, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    optimizers = (
        Muon([ours.weight], lr=0.01, weight_decay=0.1),
        torch.optim.Muon([theirs.weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        gradient = torch.randn_like(start)
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            layer.weight.grad = gradient.clone()
            optimizer.step()
    difference, moved = (weight.detach() - theirs.weight.detach() for weight in (ours.weight, start))
    assert difference.abs().max() < 0.02 * moved.abs().max()


def test_muon_moves_in_an_orthogonal_direction_of_adams_size() -> None:
    """All singular values of the step are about equal; its root mean square is 0.2 rates (Liu et al. 2025)."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(48, 24, bias=False), nn.Linear(24, 3))
    before = model[0].weight.detach().clone()
    optimizer = build_optimizer(model, of_kind("muon"))
    set_learning_rate(optimizer, 0.01)
    model(torch.randn(64, 48)).square().sum().backward()
    gradient = model[0].weight.grad.clone()
    gradient += 0.3 * gradient.norm() / math.sqrt(gradient.numel()) * torch.randn_like(gradient)  # of full rank
    model[0].weight.grad = gradient
    optimizer.step()
    step = (before - model[0].weight.detach()) / 0.01
    values = torch.linalg.svdvals(step) / (0.2 * math.sqrt(48))
    assert values.min() > 0.5
    assert values.max() < 1.4
    spread = torch.linalg.svdvals(gradient)
    assert spread.max() / spread.min() > 4
    assert step.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)
    assert torch.sum(step * gradient) > 0


def test_muon_takes_the_matrices_inside_and_adamw_the_rest() -> None:
    for options in (["model.positions=learned"], ["model.kind=gru"], ["model.tied_embeddings=none"]):
        model = build_model(load_config([], ["model.hidden_size=16", *options]).model, 20, 20)
        inner = set(inner_matrices(model))
        rest = {name for name, parameter in model.named_parameters() if parameter.ndim > 1 and parameter not in inner}
        allowed = {"source_embedding.weight", "target_embedding.weight", "output.weight", "attention.energy.weight"}
        tables = {"source_positions.table", "target_positions.table"}
        assert rest <= allowed | tables
        assert inner
        optimizer = build_optimizer(model, of_kind("muon"))
        moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert set(moved) == set(model.parameters())
        assert len(moved) == len(set(moved))


def test_adafactor_holds_a_tenth_of_adams_state() -> None:
    sizes = {}
    for kind in ("adamw", "adafactor"):
        model = nn.Linear(96, 128, bias=False)
        optimizer = build_optimizer(model, of_kind(kind))
        model(torch.randn(4, 96)).sum().backward()
        optimizer.step()
        sizes[kind] = sum(tensor.numel() for tensor in optimizer_tensors(model, optimizer).values())
    assert sizes["adafactor"] < 0.1 * sizes["adamw"]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_adafactor_does_not_see_the_size_of_gradients(scale: float) -> None:
    """torch's default epsilon, 1e-7, stands beside mean squares: small gradients gave other steps."""
    results = []
    for factor in (1.0, scale):
        torch.manual_seed(1)
        weight = nn.Parameter(torch.zeros(12, 8))
        optimizer = build_optimizer(nn.ParameterList([weight]), of_kind("adafactor"))
        for _ in range(3):
            weight.grad = torch.randn(12, 8) * factor
            weight.grad[0] = 0.0  # a word that does not occur
            optimizer.step()
        results.append(weight.detach().clone())
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
