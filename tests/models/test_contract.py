"""The contract of `Seq2SeqModel`, held by every architecture and attention kind, and by compiled Transformers."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F
from model_configurations import COMPILED, CONFIGURATIONS, SOURCE_SIZE, TARGET_SIZE
from torch import Tensor

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compiled_transformer import CompiledTransformer
from seq2seq.models import build_model
from seq2seq.models.interface import Memory, Seq2SeqModel, keep_rows, log_probabilities, select_rows
from seq2seq.models.layers import Dropout
from seq2seq.models.transformer import TransformerModel
from seq2seq.special_tokens import BOS, EOS, PAD

pytestmark = pytest.mark.usefixtures("kernels")  # of compiled Transformers
LENGTHS = (7, 3, 5, 1)
EVERY = pytest.mark.parametrize("name", [*CONFIGURATIONS, *COMPILED])
TRAINED = pytest.mark.parametrize("name", CONFIGURATIONS)
DISTINCT = (
    "transformer",
    "transformer-modern",
    "transformer-wide-rotary",
    "gru-none-sampled",
    "gru-multi-head",
    "gru-deep-unfed",
    "lstm-additive",
)
"""Configurations that differ in every module between input and output, for the expensive tests."""
SOME = pytest.mark.parametrize("name", DISTINCT)
IN_BOTH_PRECISIONS = pytest.mark.parametrize(
    ("name", "autocast"),
    [
        *((name, False) for name in CONFIGURATIONS),
        *(pytest.param(name, True, marks=pytest.mark.bf16) for name in (*DISTINCT, "gru-sampled")),
    ],
)


def build(name: str) -> Seq2SeqModel:
    model = build_model({**CONFIGURATIONS, **COMPILED}[name], SOURCE_SIZE, TARGET_SIZE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Nothing stays at a value that would hide a mistake: zero biases, unit norms, zero PAD
            # embeddings.
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return compiled(model) if name in COMPILED else model


def compiled(model: Seq2SeqModel) -> Seq2SeqModel:
    kernels = compiling.loaded()
    assert kernels is not None
    assert isinstance(model, TransformerModel)
    assert CompiledTransformer.takes(model)
    return CompiledTransformer(model, kernels)


def sentences(lengths: tuple[int, ...], padding: int = 0) -> Tensor:
    """Source rows of these lengths (EOS counted) with `padding` more columns than needed."""
    rows = torch.full((len(lengths), max(lengths) + padding), PAD)
    for row, length in enumerate(lengths):
        rows[row, : length - 1] = torch.randint(4, SOURCE_SIZE, (length - 1,))
        rows[row, length - 1] = EOS
    return rows


def prefixes(count: int, length: int) -> Tensor:
    return torch.cat([torch.full((count, 1), BOS), torch.randint(4, TARGET_SIZE, (count, length - 1))], dim=1)


def tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    return [found for part in tree for found in tensors(part)] if isinstance(tree, tuple) else []


def steps(model: Seq2SeqModel, target: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
    state, hidden, attention = model.start(memory), [], []
    for tokens in target.unbind(1):
        stepped = model.step(tokens, memory, state, with_attention=True)
        state = stepped.state
        hidden.append(stepped.hidden)
        attention.append(stepped.attention)
    return torch.stack(hidden, 1), None if attention[0] is None else torch.stack(attention, 1)


@pytest.mark.parametrize("kind", [TransformerSettings, RNNSettings])
def test_the_configurations_use_every_value_of_every_setting(kind: type[ModelSettings]) -> None:
    used = [settings for settings in CONFIGURATIONS.values() if isinstance(settings, kind)]
    for name, field in kind.model_fields.items():
        values = {getattr(settings, name) for settings in used}
        if get_origin(field.annotation) is Literal:
            assert values == set(get_args(field.annotation)), name
        elif field.annotation is bool:
            assert values == {False, True}, name


@EVERY
@torch.inference_mode()
def test_step_equals_decode_position_by_position(name: str) -> None:
    model, target = build(name), prefixes(4, 6)
    memory = model.encode(sentences(LENGTHS))
    decoded = model.decode(target, memory, with_attention=True)
    hidden, attention = steps(model, target, memory)
    torch.testing.assert_close(hidden, decoded.hidden, atol=1e-5, rtol=1e-5)
    if decoded.attention is None:
        assert attention is None
    else:
        last = decoded.attention[:, -1].mean(dim=1)
        torch.testing.assert_close(attention, last, atol=1e-5, rtol=1e-5)


@EVERY
def test_asking_for_attention_or_gradients_changes_nothing(name: str) -> None:
    """Weights, training and inference take different kernels."""
    model, source, target = build(name), sentences(LENGTHS), prefixes(4, 6)
    with torch.inference_mode():
        plain = model(source, target)
        asked = model.decode(target, model.encode(source), with_attention=True).hidden
    torch.testing.assert_close(model(source, target), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(asked, plain, atol=1e-5, rtol=1e-5)


@EVERY
@torch.inference_mode()
def test_padding_and_batch_composition_change_nothing(name: str) -> None:
    model, source, target = build(name), sentences(LENGTHS, padding=3), prefixes(4, 6)
    together = model.encode(source)
    decoded = model.decode(target, together, with_attention=True)
    assert torch.equal(together.mask, source != PAD)
    assert torch.all(together.states[~together.mask] == 0)
    for row, length in enumerate(LENGTHS):
        alone = model.encode(source[row : row + 1, :length])
        again = model.decode(target[row : row + 1], alone, with_attention=True)
        torch.testing.assert_close(together.states[row, :length], alone.states[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(decoded.hidden[row], again.hidden[0], atol=1e-5, rtol=1e-5)
        if decoded.attention is not None and again.attention is not None:
            weights = decoded.attention[row, ..., :length]
            torch.testing.assert_close(weights, again.attention[0], atol=1e-5, rtol=1e-5)


@EVERY
@torch.inference_mode()
def test_a_later_target_token_cannot_change_an_earlier_output(name: str) -> None:
    model, source, target = build(name), sentences(LENGTHS), prefixes(4, 6)
    other = target.clone()
    other[:, 3:] = (target[:, 3:] + 1).clamp(max=TARGET_SIZE - 1) % (TARGET_SIZE - 1) + 1
    before, after = model(source, target), model(source, other)
    torch.testing.assert_close(before[:, :3], after[:, :3], atol=1e-6, rtol=1e-6)
    assert (before[:, 3:] - after[:, 3:]).abs().amax(dim=(1, 2)).min() > 1e-3
    shorter = model(source, target[:, :3])
    torch.testing.assert_close(before[:, :3], shorter, atol=1e-5, rtol=1e-5)


@EVERY
@torch.inference_mode()
def test_every_source_token_and_every_earlier_target_token_matters(name: str) -> None:
    """Row r of a batch has another token in column r, and the last row is as it was."""
    model, source, target = build(name), sentences((6,)).repeat(6, 1), prefixes(1, 5).repeat(6, 1)
    other_source, other_target = source.clone(), target.clone()
    for column in range(5):
        for changed in (other_source, other_target):
            changed[column, column] = 4 if changed[column, column] != 4 else 5
    for last in (model(other_source, target)[:, -1], model(source, other_target)[:, -1]):
        assert (last[:-1] - last[-1]).abs().amax(dim=1).min() > 1e-6


@IN_BOTH_PRECISIONS
def test_every_parameter_gets_a_finite_gradient(name: str, autocast: bool) -> None:
    """Scheduled sampling once looked for its own best token under no_grad: autocast kept that copy of the
    output
    weights, and the loss gave them no gradient."""
    model, source, target = build(name).train(), sentences(LENGTHS), prefixes(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model.output(model(source, target))
    F.cross_entropy(logits.flatten(0, 1).float(), target.roll(-1, 1).flatten()).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path
        assert parameter.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", ["transformer-modern", "gru-multi-head", "lstm-additive"])
def test_one_batch_can_be_overfitted(name: str) -> None:
    torch.manual_seed(3)
    model = build_model(CONFIGURATIONS[name], SOURCE_SIZE, TARGET_SIZE)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.probability = 0.0
    source, target = sentences((5, 6, 4)), prefixes(3, 5)
    wanted = torch.cat([target[:, 1:], torch.full((3, 1), EOS)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        loss = F.cross_entropy(model.output(model(source, target)).flatten(0, 1), wanted.flatten())
        if loss < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    with torch.inference_mode():
        chosen = log_probabilities(model.eval(), model(source, target)).argmax(dim=-1)
    assert torch.equal(chosen, wanted)


def decode_lines(model: Seq2SeqModel, source: Tensor, lines: list[list[int]]) -> Tensor:
    """Hidden states after each of these lines of tokens, one line for each row of `source`, by `decode`."""
    return model(source, torch.tensor(lines))[:, -1]


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        *((name, (2, 5, 5, 3, 3)) for name in CONFIGURATIONS),
        *((name, widths) for name in DISTINCT for widths in ((1, 1, 1, 1, 1), (12, 12, 12, 4, 1))),
    ],
)
@torch.inference_mode()
def test_selected_hypotheses_equal_decoding_each_alone(name: str, widths: tuple[int, ...]) -> None:
    """Hypotheses multiply, change places, die out, and sentences leave: each still sees its own past and source."""
    model, source = build(name), sentences(LENGTHS)
    draws = torch.Generator().manual_seed(len(name))
    memory, state = model.encode(source), None
    alive, lines = list(range(len(source))), [[[BOS]] for _ in LENGTHS]
    state = model.start(memory)
    for turn, width in enumerate(widths):
        last = torch.tensor([line[-1] for some in lines for line in some])
        stepped = model.step(last, memory, state, with_attention=True)
        flat = [line for some in lines for line in some]
        rows = [sentence for sentence, some in zip(alive, lines, strict=True) for _ in some]
        expected = decode_lines(model, source[rows], flat)
        torch.testing.assert_close(stepped.hidden, expected, atol=1e-5, rtol=1e-5)
        if stepped.attention is not None:
            assert stepped.attention.shape == (len(flat), source.shape[1])
        old = len(lines[0])
        kept = list(range(len(alive)))
        if turn == 1:
            kept.remove(2)  # the others move up
        elif turn == 2:
            kept[1] = kept.pop()  # the last one takes its place
        chosen = torch.randint(0, old, (len(kept), width), generator=draws)
        selected = torch.tensor(kept)[:, None] * old + chosen
        state = model.select(stepped.state, selected)
        if len(kept) < len(alive):
            memory = keep_rows(memory, torch.tensor(kept))
        tokens = torch.randint(4, TARGET_SIZE, (len(kept), width), generator=draws).tolist()
        lines = [
            [[*flat[row], token] for row, token in zip(some, new, strict=True)]
            for some, new in zip(selected.tolist(), tokens, strict=True)
        ]
        alive = [alive[place] for place in kept]


@EVERY
@torch.inference_mode()
def test_attention_is_a_distribution_over_real_tokens(name: str) -> None:
    model, source, target = build(name), sentences(LENGTHS, padding=2), prefixes(4, 6)
    attention = model.decode(target, model.encode(source), with_attention=True).attention
    if attention is None:
        assert CONFIGURATIONS[name].attention == "none"
        return
    settings = {**CONFIGURATIONS, **COMPILED}[name]
    layers = settings.decoder_layers if isinstance(settings, TransformerSettings) else 1
    heads = settings.num_heads if settings.kind == "transformer" or settings.attention == "multi_head" else 1
    assert attention.shape == (4, layers, heads, 6, 9)
    torch.testing.assert_close(attention.sum(-1), torch.ones(4, layers, heads, 6))
    assert torch.all(attention >= 0)
    assert torch.all(attention.movedim(-1, 1)[source == PAD] == 0)


@EVERY
@torch.inference_mode()
def test_nothing_is_kept_between_calls(name: str) -> None:
    """Two batches decoded in turns: a model that keeps its state in itself would mix them up."""
    model, target, other_target = build(name), prefixes(4, 5), prefixes(3, 5)
    memory, other = model.encode(sentences(LENGTHS)), model.encode(sentences((4, 2, 6)))
    kept = [tensor.clone() for tensor in tensors(memory)]
    alone = steps(model, target, memory)[0]
    state, other_state, together = model.start(memory), model.start(other), []
    for tokens, other_tokens in zip(target.unbind(1), other_target.unbind(1), strict=True):
        stepped = model.step(tokens, memory, state, with_attention=True)
        other_state = model.step(other_tokens, other, other_state).state
        together.append(stepped.hidden)
        state = stepped.state
    assert torch.equal(torch.stack(together, 1), alone)
    assert all(torch.equal(*pair) for pair in zip(tensors(memory), kept, strict=True))


@pytest.mark.bf16
@TRAINED
def test_bf16_autocast_is_close_to_fp32(name: str) -> None:
    model, source, target = build(name), sentences(LENGTHS), prefixes(4, 6)
    with torch.inference_mode():
        exact = log_probabilities(model, model(source, target))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, torch.autocast("cpu", dtype=torch.bfloat16):
            memory = model.encode(source)
            whole = log_probabilities(model, model.decode(target, memory).hidden)
            stepped = log_probabilities(model, steps(model, target, memory)[0])
        assert whole.dtype == torch.float32
        torch.testing.assert_close(whole, exact, atol=0.1, rtol=0.05)
        torch.testing.assert_close(stepped, exact, atol=0.1, rtol=0.05)


@IN_BOTH_PRECISIONS
def test_a_blank_row_stays_finite_and_harmless(name: str, autocast: bool) -> None:
    """A softmax over nothing but -inf is NaN, and NaN in one row's gradient is NaN in every weight."""
    model, source, target = build(name).train(), sentences(LENGTHS), prefixes(4, 6)
    source[2] = PAD
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        memory = model.encode(source)
        decoded = model.decode(target, memory, with_attention=True)
        plain = model.decode(target, memory).hidden
    assert torch.isfinite(decoded.hidden).all()
    assert torch.isfinite(plain).all()
    if decoded.attention is not None:
        assert torch.all(decoded.attention[2] == 0)
    (plain.float().square().sum() + decoded.hidden.float().square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@TRAINED
def test_the_same_seed_builds_the_same_model_and_a_state_dict_restores_it(name: str) -> None:
    torch.manual_seed(5)
    first = build_model(CONFIGURATIONS[name], SOURCE_SIZE, TARGET_SIZE).eval()
    torch.manual_seed(5)
    second = build_model(CONFIGURATIONS[name], SOURCE_SIZE, TARGET_SIZE).eval()
    source, target = sentences(LENGTHS), prefixes(4, 6)
    assert torch.equal(first(source, target), second(source, target))
    third = build(name)
    third.load_state_dict(first.state_dict())
    assert torch.equal(first(source, target), third(source, target))


@pytest.mark.parametrize("name", ["transformer", "compiled-transformer"])
@torch.inference_mode()
def test_what_no_hypothesis_sees_is_left_out_and_the_rest_kept(name: str) -> None:
    """Hypotheses of a sentence share a buffer; for long texts it held every token that any of them had ever tried."""
    model = build(name)
    source = sentences(LENGTHS)
    memory = model.encode(source)
    state, prefix = model.start(memory), torch.full((len(LENGTHS), 1, 1), BOS)
    generator = torch.Generator().manual_seed(3)
    for _ in range(30):
        stepped = model.step(prefix[:, :, -1].flatten(), memory, state)
        width = prefix.shape[1]
        origins = torch.randint(width, (len(prefix), 4), generator=generator)
        rows = torch.arange(len(prefix))[:, None] * width + origins
        state = model.select(stepped.state, rows)
        new = torch.randint(4, TARGET_SIZE, (len(prefix), 4, 1), generator=generator)
        prefix = torch.cat([prefix.flatten(0, 1)[rows], new], dim=2)
    stepped = model.step(prefix[:, :, -1].flatten(), memory, state)
    again = select_rows(memory, torch.arange(len(LENGTHS)).repeat_interleave(4))
    torch.testing.assert_close(
        stepped.hidden, model.decode(prefix.flatten(0, 1), again).hidden[:, -1], rtol=1e-4, atol=1e-5
    )
    assert stepped.state.layers[0].keys.shape[2] < 31 + 4 * 12 < 31 * 4
