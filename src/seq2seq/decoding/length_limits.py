"""What an output may be: its shortest and longest length, and how it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seq2seq.decoding.candidates import Live, check_sampling
from seq2seq.decoding.interface import SearchOptions, Sentence, Words
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS


class Lengths(NamedTuple):
    """Bounds on a sentence's output in tokens, EOS not counted."""

    minimum: int
    maximum: int


def lengths(model: Seq2SeqModel, sentences: Sequence[Sentence], options: SearchOptions) -> list[Lengths]:
    """The bounds of each sentence, within the model's own; a maximum below what is demanded is raised.

    Raises `UsageError` where the model cannot write as much.
    """
    longest = model.max_target_length
    found = []
    for sentence in sentences:
        maximum = max(int(options.max_length_ratio * len(sentence.ids)) + options.max_length_offset, 0)
        needed = len(sentence.prefix) + sum(len(phrase) for phrase in sentence.phrases)
        maximum = max(maximum, needed)
        if longest is not None:
            maximum = min(maximum, longest - 1)
            if needed > maximum:
                raise UsageError(
                    f"the prefix and the phrases of an output have {needed} tokens together, more than the {maximum}"
                    " that the model can write",
                    code="search.phrases",
                )
        found.append(Lengths(min(int(options.min_length_ratio * len(sentence.ids)), maximum), maximum))
    return found


def check(sentences: Sequence[Sentence], options: SearchOptions) -> None:
    """Raise `UsageError` for options or prefixes that make no sense."""
    if options.beam_size < 1:
        raise UsageError(
            f"the beam size must be at least 1, not {options.beam_size}",
            hint="1 is greedy, 5 is usual",
            code="usage.value",
        )
    alpha = options.length_penalty
    if not 0 <= alpha < float("inf"):
        raise UsageError(
            f"the length penalty must be 0 or more, not {alpha}", hint="0.6 to 1 is usual", code="usage.value"
        )
    if options.n_best < 1:
        raise UsageError(f"n-best must be at least 1, not {options.n_best}", code="usage.value")
    if not 0 <= options.max_length_ratio < float("inf"):
        raise UsageError(
            f"the maximum length ratio must be 0 or more, not {options.max_length_ratio}",
            hint="2 is usual",
            code="usage.value",
        )
    if not 0 <= options.min_length_ratio <= options.max_length_ratio:
        raise UsageError(
            f"the minimum length ratio must lie between 0 and the maximum ({options.max_length_ratio}),"
            f" not {options.min_length_ratio}",
            hint="0.5 forbids outputs shorter than half the source",
            code="usage.value",
        )
    if options.sampling is not None:
        check_sampling(options.sampling)
    elif options.n_best > options.beam_size:
        raise UsageError(
            f"a beam of {options.beam_size} cannot give {options.n_best} hypotheses",
            hint=f"use a beam size of {options.n_best}",
            code="usage.value",
        )
    for sentence in sentences:
        special = {PAD, BOS, EOS} & set(sentence.prefix)
        if special:
            names = ", ".join(SPECIAL_TOKENS[token] for token in sorted(special))
            raise UsageError(f"a prefix cannot hold {names}", code="search.phrases")


class Limits:
    """Makes tokens impossible that no output may hold at its next position."""

    def __init__(self, sentences: Sequence[Sentence], bounds: Sequence[Lengths], words: Words | None = None) -> None:
        self.prefixes = [sentence.prefix for sentence in sentences]
        self.words = words
        self.begun = torch.tensor([len(prefix) for prefix in self.prefixes])
        self.minimum = torch.tensor([bound.minimum for bound in bounds])
        self.maximum = torch.tensor([bound.maximum for bound in bounds])
        longest_beginning = max(len(prefix) + bool(prefix) for prefix in self.prefixes)
        self.free = range(
            max(longest_beginning, *(bound.minimum for bound in bounds)), min(bound.maximum for bound in bounds)
        )
        """Lengths at which every output may go on as it likes."""

    def forbid(self, logits: Float[Tensor, "R V"], live: Live) -> Bool[Tensor, "N W"]:
        """In place: PAD and BOS are never written, EOS not too soon, nothing else at the maximum, the prefix first.

        Returns where the model would have gone on beyond the maximum.
        """
        logits[:, PAD] = -torch.inf
        logits[:, BOS] = -torch.inf
        width, written = live.tokens.shape[1], live.tokens.shape[2] - 1
        if written in self.free:
            return torch.zeros(len(live.sentences), width, dtype=torch.bool)
        by_sentence = logits.view(len(live.sentences), width, -1)
        numbers = torch.tensor(live.sentences)
        beginning = written < self.begun[numbers]
        at_end = (written >= self.maximum[numbers]) & ~beginning
        too_short = (written < self.minimum[numbers]) & ~beginning & ~at_end
        cut = torch.zeros(len(numbers), width, dtype=torch.bool)
        for place in beginning.nonzero().flatten().tolist():
            _only(by_sentence[place], self.prefixes[live.sentences[place]][written])
        if self.words is not None:
            for place in self.begun[numbers].eq(written).nonzero().flatten().tolist():
                if written and self.prefixes[live.sentences[place]][-1] in self.words.endings:
                    by_sentence[place][:, self.words.inner] = -torch.inf
        for place in at_end.nonzero().flatten().tolist():
            some = by_sentence[place]
            cut[place] = (some.amax(dim=1) > some[:, EOS]).cpu()
            _only(some, EOS)
        if too_short.any():
            by_sentence[too_short.to(logits.device), :, EOS] = -torch.inf
        return cut


def _only(logits: Float[Tensor, "W V"], token: int) -> None:
    kept = logits[:, token].clone()
    logits.fill_(-torch.inf)
    logits[:, token] = kept
