"""Recurrent encoder-decoder (Sutskever et al. 2014, Bahdanau et al. 2015, Luong et al. 2015)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.config.model import RNNSettings
from seq2seq.models.attention import KeysValues, RecurrentAttention, padding_bias
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel, Stepped
from seq2seq.models.layers import Dropout, embeddings_and_output
from seq2seq.models.linear import Linear, compute_dtype, initialise_linear
from seq2seq.models.rnn_cells import CellState, RecurrentEncoder, advance, build_cell, project, run
from seq2seq.special_tokens import PAD


class RNNState(NamedTuple):
    """State of the recurrent decoder, one row for each hypothesis."""

    hidden: Float[Tensor, "R L D"]
    cell: Float[Tensor, "R L D"] | None
    """The LSTM's cells."""
    feed: Float[Tensor, "R D"] | None
    """The last attentional vector, with input feeding."""


class RNNModel(Seq2SeqModel):
    """The recurrent model under the contract of `Seq2SeqModel`, with any of the three cells.

    `Memory.keys` holds the decoder's first state [B, N, L, D] (N = 2 for an LSTM: hidden and cell) and the
    projections of the attention. The decoder at position t (Luong et al. 2015, equations 1-5, section 3.3):

        s_t = cell([embedding_t ; a_(t-1)], s_(t-1)),  c_t = attention(s_t),  a_t = tanh(W [s_t ; c_t])

    Without input feeding a_(t-1) is left out; without attention a_t = s_t. The first state is tanh(W f) of the
    encoder's final states f, of all layers and both directions.
    """

    def __init__(self, settings: RNNSettings, source_size: int, target_size: int) -> None:
        super().__init__()
        width, embedding, layers = settings.hidden_size, settings.embedding_size, settings.decoder_layers
        self.settings = settings
        self.encoder = RecurrentEncoder(
            settings.cell,
            embedding,
            width,
            settings.encoder_layers,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout,
        )
        self.cells = nn.ModuleList(
            build_cell(settings.cell, width if layer else embedding, width) for layer in range(layers)
        )
        self.parts = 2 if settings.cell == "lstm" else 1
        self.bridge = Linear(settings.encoder_layers * width, self.parts * layers * width)
        gates = {"gru": 3, "lstm": 4, "tanh": 1}[settings.cell] * width
        self.feed = Linear(width, gates, bias=False) if settings.input_feeding else None
        self.attention: RecurrentAttention | None = None
        if settings.attention != "none":
            self.attention = RecurrentAttention(settings.attention, width, settings.num_heads)
            self.combine = Linear(2 * width, width)
        # Without attention the encoder's outputs are not used, and their norm would get no gradient.
        has_attention_norms = settings.layer_norm and settings.attention != "none"
        self.memory_norm = nn.LayerNorm(width) if has_attention_norms else nn.Identity()
        self.query_norm = nn.LayerNorm(width) if has_attention_norms else nn.Identity()
        self.output_norm = nn.LayerNorm(width) if settings.layer_norm else nn.Identity()
        # A tied output needs the embedding's width.
        narrow = settings.tied_embeddings != "none" and embedding != width
        self.before_output = Linear(width, embedding) if narrow else nn.Identity()
        self.dropout = Dropout(settings.dropout)
        self.apply(initialise_linear)
        self.source_embedding, self.target_embedding, self.output = embeddings_and_output(
            settings.tied_embeddings,
            source_size,
            target_size,
            embedding,
            embedding if narrow else width,
            settings.word_dropout,
        )

    def encode(self, source: Int[Tensor, "B S"]) -> Memory:
        mask = source != PAD
        embedded = self.dropout(self.source_embedding(source))
        encoded = self.encoder(embedded, mask)
        states = self.memory_norm(encoded.states) * mask[:, :, None].to(embedded.dtype)
        initial = torch.tanh(self.bridge(encoded.finals)).view(
            source.shape[0], self.parts, self.settings.decoder_layers, self.settings.hidden_size
        )
        keys: tuple[Tensor, ...] = ()
        if self.attention is not None:
            keys = self.attention.project(states, compute_dtype(states))
        return Memory(states, mask, (initial, *keys))

    def start(self, memory: Memory) -> RNNState:
        initial = memory.keys[0]
        feed = None if self.feed is None else torch.zeros_like(initial[:, 0, 0])
        return RNNState(initial[:, 0], initial[:, 1] if self.parts == 2 else None, feed)

    def step(
        self, tokens: Int[Tensor, " R"], memory: Memory, state: RNNState, *, with_attention: bool = False
    ) -> Stepped:
        projected = project(self._cell(0), self.dropout(self.target_embedding(tokens)))
        layers, hidden, weights = self._advance(
            projected, memory, _unpack(state), state.feed, padding_bias(memory.mask)
        )
        after = _pack(layers, None if self.feed is None else hidden)
        attention = None
        if with_attention and weights is not None:
            attention = _masked(weights, memory).mean(dim=1).flatten(0, 1)
        return Stepped(self._finish(hidden), after, attention)

    def decode(self, target_in: Int[Tensor, "B T"], memory: Memory, *, with_attention: bool = False) -> Decoded:
        if self.training and self.settings.teacher_forcing < 1.0:
            hidden, weights = self._decode_sampled(target_in, memory)
        else:
            embedded = self.dropout(self.target_embedding(target_in))
            forced = self._decode_layer_by_layer if self.feed is None else self._decode_step_by_step
            hidden, weights = forced(embedded, memory)
            hidden = self._finish(hidden)
        attention = _masked(weights, memory)[:, None] if with_attention and weights is not None else None
        return Decoded(hidden, attention)

    def _decode_layer_by_layer(
        self, x: Float[Tensor, "B T E"], memory: Memory
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """Without input feeding every layer runs over all positions, then the attention does."""
        for layer, begin in enumerate(_unpack(self.start(memory))):
            x = self.dropout(x) if layer else x
            x = run(self._cell(layer), x, begin)
        return self._attentional_vectors(x, memory, padding_bias(memory.mask))

    def _decode_step_by_step(
        self, embedded: Float[Tensor, "B T E"], memory: Memory
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """With input feeding positions follow one another; the embeddings' part of the gates is one product for all."""
        state, bias = self.start(memory), padding_bias(memory.mask)
        layers, feed = _unpack(state), state.feed
        hidden, rows = [], []
        for projected in project(self._cell(0), embedded).unbind(1):
            layers, feed, weights = self._advance(projected, memory, layers, feed, bias)
            hidden.append(feed)
            rows.append(weights)
        return torch.stack(hidden, dim=1), _joined(rows)

    def _decode_sampled(
        self, target_in: Int[Tensor, "B T"], memory: Memory
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """Scheduled sampling (Bengio et al. 2015): each input is the reference token or the model's best one."""
        state, bias = self.start(memory), padding_bias(memory.mask)
        layers, feed = _unpack(state), state.feed
        reference = torch.rand(target_in.shape, device=target_in.device) < self.settings.teacher_forcing
        hidden: list[Tensor] = []
        rows = []
        for position, tokens in enumerate(target_in.unbind(1)):
            if position > 0:
                # Not under no_grad: autocast would cache a copy of the weights without a gradient for the loss.
                own = self.output(hidden[-1].detach()).argmax(dim=-1)
                tokens = torch.where(reference[:, position], tokens, own)
            projected = project(self._cell(0), self.dropout(self.target_embedding(tokens)))
            layers, feed, weights = self._advance(projected, memory, layers, feed, bias)
            hidden.append(self._finish(feed))
            rows.append(weights)
        return torch.stack(hidden, dim=1), _joined(rows)

    def _advance(
        self,
        projected: Float[Tensor, "R G"],
        memory: Memory,
        layers: list[CellState],
        feed: Float[Tensor, "R D"] | None,
        bias: Float[Tensor, "N 1 1 S"],
    ) -> tuple[list[CellState], Float[Tensor, "R D"], Float[Tensor, "N H W S"] | None]:
        """Decode one position: every layer's cell, then the attention.

        The W hypotheses of a sentence attend to its memory together.
        """
        if self.feed is not None:
            projected = projected + self.feed(feed)
        after: list[CellState] = []
        for layer, before in enumerate(layers):
            cell = self._cell(layer)
            if layer > 0:
                projected = project(cell, self.dropout(after[-1].hidden))
            after.append(advance(cell, projected, before))
        top, sentences = after[-1].hidden, len(memory.mask)
        hidden, weights = self._attentional_vectors(top.view(sentences, len(top) // sentences, -1), memory, bias)
        return after, hidden.flatten(0, 1), weights

    def _attentional_vectors(
        self, top: Float[Tensor, "B T D"], memory: Memory, bias: Float[Tensor, "B 1 1 S"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"] | None]:
        """tanh(W [s ; c]) of these top states s and their contexts c, or s without attention; and the weights."""
        if self.attention is None:
            return top, None
        query = self.query_norm(top)
        context, weights = self.attention(query, KeysValues(*memory.keys[1:]), bias)
        return torch.tanh(self.combine(torch.cat([query, context], dim=2))), weights

    def _finish(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N H"]:
        """Input of the output projection."""
        finished: Tensor = self.before_output(self.dropout(self.output_norm(hidden)))
        return finished

    def _cell(self, layer: int) -> nn.RNNBase:
        cell = self.cells[layer]
        assert isinstance(cell, nn.RNNBase)
        return cell


def _unpack(state: RNNState) -> list[CellState]:
    hidden = state.hidden.unbind(1)
    cells = [None] * len(hidden) if state.cell is None else state.cell.unbind(1)
    return [CellState(*pair) for pair in zip(hidden, cells, strict=True)]


def _pack(layers: list[CellState], feed: Float[Tensor, "B D"] | None) -> RNNState:
    cells = [layer.cell for layer in layers if layer.cell is not None]
    hidden = torch.stack([layer.hidden for layer in layers], dim=1)
    return RNNState(hidden, torch.stack(cells, dim=1) if cells else None, feed)


def _joined(rows: list[Float[Tensor, "B H 1 S"] | None]) -> Float[Tensor, "B H T S"] | None:
    weights = [row for row in rows if row is not None]
    return torch.cat(weights, dim=2) if weights else None


def _masked(weights: Float[Tensor, "B H T S"], memory: Memory) -> Float[Tensor, "B H T S"]:
    """The weights with zeros at padding, also in rows of padding alone."""
    return weights * memory.mask[:, None, None, :].to(weights.dtype)
