"""Probabilities of whole outputs and of their next tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq.decoding.forced_decoding import target_token_scores
from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.special_tokens import BOS, EOS, PAD


def target_log_probabilities(model: Seq2SeqModel, source: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Natural log of P(target, EOS | source) for each pair [B], in float64."""
    sums = [sum(scores) for scores in target_token_scores(model, source, targets)]
    return torch.tensor(sums, dtype=torch.float64)


def next_log_probabilities(model: Seq2SeqModel, source: Tensor, prefix: list[int]) -> list[float]:
    """Of one row of source tokens, without the stepwise path that search takes."""
    with torch.inference_mode():
        memory = model.encode(source[source != PAD][None])
        hidden = model.decode(torch.tensor([[BOS, *prefix]]), memory).hidden
        return log_probabilities(model, hidden[0, -1]).tolist()


def enumerate_all(model: Seq2SeqModel, source: Tensor, size: int, limit: int) -> list[tuple[list[int], float]]:
    """Every output of fewer than `limit` tokens with its log-probability, EOS included."""
    found = []
    prefixes: list[tuple[list[int], float]] = [([], 0.0)]
    for length in range(limit):
        longer = []
        for tokens, total in prefixes:
            scores = next_log_probabilities(model, source, tokens)
            found.append((tokens, total + scores[EOS]))
            if length + 1 < limit:
                longer += [([*tokens, t], total + scores[t]) for t in range(size) if t not in (PAD, BOS, EOS)]
        prefixes = longer
    return found
