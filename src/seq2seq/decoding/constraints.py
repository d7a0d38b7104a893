"""Outputs that hold given phrases: beam search with dynamic beam allocation (Post and Vilar 2018).

Hypotheses are ranked within banks, by how many tokens of the phrases they have written (see `phrases.py`), and every
bank has its share of the beam, so that a hypothesis is not lost for having paid for a phrase that others still owe.
EOS is allowed where nothing is missing, and no hypothesis goes on that could not complete its phrases before the
maximum length. With phrases all done, or none at all, this is ordinary beam search.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import mul
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Choose, Live, Scores, best_candidates
from seq2seq.decoding.interface import SearchOptions, Sentence, Words
from seq2seq.errors import UsageError
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

_WIDEST = 20
"""Beams that phrases alone ask for at most."""

_HOPELESS = 12.0
"""So much less likely (in nats) is a hypothesis that is no alternative to one at its end."""


class Bounds(Protocol):
    """What is known of the length of a sentence's output."""

    @property
    def maximum(self) -> int:
        """Most tokens, EOS not counted."""


class _Step(NamedTuple):
    """One more token of one hypothesis."""

    total: float
    place: int
    token: int
    written: int
    """Tokens of the phrases that the output then has."""


def constrained_width(phrases: Sequence[Sequence[int]], beam_size: int) -> int:
    """Beams that the search for these phrases needs: one for each number of their tokens, within reason.

    A multiple of four where it is more than `beam_size`, so that many sentences have the same.
    """
    total = sum(map(len, phrases))
    return max(beam_size, min(4 * (total // 4 + 1), _WIDEST)) if total else beam_size


def constrained(sentences: Sequence[Sentence], bounds: Sequence[Bounds], options: SearchOptions) -> Choose:
    """The choice of tokens for `search` under each sentence's phrases; `options.beam_size` hypotheses go on.

    Raises:
        UsageError: a phrase holds what no output can hold, or phrases are too long for the maximum length.
    """
    for number, (sentence, bound) in enumerate(zip(sentences, bounds, strict=True), start=1):
        special = {PAD, BOS, EOS} & set(chain.from_iterable(sentence.phrases))
        if special:
            names = ", ".join(SPECIAL_TOKENS[token] for token in sorted(special))
            raise UsageError(f"a phrase cannot hold {names}", code="search.phrases")
        least = least_tokens(sentence.prefix, sentence.phrases)
        if least > bound.maximum:
            raise UsageError(
                f"the phrases of sentence {number} need {least} tokens; its longest output has {bound.maximum}",
                hint="fewer or shorter phrases, or a larger decoding.max_length_offset",
                code="search.phrases",
            )
    return _Chooser(sentences, bounds, options.beam_size, options.words)


class _Chooser:
    """Chooses for sentences with phrases and without."""

    def __init__(
        self, sentences: Sequence[Sentence], bounds: Sequence[Bounds], width: int, words: Words | None
    ) -> None:
        self.words = words
        self.phrases = [Phrases(sentence.phrases) for sentence in sentences]
        self.maxima = [bound.maximum for bound in bounds]
        self.width = width

    def __call__(self, scores: Scores, live: Live) -> Candidates:
        columns = 2 * self.width
        if all(self.phrases[sentence].total for sentence in live.sentences):
            found = _nothing(len(live.sentences), columns)
        else:
            found = _widened(best_candidates(scores, live, columns), columns)
        for row, steps in self._steps(scores, live).items():
            chosen = _allocated(steps, self.width, self.phrases[live.sentences[row]].total)
            empty = [_Step(-float("inf"), 0, UNK, 0)] * (columns - len(chosen))
            totals, origins, tokens, _ = zip(*chosen, *empty, strict=True)
            found.totals[row] = torch.tensor(totals, dtype=torch.float64)
            found.origins[row], found.tokens[row] = torch.tensor(origins), torch.tensor(tokens)
        return found

    def _steps(self, scores: Scores, live: Live) -> dict[int, list[_Step]]:
        """What each sentence with phrases can go on with: the best tokens and the useful ones of every hypothesis."""
        beams = live.totals.shape[1]
        states: dict[tuple[int, int], Progress] = {}
        closed: list[int] = []
        for row, sentence in enumerate(live.sentences):
            if self.phrases[sentence].total:
                for place, tokens in enumerate(live.tokens[row, :, 1:].tolist()):
                    if live.totals[row, place] > -torch.inf:
                        if self.words is not None and self.phrases[sentence].ended(tokens, self.words.endings):
                            closed.append(len(states))
                        states[row, place] = self.phrases[sentence].after(tokens)
        steps: dict[int, list[_Step]] = {row: [] for row, _ in states}
        if states:
            rows = torch.tensor([row * beams + place for row, place in states])
            inner = self.words.inner if self.words is not None and closed else ()
            options = _options(scores, rows, list(states.values()), 2 * self.width, (closed, inner))
            written = live.tokens.shape[2]
            late = set() if self.words is None else _late(scores, live, rows, states)
            torn = set() if self.words is None else _torn(scores, rows, states, self.words, closed)
            for ((row, place), state), found in zip(states.items(), options, strict=True):
                if (row, place) in late:
                    continue
                total = float(live.totals[row, place])
                left = self.maxima[live.sentences[row]] - written
                if (row, place) in torn and state.then(OTHER).missing <= left:
                    found = {token: value for token, value in found.items() if token not in state.beginning}
                steps[row] += _feasible(total, place, state, found, left, self.phrases[live.sentences[row]])
        return steps


def _late(
    scores: Scores, live: Live, rows: Int[Tensor, " K"], states: Mapping[tuple[int, int], Progress]
) -> set[tuple[int, int]]:
    """Hypotheses that the model would end without their phrases, of sentences that have others not much worse.

    To forbid the end alone would have them put a phrase behind the full stop, which often scores best.
    """
    ends = scores.logits[rows.to(scores.logits.device), EOS].cpu().double() - scores.normaliser[rows]
    late: dict[tuple[int, int], float] = {}
    best: defaultdict[int, float] = defaultdict(lambda: -math.inf)
    for ((row, place), state), end in zip(states.items(), ends.tolist(), strict=True):
        total = float(live.totals[row, place])
        if state.missing and end > math.log(0.5):
            late[row, place] = total
        else:
            best[row] = max(best[row], total)
    return {(row, place) for (row, place), total in late.items() if best[row] > total - _HOPELESS}


def _torn(
    scores: Scores,
    rows: Int[Tensor, " K"],
    states: Mapping[tuple[int, int], Progress],
    words: Words,
    closed: Sequence[int],
) -> set[tuple[int, int]]:
    """Hypotheses in the middle of a word, in which no phrase should begin: more likely than not it goes on.

    Without this half of a word is left before a phrase that the model does not like, wherever it stands. `closed` are
    places among the rows where a word has just been ended by a phrase.
    """
    inner = torch.tensor(words.inner, dtype=torch.long)
    logits = scores.logits[rows.to(scores.logits.device)][:, inner.to(scores.logits.device)]
    likely = (logits.double().logsumexp(dim=1).cpu() - scores.normaliser[rows] > math.log(0.5)).tolist()
    shut = set(closed)
    return {place for number, place in enumerate(states) if likely[number] and number not in shut}


def _options(
    scores: Scores,
    rows: Int[Tensor, " K"],
    states: list[Progress],
    count: int,
    barred: tuple[Sequence[int], Sequence[int]],
) -> list[dict[int, float]]:
    """For these rows log P of the best `count` tokens and of the useful ones, where they are allowed at all.

    `barred` are places among the rows, and the tokens that are taken there only where they are useful.
    """
    logits = scores.logits[rows.to(scores.logits.device)]
    normaliser = scores.normaliser[rows]
    useful = [(row, token) for row, state in enumerate(states) for token in sorted(state.useful)]
    if useful:
        numbers, tokens = torch.tensor(useful).unbind(1)
        values = logits[numbers.to(logits.device), tokens.to(logits.device)].cpu().double() - normaliser[numbers]
    for place in barred[0]:
        logits[place, barred[1]] = -torch.inf
    alone = Live(list(range(len(rows))), torch.zeros(len(rows), 1, dtype=torch.float64), rows[:, None, None])
    best = best_candidates(Scores(logits, normaliser), alone, count)
    found = [dict(zip(*pair, strict=True)) for pair in zip(best.tokens.tolist(), best.totals.tolist(), strict=True)]
    if useful:
        for (row, token), value in zip(useful, values.tolist(), strict=True):
            found[row][token] = value
    return [{token: value for token, value in row.items() if value > -float("inf")} for row in found]


def _feasible(
    total: float, place: int, state: Progress, found: dict[int, float], left: int, phrases: Phrases
) -> list[_Step]:
    """The steps after which `left` more tokens complete the phrases; EOS where they are complete."""
    steps = []
    other = state.then(OTHER).missing
    for token, value in found.items():
        if token == EOS:
            missing, room = state.missing, 0
        else:
            missing, room = state.then(token).missing if token in phrases.alphabet else other, left
        if missing <= room:
            steps.append(_Step(total + value, place, token, phrases.total - missing))
    return steps


def _allocated(steps: list[_Step], width: int, needed: int) -> list[_Step]:
    """What ends, then what goes on: banks of rising progress share the beam, the best of each first.

    Where there are fewer beams than banks would need, neighbours share a bank, in which progress comes first.
    """
    last = min(needed + 1, width) - 1
    banks: list[list[_Step]] = [[] for _ in range(last + 1)]
    for step in sorted(steps, key=lambda step: (-step.written, -step.total, step.place, step.token)):
        banks[step.written * last // needed].append(step)
    slots = _slots([len(bank) for bank in banks], width)
    ended = [step for step in banks[last][: slots[last]] if step.token == EOS]
    going = [[step for step in bank if step.token != EOS] for bank in banks]
    slots = _slots([len(bank) for bank in going], width)
    return ended + [step for bank, share in zip(reversed(going), reversed(slots), strict=True) for step in bank[:share]]


def _slots(sizes: list[int], width: int) -> list[int]:
    """Equal shares of the beam, what remains to the last bank; what a bank cannot fill goes to the highest that can."""
    share, rest = divmod(width, len(sizes))
    slots = [min(size, share) for size in sizes]
    slots[-1] = min(sizes[-1], share + rest)
    for bank in reversed(range(len(sizes))):
        slots[bank] += min(sizes[bank] - slots[bank], width - sum(slots))
    return slots


def _nothing(rows: int, columns: int) -> Candidates:
    """Empty places."""
    totals = torch.full((rows, columns), -torch.inf, dtype=torch.float64)
    return Candidates(totals, torch.full((rows, columns), UNK), torch.zeros(rows, columns, dtype=torch.long))


def _widened(candidates: Candidates, columns: int) -> Candidates:
    """With empty places up to so many columns."""
    rows, filled = candidates.totals.shape
    empty = _nothing(rows, columns - filled)
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(candidates, empty, strict=True)))


# Every phrase gets a place of its own in the output: places do not overlap, and a phrase that is listed twice occurs
# twice. A state knows every way to find the phrases written so far, so that an overlap or a false start is never a dead
# end, and how many tokens the rest takes at least.
Counts = tuple[int, ...]
"""How often each phrase has been written."""

OTHER = -1
"""Stands for every token that is in no phrase."""


class Phrases:
    """The phrases of one sentence, and the states of the automaton as far as they have been met.

    Attributes:
        start: the state of an output that is still empty.
        total: tokens of all phrases together.
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
        self._states: dict[tuple[tuple[int, ...], tuple[frozenset[Counts], ...]], Progress] = {}
        nothing: Counts = (0,) * len(wanted)
        self.start = self.state((), (frozenset({nothing}),))

    def state(self, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> Progress:
        """The one state with this past."""
        key = (tail, found)
        if key not in self._states:
            self._states[key] = Progress(self, tail, found)
        return self._states[key]

    def ended(self, tokens: Sequence[int], endings: frozenset[int]) -> bool:
        """Whether an output ends with a phrase whose last token is one of `endings`."""
        return any(phrase[-1] in endings and tuple(tokens[-len(phrase) :]) == phrase for phrase in self.phrases)

    def after(self, tokens: Iterable[int]) -> Progress:
        """The state of an output."""
        state = self.start
        for token in tokens:
            state = state.then(token)
        return state


class Progress:
    """A state: what may have been found, seen from the end of the output.

    Attributes:
        missing: the fewest tokens that complete all phrases; 0 where all are there.
        useful: the tokens that begin or continue a phrase that is still wanted.
        beginning: those of them that continue none.
    """

    def __init__(self, phrases: Phrases, tail: tuple[int, ...], found: tuple[frozenset[Counts], ...]) -> None:
        # `tail` are the last tokens, `found[j]` the counts that are possible j tokens ago; only counts that no other
        # one exceeds are kept, for having found more never hurts.
        self._phrases, self._tail, self._found = phrases, tail, found
        self._next: dict[int, Progress] = {}
        self.missing, self.useful, self.beginning = 0, frozenset[int](), frozenset[int]()
        if phrases.wanted not in found[0]:
            begun = list(self._begun())
            self.missing = min(phrases.total - self._written(counts) - size for _, size, counts in begun)
            self.useful = frozenset(phrase[size] for phrase, size, _ in begun)
            self.beginning = self.useful - {phrase[size] for phrase, size, _ in begun if size}

    def then(self, token: int) -> Progress:
        """The state after one more token."""
        token = token if token in self._phrases.alphabet else OTHER
        if token not in self._next:
            self._next[token] = self._advanced(token)
        return self._next[token]

    def _advanced(self, token: int) -> Progress:
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
        """Every phrase that is wanted after some counts, and how many of its tokens end the output already."""
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
    """Tokens, EOS not counted, that every output with this beginning and these phrases has at least."""
    return len(prefix) + Phrases(phrases).after(prefix).missing


def _largest(counts: set[Counts]) -> frozenset[Counts]:
    """Those that no other exceeds in every part."""
    return frozenset(
        one
        for one in counts
        if not any(one != other and all(a <= b for a, b in zip(one, other, strict=True)) for other in counts)
    )
