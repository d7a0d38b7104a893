"""Layers against torch's own modules with copied weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_configurations import transformer
from torch import Tensor, nn

from seq2seq.models.attention import CrossAttention, SelfAttention, padding_bias
from seq2seq.models.positions import Positions
from seq2seq.models.rnn_cells import (
    CellState,
    RecurrentEncoder,
    advance,
    build_cell,
    project,
    run,
    weights,
)
from seq2seq.models.transformer import TransformerModel
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer, SublayerConnection

WIDTH, HEADS, INNER = 16, 4, 24


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def randomise(module: nn.Module) -> None:
    """Biases and norms begin at 0 and 1, where a mistake would not show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def mask_of(lengths: tuple[int, ...], size: int) -> Tensor:
    return torch.arange(size)[None] < torch.tensor(lengths)[:, None]


def copy_self_attention(theirs: nn.MultiheadAttention, ours: SelfAttention) -> None:
    assert theirs.in_proj_weight is not None
    theirs.in_proj_weight.data.copy_(ours.query_key_value.weight)
    theirs.in_proj_bias.data.copy_(ours.query_key_value.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_cross_attention(theirs: nn.MultiheadAttention, ours: CrossAttention) -> None:
    assert theirs.in_proj_weight is not None
    theirs.in_proj_weight.data.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
    theirs.in_proj_bias.data.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_norm(theirs: nn.LayerNorm, ours: SublayerConnection) -> None:
    theirs.load_state_dict(ours.norm.state_dict())


def copy_encoder_layer(theirs: nn.TransformerEncoderLayer, ours: EncoderLayer) -> None:
    copy_self_attention(theirs.self_attn, ours.attention)
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    copy_norm(theirs.norm1, ours.around_attention)
    copy_norm(theirs.norm2, ours.around_feed_forward)


def copy_decoder_layer(theirs: nn.TransformerDecoderLayer, ours: DecoderLayer) -> None:
    copy_self_attention(theirs.self_attn, ours.self_attention)
    copy_cross_attention(theirs.multihead_attn, ours.cross_attention)
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
    copy_norm(theirs.norm1, ours.around_self_attention)
    copy_norm(theirs.norm2, ours.around_cross_attention)
    copy_norm(theirs.norm3, ours.around_feed_forward)


def torch_options(**changes: Any) -> dict[str, Any]:
    return {
        "d_model": WIDTH,
        "nhead": HEADS,
        "dim_feedforward": INNER,
        "dropout": 0.0,
        "batch_first": True,
        **changes,
    }


def causal(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("training", [False, True])
def test_self_attention_equals_multihead_attention(training: bool) -> None:
    ours = SelfAttention(WIDTH, HEADS, wide=False, dropout=0.0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    randomise(ours)
    copy_self_attention(theirs, ours)
    x, mask = torch.randn(3, 6, WIDTH), mask_of((6, 2, 4), 6)
    with torch.set_grad_enabled(training):
        padded = ours(x, bias=padding_bias(mask))
        close(padded, theirs(x, x, x, key_padding_mask=~mask)[0])
        hidden = ours(x, causal=True)
        close(hidden, theirs(x, x, x, attn_mask=causal(6))[0])


def test_cross_attention_and_its_weights_equal_multihead_attention() -> None:
    ours = CrossAttention(WIDTH, HEADS, wide=False, dropout=0.0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    randomise(ours)
    copy_cross_attention(theirs, ours)
    x, memory, mask = torch.randn(3, 5, WIDTH), torch.randn(3, 6, WIDTH), mask_of((6, 2, 4), 6)
    found = ours(x, ours.project(memory), padding_bias(mask), with_weights=True)
    wanted = theirs(x, memory, memory, key_padding_mask=~mask, average_attn_weights=False)
    close(found[0], wanted[0])
    close(found[1], wanted[1])


def test_wide_attention_equals_one_full_width_attention_per_head() -> None:
    ours = SelfAttention(WIDTH, 3, wide=True, dropout=0.0)
    randomise(ours)
    x, mask = torch.randn(2, 5, WIDTH), mask_of((5, 3), 5)
    found = ours(x, bias=padding_bias(mask))
    parts = ours.query_key_value(x).view(2, 5, 3, 3, WIDTH)
    contexts = []
    for head in range(3):
        query, key, value = parts[:, :, :, head].unbind(2)
        scores = (query @ key.transpose(1, 2) / WIDTH**0.5).masked_fill(~mask[:, None], -torch.inf)
        contexts.append(scores.softmax(-1) @ value)
    close(found, ours.out(torch.cat(contexts, dim=-1)))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("position", ["pre", "post"])
def test_encoder_layer_equals_torchs(position: Any, activation: Any) -> None:
    settings = transformer(num_heads=HEADS, ff_size=INNER, dropout=0.0, norm_position=position, activation=activation)
    ours = EncoderLayer(settings)
    theirs = nn.TransformerEncoderLayer(**torch_options(activation=activation, norm_first=position == "pre"))
    randomise(ours)
    copy_encoder_layer(theirs, ours)
    x, mask = torch.randn(3, 6, WIDTH), mask_of((6, 2, 4), 6)
    close(ours(x, padding_bias(mask), None)[mask], theirs(x, src_key_padding_mask=~mask)[mask])


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("position", ["pre", "post"])
def test_decoder_layer_equals_torchs(position: Any, activation: Any) -> None:
    settings = transformer(num_heads=HEADS, ff_size=INNER, dropout=0.0, norm_position=position, activation=activation)
    ours = DecoderLayer(settings)
    theirs = nn.TransformerDecoderLayer(**torch_options(activation=activation, norm_first=position == "pre"))
    randomise(ours)
    copy_decoder_layer(theirs, ours)
    x, memory, mask = torch.randn(3, 5, WIDTH), torch.randn(3, 6, WIDTH), mask_of((6, 2, 4), 6)
    projected = ours.cross_attention.project(memory)
    found, _ = ours(x, projected, padding_bias(mask), None, with_weights=False)
    close(found, theirs(x, memory, tgt_mask=causal(5), memory_key_padding_mask=~mask))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("position", ["pre", "post"])
def test_the_whole_model_equals_torchs_transformer(position: Any) -> None:
    """torch always has the final norms; the original (post) has none, so that theirs are taken out there."""
    settings = transformer(num_heads=HEADS, ff_size=INNER, dropout=0.0, norm_position=position)
    ours = TransformerModel(settings, 20, 20)
    randomise(ours)
    theirs = nn.Transformer(**torch_options(num_encoder_layers=2, num_decoder_layers=2, norm_first=position == "pre"))
    for mine, other in zip(ours.encoder, theirs.encoder.layers, strict=True):
        copy_encoder_layer(other, mine)  # type: ignore[arg-type]
    for mine, other in zip(ours.decoder, theirs.decoder.layers, strict=True):
        copy_decoder_layer(other, mine)  # type: ignore[arg-type]
    if position == "pre":
        theirs.encoder.norm.load_state_dict(ours.encoder_norm.state_dict())
        theirs.decoder.norm.load_state_dict(ours.decoder_norm.state_dict())
    else:
        theirs.encoder.norm = theirs.decoder.norm = None
    source, target = torch.randint(4, 20, (3, 6)), torch.randint(1, 20, (3, 5))
    mask = mask_of((6, 2, 4), 6)
    source[~mask] = 0
    wanted = theirs(
        ours.source_positions(ours.source_embedding(source), 0),
        ours.target_positions(ours.target_embedding(target), 0),
        tgt_mask=causal(5),
        src_key_padding_mask=~mask,
        memory_key_padding_mask=~mask,
    )
    close(ours(source, target), wanted)


def test_sinusoidal_positions_are_the_papers() -> None:
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same; here the sines come first."""
    found = Positions("sinusoidal", 8, 1)(torch.zeros(1, 4, 8), 3)[0]
    for row, position in enumerate(range(3, 7)):
        for i in range(4):
            angle = torch.tensor(position / 10000 ** (2 * i / 8))
            close(found[row, i], angle.sin())
            close(found[row, 4 + i], angle.cos())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["gru", "lstm", "tanh"])
def test_encoder_equals_torchs_on_packed_sequences(kind: Any, bidirectional: bool) -> None:
    ours = RecurrentEncoder(kind, 5, 8, 3, bidirectional=bidirectional, dropout=0.0)
    randomise(ours)
    size = 4 if bidirectional else 8
    kinds: dict[str, type[nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "tanh": nn.RNN}
    theirs = kinds[kind](5, size, 3, batch_first=True, bidirectional=bidirectional)  # type: ignore[arg-type]
    for cells, suffix in ((ours.forward_cells, ""), (ours.backward_cells, "_reverse")):
        for layer, cell in enumerate(cells):
            for name, value in cell.state_dict().items():
                theirs.get_parameter(name.replace("l0", f"l{layer}{suffix}")).data.copy_(value)
    lengths = (6, 1, 4)
    x, mask = torch.randn(3, 6, 5), mask_of(lengths, 6)
    found = ours(x, mask)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    outputs, final = theirs(packed)
    final = final[0] if kind == "lstm" else final
    close(found.states * mask[..., None], nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0])
    close(found.finals, final.transpose(0, 1).flatten(1))


@pytest.mark.parametrize("kind", ["gru", "lstm", "tanh"])
def test_one_step_of_a_cell_equals_torchs_run(kind: Any) -> None:
    cell = build_cell(kind, 5, 8)
    randomise(cell)
    x = torch.randn(3, 4, 5)
    state = CellState(torch.randn(3, 8), torch.randn(3, 8) if kind == "lstm" else None)
    wanted = run(cell, x, state)
    for position in range(4):
        state = advance(cell, project(cell, x[:, position]), state)
        close(state.hidden, wanted[:, position])


@pytest.mark.parametrize("kind", ["gru", "lstm", "tanh"])
def test_cells_begin_with_orthogonal_gates_and_an_open_forget_gate(kind: Any) -> None:
    _, recurrent, into_bias, recurrent_bias = weights(build_cell(kind, 5, 8))
    for gate in recurrent.split(8):
        close(gate @ gate.T, torch.eye(8))
    assert torch.all(recurrent_bias == 0)
    assert into_bias.tolist() == ([0.0] * 8 + [1.0] * 8 + [0.0] * 16 if kind == "lstm" else [0.0] * len(into_bias))
