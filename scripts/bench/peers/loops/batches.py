"""Segmented text as token batches, and a clock: for the loops that have no data loader of their own."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

PAD, BOS, EOS, UNK = 0, 1, 2, 3
LOG_EVERY = 10


class Batch(NamedTuple):
    """Each tensor is [pairs, positions]."""

    source: Tensor
    target_in: Tensor
    target_out: Tensor
    tokens: int
    """Of the target side, end marks counted, padding not."""


def batches(source: Path, target: Path, vocabulary: Path, budget: int) -> Iterator[Batch]:
    """Batches of pairs of like length for ever, in a new order each epoch; the longer side, padded, stays in budget."""
    pieces = vocabulary.read_text(encoding="utf-8").splitlines()
    number = {piece: index for index, piece in enumerate(pieces, start=UNK + 1)}

    def read(path: Path) -> list[list[int]]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [[number.get(piece, UNK) for piece in line.split(" ")] for line in lines]

    pairs = list(zip(read(source), read(target), strict=True))
    chance = random.Random(1)
    while True:
        chance.shuffle(pairs)
        pairs.sort(key=lambda pair: (max(map(len, pair)), len(pair[0])))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pairs:  # ascending: the last one is the longest
            if (max(map(len, pair)) + 1) * (len(groups[-1]) + 1) > budget:
                groups.append([])
            groups[-1].append(pair)
        chance.shuffle(groups)
        yield from map(_collate, groups)


def _collate(group: list[tuple[list[int], list[int]]]) -> Batch:
    return Batch(
        _padded([[*source, EOS] for source, _ in group]),
        _padded([[BOS, *target] for _, target in group]),
        _padded([[*target, EOS] for _, target in group]),
        sum(len(target) + 1 for _, target in group),
    )


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


class Clock:
    """Prints a line of JSON every ten updates."""

    def __init__(self) -> None:
        self.step = self._tokens = 0
        self._started = time.perf_counter()

    def update(self, tokens: int) -> None:
        """One update is over."""
        self.step += 1
        self._tokens += tokens
        if self.step % LOG_EVERY == 0:
            now = time.perf_counter()
            speed = self._tokens / (now - self._started)
            print(json.dumps({"step": self.step, "target_tokens_per_second": speed}), flush=True)
            self._tokens, self._started = 0, now
