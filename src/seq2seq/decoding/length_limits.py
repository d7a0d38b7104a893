"""Minimum and maximum lengths of outputs, and the prefixes that they begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seq2seq.decoding.candidates import Live
from seq2seq.decoding.interface import SearchOptions, Sentence, WordTokens
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS

_MOST_TOKENS = 2**40
"""More than any output has: larger limits are no numbers for torch."""


class Lengths(NamedTuple):
    """Minimum and maximum length of an output in tokens, EOS not counted."""

    minimum: int
    maximum: int


def lengths(model: Seq2SeqModel, sentences: Sequence[Sentence], options: SearchOptions) -> list[Lengths]:
    """The length limits of each sentence, within those of the model.

    A maximum that is too short for the prefix and the phrases is raised. Raises `UsageError` if they are too long for
    the model.
    """
    limit = model.max_target_length
    limits = []
    for sentence in sentences:
        maximum = max(_tokens(options.max_length_ratio * len(sentence.ids) + options.max_length_offset), 0)
        needed = len(sentence.prefix) + sum(len(phrase) for phrase in sentence.phrases)
        maximum = max(maximum, needed)
        if limit is not None:
            maximum = min(maximum, limit - 1)
            if needed > maximum:
                raise UsageError(
                    f"the prefix and the phrases of an output have {needed} tokens together, more than the {maximum}"
                    " that the model can write",
                    code="search.phrases",
                )
        limits.append(Lengths(min(_tokens(options.min_length_ratio * len(sentence.ids)), maximum), maximum))
    return limits


def _tokens(length: float) -> int:
    return int(min(length, _MOST_TOKENS))


def check(sentences: Sequence[Sentence], options: SearchOptions) -> None:
    """Raise `UsageError` for impossible options or prefixes."""
    beam, alpha, best, infinity = options.beam_size, options.length_penalty, options.n_best, float("inf")
    most, least, diversity = options.max_length_ratio, options.min_length_ratio, options.diversity
    rules = [
        (beam >= 1, f"the beam size must be at least 1, not {beam}", "1 is greedy, 5 is usual"),
        (0 <= alpha < infinity, f"the length penalty must be 0 or more, not {alpha}", "0.6 to 1 is usual"),
        (best >= 1, f"n-best must be at least 1, not {best}", None),
        (0 <= most < infinity, f"the maximum length ratio must be 0 or more, not {most}", "2 is usual"),
        (
            0 <= least <= (most or infinity),  # without a ratio the offset is the limit, and the minimum yields to it
            f"the minimum length ratio must be between 0 and the maximum ({most}), not {least}",
            "0.5 forbids outputs shorter than half the source",
        ),
        (0 <= diversity < infinity, f"diversity must be 0 or more, not {diversity}", "0.2 to 0.8 is usual"),
    ]
    if (sampling := options.sampling) is None:
        rules.append((best <= beam, f"a beam of {beam} cannot give {best} hypotheses", f"use a beam size of {best}"))
    else:
        temperature, mass = sampling.temperature, sampling.top_p
        greedy, everything = "a beam size of 1 without sampling is greedy search", "samples among all tokens"
        rules += [
            (0 < temperature < infinity, f"temperature must be above 0, not {temperature}", greedy),
            (sampling.top_k >= 0, f"top_k must be 0 or more, not {sampling.top_k}", f"0 {everything}"),
            (0 < mass <= 1, f"top_p must be above 0 and at most 1, not {mass}", f"1 {everything}"),
            (sampling.seed >= 0, f"the seed must be 0 or more, not {sampling.seed}", None),
        ]
    for holds, what, hint in rules:
        if not holds:
            raise UsageError(what, hint=hint, code="usage.value")
    for sentence in sentences:
        if special := {PAD, BOS, EOS} & set(sentence.prefix):
            names = ", ".join(SPECIAL_TOKENS[token] for token in sorted(special))
            raise UsageError(f"a prefix cannot hold {names}", code="search.phrases")


def require_beam(option: str, size: int) -> None:
    """Raise `UsageError` for an option that chooses among the hypotheses of a beam of 1."""
    if size == 1:
        raise UsageError(
            f"{option} chooses among several translations, and a beam of 1 has one",
            hint="--beam-size 5",
            code="usage.conflict",
        )


class TokenConstraints:
    """Masks the tokens that are not allowed next, by the prefix of the output and its length limits."""

    def __init__(self, sentences: Sequence[Sentence], limits: Sequence[Lengths], words: WordTokens | None) -> None:
        self.prefixes = [sentence.prefix for sentence in sentences]
        self.words = words
        self.prefix_lengths = torch.tensor([len(prefix) for prefix in self.prefixes])
        self.minimum = torch.tensor([limit.minimum for limit in limits])
        self.maximum = torch.tensor([limit.maximum for limit in limits])
        longest = max(len(prefix) + bool(prefix) for prefix in self.prefixes)
        self.free = range(max(longest, *(limit.minimum for limit in limits)), min(limit.maximum for limit in limits))
        """Output lengths at which nothing but PAD and BOS is forbidden in any sentence."""

    def apply(self, logits: Float[Tensor, "R V"], live: Live) -> Bool[Tensor, "N W"]:
        """Set the logits of forbidden tokens to -inf, in place.

        PAD and BOS are always forbidden, EOS before the minimum length, other tokens at the maximum, and within the
        prefix all but its own. Returns which hypotheses the model would have continued beyond the maximum.
        """
        logits[:, PAD] = -torch.inf
        logits[:, BOS] = -torch.inf
        width, written = live.tokens.shape[1], live.tokens.shape[2] - 1
        if written in self.free:
            return torch.zeros(len(live.sentences), width, dtype=torch.bool)
        by_sentence = logits.view(len(live.sentences), width, -1)
        numbers = torch.tensor(live.sentences)
        in_prefix = written < self.prefix_lengths[numbers]
        at_end = (written >= self.maximum[numbers]) & ~in_prefix
        too_short = (written < self.minimum[numbers]) & ~in_prefix & ~at_end
        cut = torch.zeros(len(numbers), width, dtype=torch.bool)
        for row in in_prefix.nonzero().flatten().tolist():
            _allow_only(by_sentence[row], self.prefixes[live.sentences[row]][written])
        if self.words is not None:
            for row in self.prefix_lengths[numbers].eq(written).nonzero().flatten().tolist():
                if written and self.prefixes[live.sentences[row]][-1] in self.words.endings:
                    by_sentence[row][:, self.words.inner] = -torch.inf
        for row in at_end.nonzero().flatten().tolist():
            some = by_sentence[row]
            cut[row] = (some.amax(dim=1) > some[:, EOS]).cpu()
            _allow_only(some, EOS)
        if too_short.any():
            by_sentence[too_short.to(logits.device), :, EOS] = -torch.inf
        return cut


def _allow_only(logits: Float[Tensor, "W V"], token: int) -> None:
    kept = logits[:, token].clone()
    logits.fill_(-torch.inf)
    logits[:, token] = kept
