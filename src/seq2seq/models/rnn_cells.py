"""Recurrent cells and the recurrent encoder."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seq2seq.models.layers import Dropout
from seq2seq.models.linear import linear

CellKind = Literal["gru", "lstm", "tanh"]


class CellState(NamedTuple):
    """State of one recurrent layer; only an LSTM has a `cell`."""

    hidden: Float[Tensor, "B D"]
    cell: Float[Tensor, "B D"] | None


def build_cell(kind: CellKind, input_size: int, width: int) -> nn.RNNBase:
    """One layer of `nn.GRU`, `nn.LSTM` or `nn.RNN` (tanh), batch first.

    Input weights are Glorot-uniform, recurrent weights orthogonal per gate (Saxe et al. 2014), and biases zero, except
    for the LSTM's forget gate, which starts open (Jozefowicz et al. 2015).
    """
    cell: nn.RNNBase
    match kind:
        case "gru":
            cell = nn.GRU(input_size, width, batch_first=True)
        case "lstm":
            cell = nn.LSTM(input_size, width, batch_first=True)
        case "tanh":
            cell = nn.RNN(input_size, width, batch_first=True)
    into, recurrent, into_bias, recurrent_bias = weights(cell)
    with torch.no_grad():
        nn.init.xavier_uniform_(into)
        for gate in torch.split(recurrent, width):
            nn.init.orthogonal_(gate)
        into_bias.zero_()
        recurrent_bias.zero_()
        if kind == "lstm":
            into_bias[width : 2 * width] = 1.0
    return cell


def weights(cell: nn.RNNBase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W_ih [G, E], W_hh [G, D], b_ih [G], b_hh [G] of a cell of one layer; G = gates * D."""
    into, recurrent, into_bias, recurrent_bias = cell.all_weights[0]
    return into, recurrent, into_bias, recurrent_bias


def project(cell: nn.RNNBase, x: Float[Tensor, "*N E"]) -> Float[Tensor, "*N G"]:
    """The input's part of the gates, W_ih x + b_ih."""
    into, _, bias, _ = weights(cell)
    return linear(x, into, bias)


def run(cell: nn.RNNBase, x: Float[Tensor, "B T E"], state: CellState | None = None) -> Float[Tensor, "B T D"]:
    """The cell's outputs at every position, from `state` or from zeros."""
    begin: Tensor | tuple[Tensor, Tensor] | None = None
    if state is not None:
        # torch wants the layer first here, and in the weights' type: autocast does not reach these tensors.
        hidden = state.hidden[None].to(x.dtype).contiguous()
        begin = hidden if state.cell is None else (hidden, state.cell[None].to(x.dtype).contiguous())
    outputs: Tensor = cell(x, begin)[0]
    return outputs.to(x.dtype)


def advance(cell: nn.RNNBase, projected: Float[Tensor, "B G"], state: CellState) -> CellState:
    """The state after one position, with `projected` from `project`; the equations of torch's documentation."""
    _, recurrent_weight, _, recurrent_bias = weights(cell)
    recurrent = linear(state.hidden, recurrent_weight, recurrent_bias)
    width = state.hidden.shape[1]
    if isinstance(cell, nn.GRU):
        into_gates, into_candidate = torch.split(projected, [2 * width, width], dim=1)
        from_gates, from_candidate = torch.split(recurrent, [2 * width, width], dim=1)
        reset, update = torch.sigmoid(into_gates + from_gates).chunk(2, dim=1)
        candidate = torch.tanh(torch.addcmul(into_candidate, reset, from_candidate))
        return CellState(candidate + update * (state.hidden - candidate), None)
    gates = projected + recurrent
    if state.cell is None:
        return CellState(torch.tanh(gates), None)
    enter, forget, candidate, leave = gates.chunk(4, dim=1)
    after = torch.sigmoid(forget) * state.cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return CellState(torch.sigmoid(leave) * torch.tanh(after), after)


class Encoded(NamedTuple):
    """Output of the recurrent encoder."""

    states: Float[Tensor, "B S D"]
    """Outputs of the last layer, undefined at padding."""
    finals: Float[Tensor, "B LD"]
    """Every layer's state after the last real token (backward: after the first), concatenated."""


class RecurrentEncoder(nn.Module):
    """Layers of recurrent cells; if bidirectional, each direction has half of the width.

    Equals torch's own bidirectional layers on packed sequences, but needs no lengths on the host: the backward cell
    reads each row's real tokens reversed, with the padding still behind them, so that neither direction meets padding
    before its last real token.
    """

    def __init__(
        self, kind: CellKind, input_size: int, width: int, layers: int, *, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        size = width // 2 if bidirectional else width
        inputs = [input_size] + [width] * (layers - 1)
        self.forward_cells = nn.ModuleList(build_cell(kind, each, size) for each in inputs)
        self.backward_cells = nn.ModuleList(build_cell(kind, each, size) for each in (inputs if bidirectional else []))
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"]) -> Encoded:
        flipped, last = mirror(mask)
        finals = []
        for layer, cell in enumerate(self.forward_cells):
            if layer > 0:
                x = self.dropout(x)
            outputs = run(_cell(cell), x)
            finals.append(take(outputs, last[:, None])[:, 0])
            if self.backward_cells:
                reverse = run(_cell(self.backward_cells[layer]), take(x, flipped))
                finals.append(take(reverse, last[:, None])[:, 0])
                outputs = torch.cat([outputs, take(reverse, flipped)], dim=2)
            x = outputs
        return Encoded(x, torch.cat(finals, dim=1))


def mirror(mask: Bool[Tensor, "B S"]) -> tuple[Int[Tensor, "B S"], Int[Tensor, " B"]]:
    """Indices into the flattened [B * S] that reverse each row's real tokens, and the index of its last real token.

    Padding follows the real tokens and stays in its place. A row without real tokens counts as one token long.
    """
    rows, length = mask.shape
    last = (mask.sum(dim=1) - 1).clamp_(min=0)[:, None]
    position = torch.arange(length, device=mask.device)[None, :]
    begin = torch.arange(0, rows * length, max(length, 1), device=mask.device)[:, None]
    return begin + torch.where(position <= last, last - position, position), (begin + last)[:, 0]


def take(x: Float[Tensor, "B S D"], rows: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
    """These rows of the flattened [B * S, D]."""
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(*rows.shape, x.shape[2])


def _cell(module: nn.Module) -> nn.RNNBase:
    assert isinstance(module, nn.RNNBase)
    return module
