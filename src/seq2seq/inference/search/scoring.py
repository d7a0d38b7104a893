"""Batches of token ids, and the probability that a model gives to a target (forced decoding)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.tokens import BOS, EOS, PAD

_POSITIONS_AT_ONCE = 2048


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first: size x longest <= `budget`, or the size is 1."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B L"]:
    """The rows as one tensor, PAD at their ends."""
    longest = max(len(row) for row in rows)
    filled = [[*row, *[PAD] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=device)


def target_token_scores(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], targets: Sequence[Sequence[int]]
) -> list[tuple[float, ...]]:
    """Natural log of P(token | source, tokens before it) for each target, the last one of EOS.

    `targets` hold neither BOS nor EOS. The same figures as the search's. Only some positions at a time are projected to
    the vocabulary.
    """
    target_in = padded([[BOS, *target] for target in targets], source.device)
    target_out = padded([[*target, EOS] for target in targets], source.device)
    hidden = model(source, target_in)
    lengths = [len(target) + 1 for target in targets]
    columns = torch.arange(target_out.shape[1], device=source.device)
    real = columns < torch.tensor(lengths, device=source.device)[:, None]
    hidden, tokens = hidden[real], target_out[real]
    parts = []
    for begin in range(0, len(tokens), _POSITIONS_AT_ONCE):
        some = slice(begin, begin + _POSITIONS_AT_ONCE)
        scores = log_probabilities(model, hidden[some])
        parts.append(scores.gather(1, tokens[some, None])[:, 0].cpu().double())
    return [tuple(scores.tolist()) for scores in torch.split(torch.cat(parts), lengths)]


def target_log_probabilities(
    model: Seq2SeqModel, source: Int[Tensor, "B S"], targets: Sequence[Sequence[int]]
) -> Float[Tensor, " B"]:
    """Natural log of P(target, EOS | source) for each pair, as float64 on the CPU: sums of `target_token_scores`."""
    sums = [sum(scores) for scores in target_token_scores(model, source, targets)]
    return torch.tensor(sums, dtype=torch.float64)
