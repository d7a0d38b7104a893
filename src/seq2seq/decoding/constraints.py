"""Lexically constrained beam search with dynamic beam allocation (Post and Vilar 2018).

Hypotheses are ranked within banks, by the number of tokens of the required phrases that they hold, and every bank has a
share of the beam: a hypothesis does not lose its place because it has paid for a phrase earlier than others. EOS is
allowed when no phrase is missing, and a hypothesis that cannot complete its phrases before the maximum length is
dropped. Without phrases this is ordinary beam search.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import mul
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Choose, Live, Scores, best_candidates
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.decoding.length_limits import Lengths
from seq2seq.errors import UsageError
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

_MAX_WIDTH = 20
"""Maximum beam size that is chosen because of phrases."""

_MAX_LOSS = 12.0
"""Nats by which a hypothesis may be less probable to be an alternative to one that is about to end, or has ended."""


class _Step(NamedTuple):
    """A candidate: a hypothesis with one more token."""

    total: float
    """Log-probability with the token."""
    beam: int
    """Index of the hypothesis."""
    token: int
    written: int
    """Tokens of the phrases that the output then holds."""


def constrained_width(phrases: Sequence[Sequence[int]], beam_size: int) -> int:
    """Beam size for these phrases: a beam for each number of their tokens, 20 at most, but at least `beam_size`.

    Wider beams are multiples of four, so that many sentences share a batch.
    """
    total = sum(map(len, phrases))
    return max(beam_size, min(4 * (total // 4 + 1), _MAX_WIDTH)) if total else beam_size


def constrained(sentences: Sequence[Sentence], limits: Sequence[Lengths], options: SearchOptions) -> Choose:
    """The choice of tokens for `search` that makes each output hold the phrases of its sentence.

    Raises:
        UsageError: a phrase holds special tokens, or the phrases are too long for the maximum length.
    """
    for number, (sentence, limit) in enumerate(zip(sentences, limits, strict=True), start=1):
        special = {PAD, BOS, EOS} & set(chain.from_iterable(sentence.phrases))
        if special:
            names = ", ".join(SPECIAL_TOKENS[token] for token in sorted(special))
            raise UsageError(f"a phrase cannot hold {names}", code="search.phrases")
        needed = least_tokens(sentence.prefix, sentence.phrases)
        if needed > limit.maximum:
            raise UsageError(
                f"the phrases of sentence {number} need {needed} tokens; its longest output has {limit.maximum}",
                hint="fewer or shorter phrases, or a larger decoding.max_length_offset",
                code="search.phrases",
            )
    return _Chooser(sentences, limits, options)


class _Chooser:
    """Chooses the candidates of sentences with and without phrases."""

    def __init__(self, sentences: Sequence[Sentence], limits: Sequence[Lengths], options: SearchOptions) -> None:
        self.words = options.words
        self.inner = torch.tensor(() if self.words is None else self.words.inner, dtype=torch.long)
        self.phrases = [Phrases(sentence.phrases) for sentence in sentences]
        self.maxima = [limit.maximum for limit in limits]
        self.width, self.n_best = options.beam_size, options.n_best
        self.ended: list[list[float]] = [[] for _ in sentences]
        """Log-probabilities of the finished hypotheses of each sentence that are among its n best, best first."""

    def __call__(self, scores: Scores, live: Live) -> Candidates:
        columns = 2 * self.width
        if all(self.phrases[sentence].total for sentence in live.sentences):
            candidates = _empty(len(live.sentences), columns)
        else:
            candidates = _widened(best_candidates(scores, live, columns), columns)
        for row, steps in self._steps(scores, live).items():
            chosen = self._chosen(steps, live.sentences[row])
            empty = [_Step(-float("inf"), 0, UNK, 0)] * (columns - len(chosen))
            totals, origins, tokens, _ = zip(*chosen, *empty, strict=True)
            candidates.totals[row] = torch.tensor(totals, dtype=torch.float64)
            candidates.origins[row], candidates.tokens[row] = torch.tensor(origins), torch.tensor(tokens)
        return candidates

    def _chosen(self, steps: list[_Step], sentence: int) -> list[_Step]:
        """The steps that share the beam. Without those that have fallen far behind the n best finished hypotheses: the
        banks keep places for hypotheses that never complete their phrases, and the stop rule alone would follow these
        to the maximum length."""
        ended = self.ended[sentence]
        if len(ended) == self.n_best:
            steps = [step for step in steps if step.total > ended[-1] - _MAX_LOSS]
        chosen = _allocated(steps, self.width, self.phrases[sentence].total)
        totals = [step.total for step in chosen[: self.width] if step.token == EOS]
        self.ended[sentence] = sorted([*ended, *totals], reverse=True)[: self.n_best]
        return chosen

    def _steps(self, scores: Scores, live: Live) -> dict[int, list[_Step]]:
        """The steps of each sentence with phrases: the best and the useful tokens of every hypothesis."""
        beams = live.totals.shape[1]
        states: dict[tuple[int, int], Fulfilment] = {}
        closed: list[int] = []
        for row, sentence in enumerate(live.sentences):
            if self.phrases[sentence].total:
                for beam, tokens in enumerate(live.tokens[row, :, 1:].tolist()):
                    if live.totals[row, beam] > -torch.inf:
                        if self.words is not None and self.phrases[sentence].ended(tokens, self.words.endings):
                            closed.append(len(states))
                        states[row, beam] = self.phrases[sentence].after(tokens)
        steps: dict[int, list[_Step]] = {row: [] for row, _ in states}
        if states:
            rows = torch.tensor([row * beams + beam for row, beam in states])
            options = _options(scores, rows, list(states.values()), 2 * self.width, (closed, self.inner))
            written = live.tokens.shape[2]
            ending = set() if self.words is None else _ending_too_soon(scores, live, rows, states)
            inside = set() if self.words is None else _inside_words(scores, rows, states, self.inner, closed)
            for ((row, beam), state), found in zip(states.items(), options, strict=True):
                if (row, beam) in ending:
                    continue
                total = float(live.totals[row, beam])
                left = self.maxima[live.sentences[row]] - written
                if (row, beam) in inside and state.then(OTHER).missing <= left:
                    found = {token: value for token, value in found.items() if token not in state.beginning}
                steps[row] += _feasible(total, beam, state, found, left, self.phrases[live.sentences[row]])
        return steps


def _ending_too_soon(
    scores: Scores, live: Live, rows: Int[Tensor, " K"], states: Mapping[tuple[int, int], Fulfilment]
) -> set[tuple[int, int]]:
    """Hypotheses that the model would end without their phrases, in sentences with others that are not much worse.

    If EOS alone were forbidden, they would put a phrase after the full stop, which often scores best.
    """
    ends = scores.logits[rows.to(scores.logits.device), EOS].cpu().double() - scores.normaliser[rows]
    late: dict[tuple[int, int], float] = {}
    best: defaultdict[int, float] = defaultdict(lambda: -math.inf)
    for ((row, beam), state), end in zip(states.items(), ends.tolist(), strict=True):
        total = float(live.totals[row, beam])
        if state.missing and end > math.log(0.5):
            late[row, beam] = total
        else:
            best[row] = max(best[row], total)
    return {(row, beam) for (row, beam), total in late.items() if best[row] > total - _MAX_LOSS}


def _inside_words(
    scores: Scores,
    rows: Int[Tensor, " K"],
    states: Mapping[tuple[int, int], Fulfilment],
    inner: Int[Tensor, " I"],
    closed: Sequence[int],
) -> set[tuple[int, int]]:
    """Hypotheses that more likely than not are in the middle of a word, where no phrase should begin.

    Otherwise half a word would be left before a phrase to which the model gives a low probability anywhere. `closed`
    are indices among the rows whose last word was ended by a phrase.
    """
    device = scores.logits.device
    logits = scores.logits[rows[:, None].to(device), inner.to(device)]
    likely = (logits.double().logsumexp(dim=1).cpu() - scores.normaliser[rows] > math.log(0.5)).tolist()
    skipped = set(closed)
    return {key for number, key in enumerate(states) if likely[number] and number not in skipped}


def _options(
    scores: Scores,
    rows: Int[Tensor, " K"],
    states: list[Fulfilment],
    count: int,
    barred: tuple[Sequence[int], Int[Tensor, " I"]],
) -> list[dict[int, float]]:
    """Log P of the best `count` tokens and of the useful ones, for each of these rows, without forbidden tokens.

    `barred` are indices among the rows, and the tokens that are allowed there only if they are useful.
    """
    logits = scores.logits[rows.to(scores.logits.device)]
    normaliser = scores.normaliser[rows]
    useful = [(row, token) for row, state in enumerate(states) for token in sorted(state.useful)]
    if useful:
        numbers, tokens = torch.tensor(useful).unbind(1)
        values = logits[numbers.to(logits.device), tokens.to(logits.device)].cpu().double() - normaliser[numbers]
    for index in barred[0]:
        logits[index, barred[1].to(logits.device)] = -torch.inf
    alone = Live(list(range(len(rows))), torch.zeros(len(rows), 1, dtype=torch.float64), rows[:, None, None])
    best = best_candidates(Scores(logits, normaliser), alone, count)
    found = [dict(zip(*pair, strict=True)) for pair in zip(best.tokens.tolist(), best.totals.tolist(), strict=True)]
    if useful:
        for (row, token), value in zip(useful, values.tolist(), strict=True):
            found[row][token] = value
    return [{token: value for token, value in row.items() if value > -float("inf")} for row in found]


def _feasible(
    total: float, beam: int, state: Fulfilment, found: dict[int, float], left: int, phrases: Phrases
) -> list[_Step]:
    """The steps after which `left` more tokens can complete the phrases; EOS if they are complete."""
    steps = []
    other = state.then(OTHER).missing
    for token, value in found.items():
        if token == EOS:
            missing, room = state.missing, 0
        else:
            missing, room = state.then(token).missing if token in phrases.alphabet else other, left
        if missing <= room:
            steps.append(_Step(total + value, beam, token, phrases.total - missing))
    return steps


def _allocated(steps: list[_Step], width: int, needed: int) -> list[_Step]:
    """The finished steps, then those that continue: banks of rising progress share the beam, the best steps first.

    If there are fewer beams than numbers of tokens, neighbouring numbers share a bank, the higher one first.
    """
    last = min(needed + 1, width) - 1
    banks: list[list[_Step]] = [[] for _ in range(last + 1)]
    for step in sorted(steps, key=lambda step: (-step.written, -step.total, step.beam, step.token)):
        banks[step.written * last // needed].append(step)
    slots = _slots([len(bank) for bank in banks], width)
    ended = [step for step in banks[last][: slots[last]] if step.token == EOS]
    going = [[step for step in bank if step.token != EOS] for bank in banks]
    slots = _slots([len(bank) for bank in going], width)
    return ended + [step for bank, share in zip(reversed(going), reversed(slots), strict=True) for step in bank[:share]]


def _slots(sizes: list[int], width: int) -> list[int]:
    """Equal shares of the beam, the remainder to the last bank; unused slots go to the highest banks that fill them."""
    share, rest = divmod(width, len(sizes))
    slots = [min(size, share) for size in sizes]
    slots[-1] = min(sizes[-1], share + rest)
    for bank in reversed(range(len(sizes))):
        slots[bank] += min(sizes[bank] - slots[bank], width - sum(slots))
    return slots


def _empty(rows: int, columns: int) -> Candidates:
    """Unused columns."""
    totals = torch.full((rows, columns), -torch.inf, dtype=torch.float64)
    return Candidates(totals, torch.full((rows, columns), UNK), torch.zeros(rows, columns, dtype=torch.long))


def _widened(candidates: Candidates, columns: int) -> Candidates:
    """The candidates with unused columns up to `columns`."""
    rows, filled = candidates.totals.shape
    empty = _empty(rows, columns - filled)
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(candidates, empty, strict=True)))


# The occurrences of phrases in an output do not overlap, and a phrase that is listed twice occurs twice. A state keeps
# every way to find the phrases in the output so far, so that an overlap or a false start is not a dead end.
Counts = tuple[int, ...]
"""Number of occurrences of each phrase."""

OTHER = -1
"""Stands for every token that is in no phrase."""


class Phrases:
    """Automaton of the phrases of a sentence; its states are made when they are reached.

    Attributes:
        start: the state of the empty output.
        total: number of tokens of all phrases.
    """

    def __init__(self, phrases: Iterable[Sequence[int]]) -> None:
        wanted: dict[tuple[int, ...], int] = {}
        for phrase in filter(None, map(tuple, phrases)):
            wanted[phrase] = wanted.get(phrase, 0) + 1
        self.phrases = tuple(wanted)
        self.wanted: Counts = tuple(wanted.values())
        self.lengths = tuple(map(len, wanted))
        self.alphabet = {token for phrase in wanted for token in phrase}
        self.longest = max(map(len, wanted), default=1)
        self.total = sum(len(phrase) * count for phrase, count in wanted.items())
        self._states: dict[tuple[tuple[int, ...], tuple[frozenset[Counts], ...]], Fulfilment] = {}
        none: Counts = (0,) * len(wanted)
        self.start = self.state((), (frozenset({none}),))

    def state(self, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> Fulfilment:
        """The state with this tail and these counts."""
        key = (tail, found)
        if key not in self._states:
            self._states[key] = Fulfilment(self, tail, found)
        return self._states[key]

    def ended(self, tokens: Sequence[int], endings: frozenset[int]) -> bool:
        """Whether an output ends with a phrase, and that with one of `endings`."""
        return any(phrase[-1] in endings and tuple(tokens[-len(phrase) :]) == phrase for phrase in self.phrases)

    def after(self, tokens: Iterable[int]) -> Fulfilment:
        """The state of an output."""
        state = self.start
        for token in tokens:
            state = state.then(token)
        return state


class Fulfilment:
    """A state of the automaton.

    Attributes:
        missing: minimum number of tokens that complete all phrases; 0 if all occur.
        useful: tokens that begin or continue a missing phrase.
        beginning: those of them that continue no phrase.
    """

    def __init__(self, phrases: Phrases, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> None:
        # `tail` are the last tokens, `found[j]` the possible counts j tokens ago, without those that another exceeds.
        self._phrases, self._tail, self._found = phrases, tail, found
        self._next: dict[int, Fulfilment] = {}
        self.missing, self.useful, self.beginning = 0, frozenset[int](), frozenset[int]()
        if phrases.wanted not in found[0]:
            begun = list(self._begun())
            self.missing = min(phrases.total - self._written(counts) - size for _, size, counts in begun)
            self.useful = frozenset(phrase[size] for phrase, size, _ in begun)
            self.beginning = self.useful - {phrase[size] for phrase, size, _ in begun if size}

    def then(self, token: int) -> Fulfilment:
        """The state after one more token."""
        token = token if token in self._phrases.alphabet else OTHER
        if token not in self._next:
            self._next[token] = self._advanced(token)
        return self._next[token]

    def _advanced(self, token: int) -> Fulfilment:
        tail = (*self._tail, token)
        now = set(self._found[0])
        for number, phrase in enumerate(self._phrases.phrases):
            if tail[-len(phrase) :] == phrase:
                for counts in self._found[len(phrase) - 1]:
                    if counts[number] < self._phrases.wanted[number]:
                        now.add((*counts[:number], counts[number] + 1, *counts[number + 1 :]))
        longest = self._phrases.longest
        return self._phrases.state(tail[max(0, len(tail) - longest + 1) :], (_largest(now), *self._found)[:longest])

    def _begun(self) -> Iterator[tuple[tuple[int, ...], int, Counts]]:
        """Each missing phrase, the number of its tokens at the end of the output, and the counts before them."""
        for number, phrase in enumerate(self._phrases.phrases):
            for begun in range(min(len(phrase), len(self._tail) + 1)):
                if begun and self._tail[-begun:] != phrase[:begun]:
                    continue
                for counts in self._found[begun]:
                    if counts[number] < self._phrases.wanted[number]:
                        yield phrase, begun, counts

    def _written(self, counts: Counts) -> int:
        return sum(map(mul, counts, self._phrases.lengths))


def least_tokens(prefix: Sequence[int], phrases: Iterable[Sequence[int]]) -> int:
    """Minimum length, EOS not counted, of an output with this prefix and these phrases."""
    return len(prefix) + Phrases(phrases).after(prefix).missing


def _largest(counts: set[Counts]) -> frozenset[Counts]:
    """The counts that no other exceeds or equals in every element."""
    return frozenset(
        one
        for one in counts
        if not any(one != other and all(a <= b for a, b in zip(one, other, strict=True)) for other in counts)
    )
