"""Probabilities of whole outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq.decoding.forced_decoding import target_token_scores
from seq2seq.models.interface import Seq2SeqModel


def target_log_probabilities(model: Seq2SeqModel, source: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Natural log of P(target, EOS | source) for each pair [B], in float64."""
    sums = [sum(scores) for scores in target_token_scores(model, source, targets)]
    return torch.tensor(sums, dtype=torch.float64)
