"""A plain PyTorch training loop in fp32, as one would write it first: `nn.Transformer`, or a GRU with attention."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from batches import PAD, Clock, batches
from torch import Tensor, nn

WIDTH, FF_WIDTH, HEADS, LAYERS, VOCABULARY, DROPOUT, BUDGET = 256, 1024, 4, 3, 8000, 0.1, 4096


class Transformer(nn.Module):
    """`nn.Transformer` between one embedding, used three times, and sinusoidal positions."""

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
        self.transformer = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, FF_WIDTH, DROPOUT, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        angles = torch.arange(512.0)[:, None] * torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(1e4) / WIDTH))
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1))

    def embed(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, WIDTH]"""
        embedded: Tensor = self.dropout(self.embedding(tokens) * math.sqrt(WIDTH) + self.positions[: tokens.shape[1]])
        return embedded

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, S], [B, T] -> logits [B, T, VOCABULARY]"""
        length = target.shape[1]
        hidden = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            src_key_padding_mask=source == PAD,
            tgt_key_padding_mask=target == PAD,
            memory_key_padding_mask=source == PAD,
        )
        return F.linear(hidden, self.embedding.weight)


class GRU(nn.Module):
    """Bidirectional encoder, one-layer decoder with additive attention and input feeding, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
        self.encoder = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(WIDTH, WIDTH)
        self.cell = nn.GRUCell(2 * WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.energy = nn.Linear(WIDTH, 1, bias=False)
        self.combine = nn.Linear(2 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def attend(self, state: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """[B, WIDTH], twice [B, S, WIDTH], [B, S] -> [B, WIDTH]"""
        energies = self.energy(torch.tanh(keys + self.query(state).unsqueeze(1))).squeeze(2)
        weights = torch.softmax(energies.masked_fill(padding, -math.inf), dim=1)
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, S], [B, T] -> logits [B, T, VOCABULARY]"""
        padding = source == PAD
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(source)), (~padding).sum(1), batch_first=True, enforce_sorted=False
        )
        outputs, last = self.encoder(packed)
        values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        values = self.dropout(values)
        keys = self.key(values)
        state = torch.tanh(self.bridge(torch.cat([last[0], last[1]], dim=1)))
        fed = torch.zeros_like(state)
        embedded = self.dropout(self.embedding(target))
        steps = []
        for step in range(target.shape[1]):
            state = self.cell(torch.cat([embedded[:, step], fed], dim=1), state)
            context = self.attend(state, keys, values, padding)
            fed = torch.tanh(self.combine(torch.cat([state, context], dim=1)))
            steps.append(fed)
        return F.linear(self.dropout(torch.stack(steps, dim=1)), self.embedding.weight)


def main() -> None:
    """Train for so many updates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("transformer", "gru"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Transformer() if options.kind == "transformer" else GRU()
    rate = 3e-4 if options.kind == "transformer" else 1e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98), eps=1e-9)
    clock = Clock()
    for batch in batches(options.source, options.target, options.vocabulary, BUDGET):
        logits = model(batch.source, batch.target_in)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.target_out.flatten(), ignore_index=PAD, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        clock.update(batch.tokens)
        if clock.step == options.updates:
            print("loss", loss.item())
            return


if __name__ == "__main__":
    main()
