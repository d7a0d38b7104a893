"""CTranslate2's answers, and hypotheses made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from seq2seq.errors import DivergenceError
from seq2seq.inference.request import Hypothesis, SearchOptions
from seq2seq.tokens import BOS, EOS, PAD, SPECIAL_TOKENS

NEVER_WRITTEN = (SPECIAL_TOKENS[PAD], SPECIAL_TOKENS[BOS])
"""Tokens that no output holds."""

_END = SPECIAL_TOKENS[EOS]


class Task(NamedTuple):
    """One sentence as CTranslate2 is asked for it."""

    number: int
    source: list[str]
    prefix: list[str]
    minimum: int
    """Fewest tokens, EOS not counted."""
    maximum: int
    """Most tokens, EOS not counted."""


class Answer(NamedTuple):
    """One hypothesis as CTranslate2 gave it."""

    tokens: list[str]
    """Without EOS."""
    log_probability: float
    """Of the tokens, and of EOS where it was written."""
    ended: bool
    """Whether EOS was written."""


def answers_of(result: Any, alpha: float) -> Iterator[Answer]:
    """The hypotheses of one sentence; `alpha` is the length penalty they were ranked by.

    Raises:
        DivergenceError: the model's output is NaN.
    """
    for tokens, score in zip(result.hypotheses, result.scores, strict=True):
        if math.isnan(score):
            raise DivergenceError(
                "the model's output is not a number",
                hint="its weights hold NaN or infinity; use an earlier checkpoint",
                code="model.not-a-number",
            )
        if score > -math.inf:
            ended = bool(tokens) and tokens[-1] == _END
            yield Answer(tokens[:-1] if ended else tokens, score * len(tokens) ** alpha, ended)


def is_faulty(answers: Sequence[Answer] | None, task: Task) -> bool:
    """Whether a task must be searched for with care: none yet, a limit broken, or a token that is never written."""
    if answers is None:
        return True
    return any(
        len(answer.tokens) > task.maximum or (task.source and not answer.ended) for answer in answers
    ) or holds_forbidden(answers)


def holds_forbidden(answers: Sequence[Answer]) -> bool:
    """Whether one of the hypotheses holds a token that is never written."""
    return any(token in answer.tokens for answer in answers for token in NEVER_WRITTEN)


def drafts_of(answers: Sequence[Answer], task: Task, ids: dict[str, int]) -> list[Hypothesis]:
    """Different hypotheses within the task's limit, their scores left open."""
    found: dict[tuple[int, ...], Hypothesis] = {}
    for answer in answers:
        tokens = [ids[token] for token in answer.tokens[: task.maximum]]
        cut = bool(task.source) and (not answer.ended or len(answer.tokens) > task.maximum)
        found.setdefault(tuple(tokens), Hypothesis(tokens, 0.0, answer.log_probability, cut=cut))
    return list(found.values())


def ranked(drafts: Sequence[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    """The best ones by our own score, best first."""
    found = [
        draft._replace(
            score=draft.log_probability / (len(draft.tokens) + 1) ** options.length_penalty,
            token_scores=draft.token_scores if options.with_token_scores else None,
        )
        for draft in drafts
    ]
    nothing = Hypothesis([], -math.inf, -math.inf, cut=True)
    return sorted(found, key=lambda hypothesis: -hypothesis.score)[: options.n_best] or [nothing]
