"""Batched search for the best target: beam search, of which greedy is the case `beam_size=1`, and sampling.

Knows the contract of `models/interface.py` and no architecture. A hypothesis of n tokens has length n + 1,
as its end mark counts: score = log P(tokens, EOS | source) / length^alpha. Every hypothesis pays for its
EOS, also one that is cut at the maximum length, so `log_probability` is always what teacher forcing gives
(`scoring.py`).

Stop rule: EOS is accepted only among the best `beam_size` candidates of a position. A sentence is done when
`beam_size` hypotheses have ended, or when nothing alive can overtake the n-best one: log P only falls, so an
alive hypothesis never scores above log P / max_length^alpha. Hence beam 1 is the argmax at each position,
and a beam as wide as the space of hypotheses finds what enumeration finds.

The model runs on its device; the bookkeeping, some numbers per hypothesis, runs on the CPU in float64.
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
from seq2seq.decoding.finished import Endings
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import Limits, check, lengths
from seq2seq.errors import DivergenceError
from seq2seq.kernels.compile import used
from seq2seq.models.interface import Seq2SeqModel, keep_rows
from seq2seq.special_tokens import BOS, PAD

_ROWS_AT_ONCE = 128
"""Hypotheses whose scores over the vocabulary are computed together on a CPU: they should stay in its cache."""


_IDLE = 1 / 8
"""Share of the batch's sentences that may be done, where torch computes: it prepares products for every size anew."""

_SIZES = 8
"""Batches shrink to multiples of this, and below it to powers of two, with sentences that are done among them: oneDNN
makes its kernels anew for every number of rows (0.4 ms each)."""


def search(
    model: Seq2SeqModel,
    source: Int[Tensor, "B S"],
    sentences: Sequence[Sentence],
    options: SearchOptions,
    *,
    choose: Choose | None = None,
) -> list[list[Hypothesis]]:
    """For every sentence its `n_best` hypotheses by falling score; fewer where fewer exist, never none.

    `source` holds the sentences padded, on the model's device; put the model in eval mode first. Equal scores go to the
    lower beam place, then to the lower token id. With `options.sampling`, `n_best` independent draws per sentence;
    `beam_size` is not used, and `Sentence.key` seeds each. `choose` replaces the choice of the next tokens, and is
    what honours `Sentence.phrases` and `options.diversity`. Raises `UsageError` for impossible arguments,
    `DivergenceError` where the model's output is NaN.
    """
    check(sentences, options)
    if not sentences:
        return []
    bounds = lengths(model, sentences, options)
    width = options.beam_size if options.sampling is None else options.n_best
    if choose is None and options.sampling is not None:
        streams = generators(options.sampling, [sentence.key for sentence in sentences])
        choose = partial(sample, width=width, sampling=options.sampling, streams=streams)
    endings = Endings([bound.maximum + 1 for bound in bounds], options, width)
    # Another's choice sees no sentence that is done; compiled loops take any number of rows.
    idle = _IDLE if choose is None and used() is None else 0.0
    # At most `width` of the best 2 * width are EOS; where only one is kept, its end ends the search.
    choose = choose or partial(best_candidates, count=2 * width if width > 1 else 1)
    with torch.inference_mode():
        _grow(model, source, Limits(sentences, bounds, options.words), choose, endings, options, idle)
        return endings.best((source != PAD).sum(dim=1).tolist())


def _grow(
    model: Seq2SeqModel,
    source: Int[Tensor, "B S"],
    limits: Limits,
    choose: Choose,
    endings: Endings,
    options: SearchOptions,
    idle: float,
) -> None:
    """The loop of every search: one token a turn; sentences leave the batch when they are done."""
    size = len(source)
    zeros = torch.zeros(size, 1, dtype=torch.float64)
    live = Live(list(range(size)), zeros, torch.full((size, 1, 1), BOS))
    if options.with_token_scores:
        live = live._replace(history=zeros[:, :, None])
    memory = model.encode(source)
    state = model.start(memory)
    while True:
        last = live.tokens[:, :, -1].flatten().to(source.device)
        stepped = model.step(last, memory, state, with_attention=options.with_attention)
        if options.with_attention and stepped.attention is not None:
            live = _with_attention(live, stepped.attention)
        candidates, cut = _choose(model, stepped.hidden, live, limits, choose)
        going, done = endings.divide(candidates, live, cut)
        kept = _kept(done, idle)
        if not len(kept):
            return
        leave, width = len(kept) < len(done), _width(going)
        going = Candidates(*((part[kept] if leave else part)[:, :width] for part in going))
        rows = kept[:, None] * live.totals.shape[1] + going.origins
        move = rows.shape != live.totals.shape or not torch.equal(rows.flatten(), torch.arange(rows.numel()))
        state = model.select(stepped.state, rows.to(source.device)) if move else stepped.state
        memory = keep_rows(memory, kept.to(source.device)) if leave else memory
        live = _advanced(live, going, kept if leave else None, rows if move else None)


def _choose(
    model: Seq2SeqModel, hidden: Float[Tensor, "R D"], live: Live, limits: Limits, choose: Choose
) -> tuple[Candidates, Bool[Tensor, "N W"]]:
    """Some sentences at a time. Also where a hypothesis would have gone on, had it not met its maximum length."""
    count, width = live.totals.shape
    at_once = max(1, _ROWS_AT_ONCE // width) if hidden.device.type == "cpu" else count
    found, cuts = [], []
    for begin in range(0, count, at_once):
        some = live.part(begin, begin + at_once)
        logits = model.logits(hidden[begin * width : (begin + at_once) * width])
        normaliser = normalisers(logits)
        if normaliser.isnan().any():
            raise DivergenceError(
                "the model's output is not a number",
                hint="its weights hold NaN or infinity; use an earlier checkpoint",
                code="model.not-a-number",
            )
        cuts.append(limits.forbid(logits, some))
        found.append(choose(Scores(logits, normaliser), some))
    if len(found) == 1:
        return found[0], cuts[0]
    return Candidates(*map(torch.cat, zip(*found, strict=True))), torch.cat(cuts)


def _with_attention(live: Live, attention: Float[Tensor, "R S"]) -> Live:
    count, width, _ = live.tokens.shape
    row = attention.view(count, width, 1, -1)
    return live._replace(attention=row if live.attention is None else torch.cat((live.attention, row), dim=2))


def _kept(done: Bool[Tensor, " N"], idle: float) -> Int[Tensor, " N2"]:
    """Sentences that stay in the batch: in their places, or in those of such that leave.

    Where there may be idle ones, some that are done stay to fill it up.
    """
    going, size = len(done) - int(done.sum()), len(done)
    if not going or len(done) - going <= idle * len(done):
        size = size if going else 0
    elif not idle:
        size = going
    else:
        size = min(size, -(-going // _SIZES) * _SIZES if going > _SIZES else 1 << (going - 1).bit_length())
    kept = torch.arange(size)
    movers = size + (~done[size:]).nonzero().flatten()
    kept[done[:size].nonzero().flatten()[: len(movers)]] = movers
    return kept


def _width(going: Candidates) -> int:
    """Places up to the last that any sentence needs."""
    if going.totals.shape[1] == 1:
        return 1
    return int((going.totals > -torch.inf).any(dim=0).nonzero().max()) + 1


def _advanced(live: Live, going: Candidates, kept: Int[Tensor, " N"] | None, rows: Int[Tensor, "N W"] | None) -> Live:
    """The live hypotheses with their new tokens; of some sentences, and reordered, where that is given."""

    def past(tensor: Tensor) -> Tensor:
        return tensor if rows is None else tensor.flatten(0, 1)[rows.to(tensor.device)]

    history = live.history
    return Live(
        live.sentences if kept is None else [live.sentences[place] for place in kept.tolist()],
        going.totals,
        torch.cat((past(live.tokens), going.tokens[:, :, None]), dim=2),
        None if history is None else torch.cat((past(history), going.totals[:, :, None]), dim=2),
        None if live.attention is None else past(live.attention),
    )
