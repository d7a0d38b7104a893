"""Batched beam search, with greedy search as the case `beam_size=1`, and sampling.

The search uses the contract of `models/interface.py` and knows no architecture. The end mark counts in the length of a
hypothesis: score = log P(tokens, EOS | source) / length^alpha. Every hypothesis includes the probability of EOS, also
one that is cut off at the maximum length, so `log_probability` equals that of forced decoding (`forced_decoding.py`).

Stop rule: EOS is accepted only among the best `beam_size` candidates of a position. A sentence is done when `beam_size`
hypotheses have finished, or when no live one can reach the score of the n-best: log P only falls, so the score of a
live hypothesis stays below log P / max_length^alpha. Hence beam 1 is the argmax at each position, and a beam as wide as
the space of hypotheses finds what enumeration finds.

The model runs on its device; the bookkeeping, a few numbers for each hypothesis, runs on the CPU in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.decoding.candidates import (
    Candidates,
    Choose,
    Live,
    Scores,
    best_candidates,
    generators,
    normalisers,
    sample,
)
from seq2seq.decoding.finished_hypotheses import FinishedHypotheses
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence, not_a_number_error
from seq2seq.decoding.length_limits import TokenConstraints, check, lengths
from seq2seq.decoding.output_tokens import ListedTokens, WholeVocabulary
from seq2seq.decoding.shortlist import Tokens
from seq2seq.kernels.compile import used
from seq2seq.models.interface import Seq2SeqModel, keep_rows
from seq2seq.special_tokens import BOS, PAD

_ROWS_AT_ONCE = 128
"""Hypotheses whose vocabulary scores are computed together on a CPU, so that they stay in its cache."""

_IDLE_SHARE = 1 / 8
"""Share of a batch's sentences that may be done before they are removed, where torch computes: it prepares its kernels
for every number of rows (oneDNN: 0.4 ms)."""

_MULTIPLE = 8
"""Batches shrink to multiples of this, below it to powers of two, for the same reason."""


def search(
    model: Seq2SeqModel,
    source: Int[Tensor, "B S"],
    sentences: Sequence[Sentence],
    options: SearchOptions,
    *,
    choose: Choose | None = None,
    lists: Sequence[Tokens] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each sentence, best first; fewer if fewer exist, but at least one.

    Of equal scores the lower beam comes first, then the lower token id. With `options.sampling`, `n_best` independent
    samples are drawn for each sentence, seeded by `Sentence.key`; `beam_size` is not used.

    Args:
        model: a model in eval mode.
        source: the sentences with EOS, padded, on the model's device.
        sentences: the same sentences, with their prefixes.
        options: of the search.
        choose: replaces the choice of the next tokens, e.g. for `Sentence.phrases` and `options.diversity`, which are
            ignored here. It sees the ids of tokens, so it takes no `lists`.
        lists: the tokens that each output may hold, which then have all the probability (see `ListedTokens`); for
            sentences without prefix.

    Raises:
        UsageError: impossible arguments.
        DivergenceError: the model's output is NaN.
    """
    check(sentences, options)
    if not sentences:
        return []
    limits = lengths(model, sentences, options)
    width = options.beam_size if options.sampling is None else options.n_best
    if choose is None and options.sampling is not None:
        streams = generators(options.sampling, [sentence.key for sentence in sentences])
        choose = partial(sample, width=width, sampling=options.sampling, streams=streams)
    finished = FinishedHypotheses([limit.maximum + 1 for limit in limits], options, width)
    # A given `choose` must not see sentences that are done, and compiled loops take any number of rows.
    idle_share = _IDLE_SHARE if choose is None and used() is None else 0.0
    # At most `width` of the best 2 * width are EOS; with a width of 1, EOS is the end of the search.
    choose = choose or partial(best_candidates, count=2 * width if width > 1 else 1)
    with torch.inference_mode():
        constraints = TokenConstraints(sentences, limits, options.words)
        outputs = WholeVocabulary(model) if lists is None else ListedTokens(model, lists)
        _extend(outputs, source, constraints, choose, finished, options, idle_share)
        return finished.best((source != PAD).sum(dim=1).tolist())


def _extend(
    outputs: WholeVocabulary,
    source: Int[Tensor, "B S"],
    constraints: TokenConstraints,
    choose: Choose,
    finished: FinishedHypotheses,
    options: SearchOptions,
    idle_share: float,
) -> None:
    """Extend the live hypotheses token by token; sentences that are done leave the batch, until none is left."""
    size = len(source)
    zeros = torch.zeros(size, 1, dtype=torch.float64)
    live = Live(list(range(size)), zeros, torch.full((size, 1, 1), BOS))
    if options.with_token_scores:
        live = live._replace(history=zeros[:, :, None])
    model = outputs.model
    memory = model.encode(source)
    state = model.start(memory)
    while True:
        last = live.tokens[:, :, -1].flatten().to(source.device)
        stepped = model.step(last, memory, state, with_attention=options.with_attention)
        if options.with_attention and stepped.attention is not None:
            live = _with_attention(live, stepped.attention)
        candidates, cut = _choose(outputs, stepped.hidden, live, constraints, choose)
        continuing, done = finished.split(candidates, live, cut)
        remaining = _remaining(done, idle_share)
        if not len(remaining):
            return
        shrinks, width = len(remaining) < len(done), _width(continuing)
        continuing = Candidates(*((part[remaining] if shrinks else part)[:, :width] for part in continuing))
        rows = remaining[:, None] * live.totals.shape[1] + continuing.origins
        reorders = rows.shape != live.totals.shape or not torch.equal(rows.flatten(), torch.arange(rows.numel()))
        state = model.select(stepped.state, rows.to(source.device)) if reorders else stepped.state
        memory = keep_rows(memory, remaining) if shrinks else memory
        live = _advanced(live, continuing, remaining if shrinks else None, rows if reorders else None)


def _choose(
    outputs: WholeVocabulary, hidden: Float[Tensor, "R D"], live: Live, constraints: TokenConstraints, choose: Choose
) -> tuple[Candidates, Bool[Tensor, "N W"]]:
    """The candidates, and which hypotheses the model would have continued beyond the maximum length.

    Computed for some sentences at a time.
    """
    count, width = live.totals.shape
    at_once = max(1, _ROWS_AT_ONCE // width) if hidden.device.type == "cpu" else count
    candidates, cuts = [], []
    for begin in range(0, count, at_once):
        some = live.part(begin, begin + at_once)
        logits = outputs.logits(hidden[begin * width : (begin + at_once) * width], some)
        normaliser = normalisers(logits)
        if normaliser.isnan().any():
            raise not_a_number_error()
        cuts.append(constraints.apply(logits, some))
        candidates.append(outputs.named(choose(Scores(logits, normaliser), some), some))
    if len(candidates) == 1:
        return candidates[0], cuts[0]
    return Candidates(*map(torch.cat, zip(*candidates, strict=True))), torch.cat(cuts)


def _with_attention(live: Live, attention: Float[Tensor, "R S"]) -> Live:
    count, width, _ = live.tokens.shape
    row = attention.view(count, width, 1, -1)
    return live._replace(attention=row if live.attention is None else torch.cat((live.attention, row), dim=2))


def _remaining(done: Bool[Tensor, " N"], idle_share: float) -> Int[Tensor, " N2"]:
    """Sentences that stay in the batch; the last ones move to the places of those that leave.

    With an `idle_share`, some that are done stay too, and keep the batch at a size with prepared kernels.
    """
    live, size = len(done) - int(done.sum()), len(done)
    if live == size:
        return torch.arange(size)
    if not live or size - live <= idle_share * size:
        size = size if live else 0
    elif not idle_share:
        size = live
    else:
        size = min(size, -(-live // _MULTIPLE) * _MULTIPLE if live > _MULTIPLE else 1 << (live - 1).bit_length())
    remaining = torch.arange(size)
    moved = size + (~done[size:]).nonzero().flatten()
    remaining[done[:size].nonzero().flatten()[: len(moved)]] = moved
    return remaining


def _width(continuing: Candidates) -> int:
    """Columns up to the last that any sentence uses."""
    width = continuing.totals.shape[1]
    if width == 1 or bool((continuing.totals[:, -1] > -torch.inf).any()):
        return width
    return int((continuing.totals > -torch.inf).any(dim=0).nonzero().max()) + 1


def _advanced(
    live: Live, continuing: Candidates, remaining: Int[Tensor, " N"] | None, rows: Int[Tensor, "N W"] | None
) -> Live:
    """The live hypotheses with their new tokens: of the remaining sentences, in the order of `rows`; None for all."""

    def reordered(tensor: Tensor) -> Tensor:
        if rows is None:
            return tensor
        chosen = tensor.flatten(0, 1).index_select(0, rows.flatten().to(tensor.device))
        return chosen.view(*rows.shape, *tensor.shape[2:])

    history = live.history
    return Live(
        live.sentences if remaining is None else [live.sentences[row] for row in remaining.tolist()],
        continuing.totals,
        torch.cat((reordered(live.tokens), continuing.tokens[:, :, None]), dim=2),
        None if history is None else torch.cat((reordered(history), continuing.totals[:, :, None]), dim=2),
        None if live.attention is None else reordered(live.attention),
    )
