"""Search against oracles: enumeration, a plain argmax loop, a beam search written the slow way."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import check, lengths
from seq2seq.errors import DivergenceError, UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, PAD
from tests.decoding.probabilities import enumerate_all, next_log_probabilities
from tests.decoding.tiny_models import MarkovModel, RecurrentModel, find, random_source


def plain_beam(
    model: Seq2SeqModel, source: Tensor, size: int, limit: int, beam: int, alpha: float, n_best: int
) -> list[tuple[list[int], float]]:
    """Lists and floats, one sentence, one prefix at a time, stopping late."""
    alive: list[tuple[list[int], float]] = [([], 0.0)]
    done: list[tuple[list[int], float]] = []
    for length in range(1, limit + 1):
        candidates = []
        for tokens, total in alive:
            scores = next_log_probabilities(model, source, tokens)
            allowed = [EOS] if length == limit else [t for t in range(size) if t not in (PAD, BOS)]
            candidates += [([*tokens, t], total + scores[t]) for t in allowed]
        candidates.sort(key=lambda c: -c[1])
        done += [(t[:-1], total) for t, total in candidates[:beam] if t[-1] == EOS]
        alive = [c for c in candidates if c[0][-1] != EOS][:beam]
        if len(done) >= beam or not alive:
            break
    return sorted(done, key=lambda d: -d[1] / (len(d[0]) + 1) ** alpha)[:n_best]


def run(model: Seq2SeqModel, source: Tensor, limit: int, **changes: object) -> list[list[Hypothesis]]:
    return find(model, source, limit=limit, **{"beam_size": 4, **changes})


@pytest.mark.parametrize(("seed", "alpha"), [(0, 0.0), (1, 0.6), (2, 1.0)])
def test_wide_beam_equals_enumeration(seed: int, alpha: float) -> None:
    size, limit, n_best = (6, 4, 5) if seed % 2 else (7, 3, 9)
    model = RecurrentModel(size, seed=seed)
    source = random_source(3, size, seed)
    found = run(model, source, limit, beam_size=64, length_penalty=alpha, n_best=n_best)
    for row, hypotheses in zip(source, found, strict=True):
        everything = enumerate_all(model, row, size, limit)
        everything.sort(key=lambda pair: -pair[1] / (len(pair[0]) + 1) ** alpha)
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in everything[:n_best]]
        for hypothesis, (tokens, total) in zip(hypotheses, everything[: len(hypotheses)], strict=True):
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)
            assert hypothesis.score == pytest.approx(total / (len(tokens) + 1) ** alpha, abs=1e-4)


def test_everything_there_is_sums_to_one() -> None:
    """The forced end mark is paid for, so outputs below the limit are a proper part of all outputs."""
    model = RecurrentModel(6, seed=3)
    found = run(model, random_source(1, 6, 3), 5, beam_size=500, n_best=500)[0]
    assert len(found) == 1 + 3 + 9 + 27 + 81
    ended = sum(math.exp(h.log_probability) for h in found)
    assert 0 < ended < 1


def test_beam_one_is_the_argmax_on_many_models() -> None:
    """Greedy and beam 1 differ in toolkits that accept EOS beyond the best `beam_size` candidates."""
    for seed in range(80):
        size, limit = 5 + seed % 8, 1 + seed % 9
        model = RecurrentModel(size, seed=seed, width=4)
        source = random_source(1, size, seed)
        tokens: list[int] = []
        total = 0.0
        while True:
            scores = next_log_probabilities(model, source[0], tokens)
            scores[PAD] = scores[BOS] = -math.inf
            best = EOS if len(tokens) + 1 == limit else max(range(size), key=lambda t: (scores[t], -t))
            total += scores[best]
            if best == EOS:
                break
            tokens.append(best)
        found = run(model, source, limit, beam_size=1, length_penalty=seed % 3 / 2)[0][0]
        assert found.tokens == tokens
        assert found.log_probability == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(("beam", "alpha"), [(2, 0.0), (2, 2.0), (3, 0.6), (5, 1.0)])
def test_equals_a_beam_search_written_the_slow_way(beam: int, alpha: float) -> None:
    """Early stopping and shrinking batches are for speed alone."""
    for seed in range(6):
        size, limit = 6 + seed % 5, 3 + seed % 6
        model = RecurrentModel(size, seed=seed)
        source = random_source(4, size, seed)
        found = run(model, source, limit, beam_size=beam, length_penalty=alpha, n_best=beam)
        for row, hypotheses in zip(source, found, strict=True):
            expected = plain_beam(model, row, size, limit, beam, alpha, beam)
            assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in expected]


@pytest.mark.parametrize("beam", [1, 4])
def test_batch_padding_and_order_change_nothing(beam: int) -> None:
    """In OpenNMT-py and fairseq a sentence's translation could change with its neighbours in the batch."""
    model = RecurrentModel(30, seed=1, width=16)
    source = random_source(16, 30, seed=2, longest=9)
    options = {
        "beam_size": beam,
        "length_penalty": 0.6,
        "n_best": beam,
        "max_length_ratio": 1.0,
        "max_length_offset": 5,
    }
    together = find(model, source, **options)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    shuffled = find(model, torch.cat((source, torch.full((16, 5), PAD)), dim=1)[order], **options)
    for place, row in enumerate(order.tolist()):
        alone = find(model, source[row][source[row] != PAD][None], **options)[0]
        for results in (shuffled[place], alone):
            assert [h.tokens for h in results] == [h.tokens for h in together[row]]
            assert [h.score for h in results] == pytest.approx([h.score for h in together[row]], abs=1e-4)


def test_n_best_is_sorted_distinct_and_leaves_the_best_alone() -> None:
    """In OpenNMT-py the best translation depended on how many were asked for."""
    model = RecurrentModel(20, seed=5, width=12)
    source = random_source(8, 20, seed=6)
    one = run(model, source, 10, beam_size=6)
    for n_best in (2, 4, 6):
        for first, hypotheses in zip(one, run(model, source, 10, beam_size=6, n_best=n_best), strict=True):
            assert first[0] == hypotheses[0]
            assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses) == n_best
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
            assert not {PAD, BOS, EOS} & set(itertools.chain(*(h.tokens for h in hypotheses)))


def test_length_limits_are_each_sentences_own() -> None:
    table = torch.zeros(6, 6)
    table[:, EOS] = -9.0  # never ends of its own accord
    model = MarkovModel(table)
    source = random_source(5, 6, seed=1)
    real = ((source != PAD).sum(dim=1) - 1).tolist()
    for beam in (1, 3):
        found = find(model, source, beam_size=beam, max_length_ratio=1.7, max_length_offset=2)
        assert [len(h[0].tokens) for h in found] == [int(1.7 * length) + 2 for length in real]
        assert all(h[0].cut for h in found)
    short = run(RecurrentModel(6, seed=1, limit=3), source, 20, beam_size=2, length_penalty=9.0)
    assert max(len(h[0].tokens) for h in short) <= 2


def test_minimum_lengths_are_each_sentences_own() -> None:
    table = torch.zeros(6, 6)
    table[:, EOS] = 9.0  # ends at once
    source = random_source(5, 6, seed=1)
    real = ((source != PAD).sum(dim=1) - 1).tolist()
    for beam in (1, 3):
        found = find(MarkovModel(table), source, beam_size=beam, min_length_ratio=0.8, max_length_ratio=2.0)
        assert [len(h[0].tokens) for h in found] == [int(0.8 * length) for length in real]
        # A minimum above the maximum gives way.
        tight = find(
            MarkovModel(table), source, beam_size=beam, min_length_ratio=1.0, max_length_ratio=1.0, max_length_offset=-1
        )
        assert [len(h[0].tokens) for h in tight] == [length - 1 for length in real]


@pytest.mark.parametrize("seed", range(2))
def test_prefix_and_minimum_length_equal_enumeration(seed: int) -> None:
    """The best output of all that begin with the prefix and are long enough; the prefix counts in its score."""
    size = 6
    model, source = RecurrentModel(size, seed=seed), random_source(3, size, seed, longest=4)
    prefixes = [(3, 5), (), (4,)]
    bounds = {"min_length_ratio": 0.5, "max_length_ratio": 0.5, "max_length_offset": 2}
    found = find(model, source, beam_size=99, n_best=3, prefixes=prefixes, **bounds)
    for row, prefix, hypotheses in zip(source, prefixes, found, strict=True):
        length = int((row != PAD).sum()) - 1
        least, most = int(0.5 * length), int(0.5 * length) + 2
        possible = [
            (tokens, total)
            for tokens, total in enumerate_all(model, row, size, most + 1)
            if tuple(tokens[: len(prefix)]) == prefix and len(tokens) >= least
        ]
        possible.sort(key=lambda pair: -pair[1] / (len(pair[0]) + 1))
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in possible[:3]]
        for hypothesis, (_, total) in zip(hypotheses, possible, strict=False):
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)


def test_a_prefix_raises_the_maximum_but_not_beyond_the_model() -> None:
    source = random_source(1, 6, 0)
    found = run(RecurrentModel(6, seed=0), source, 2, prefixes=[(3, 4, 5)])[0][0]
    assert found.tokens == [3, 4, 5]
    with pytest.raises(UsageError, match="4 tokens together, more than the 3"):
        run(RecurrentModel(6, seed=0, limit=4), source, 2, prefixes=[(3, 4, 5, 5)])
    with pytest.raises(UsageError, match="</s>"):
        run(RecurrentModel(6, seed=0), source, 9, prefixes=[(3, EOS)])


@pytest.mark.parametrize("beam", [1, 4])
def test_token_scores_are_the_models_and_sum_to_the_total(beam: int) -> None:
    model, source = RecurrentModel(12, seed=4), random_source(6, 12, seed=5)
    found = run(model, source, 8, beam_size=beam, n_best=beam, with_token_scores=True)
    assert [[h._replace(token_scores=None) for h in hs] for hs in found] == run(
        model, source, 8, beam_size=beam, n_best=beam
    )
    for row, hypotheses in zip(source, found, strict=True):
        for hypothesis in hypotheses:
            scores = hypothesis.token_scores
            assert scores is not None
            assert sum(scores) == pytest.approx(hypothesis.log_probability, abs=1e-9)
            for place, token in enumerate([*hypothesis.tokens, EOS]):
                expected = next_log_probabilities(model, row, hypothesis.tokens[:place])[token]
                assert scores[place] == pytest.approx(expected, abs=1e-5)


def test_a_natural_end_at_the_limit_is_not_a_cut() -> None:
    table = torch.full((6, 6), -5.0)
    table[BOS, 4] = table[4, 5] = table[5, EOS] = 5.0
    found = run(MarkovModel(table), random_source(1, 6, 1), 3, beam_size=1)[0][0]
    assert found.tokens == [4, 5]
    assert not found.cut
    assert run(MarkovModel(table), random_source(1, 6, 1), 2, beam_size=1)[0][0].cut


def test_equal_scores_go_to_the_lower_token() -> None:
    """torch.topk takes any of several equals, another one for another batch shape."""
    model = MarkovModel(torch.zeros(300, 300))
    source = random_source(2, 300, seed=1)
    found = run(model, source, 3, beam_size=4, n_best=4)
    assert found[0] == found[1]
    # Allowed are 2 (EOS), 3, 4, ...: the end mark first, then the lowest tokens on the lowest beam place.
    assert [h.tokens for h in run(model, source, 3, beam_size=1)[0]] == [[]]
    table = torch.zeros(300, 300)
    table[:, EOS] = -1.0
    assert run(MarkovModel(table), source, 4, beam_size=1)[0][0].tokens == [3, 3, 3]


def test_finished_sentences_leave_the_batch() -> None:
    """A batch of quick sentences beside a slow one must not cost as much as slow ones."""
    table = torch.full((6, 6), -9.0)
    table[:, EOS] = 9.0
    model = RecurrentModel(6, seed=0)
    model.step = MarkovModel(table).step  # type: ignore[method-assign]
    rows = []
    step = model.step

    def counted(tokens: Tensor, *rest: object, **names: object) -> object:
        rows.append(len(tokens))
        return step(tokens, *rest, **names)  # type: ignore[arg-type]

    model.step = counted  # type: ignore[method-assign,assignment]
    model.output = MarkovModel(table).output
    assert all(h[0].tokens == [] for h in run(model, random_source(8, 6, 0), 50, beam_size=3))
    assert rows == [8]


def test_attention_rows_belong_to_the_hypothesis() -> None:
    model = RecurrentModel(12, seed=4)
    source = random_source(6, 12, seed=5)
    found = run(model, source, 8, beam_size=3, n_best=3, with_attention=True)
    plain = run(model, source, 8, beam_size=3, n_best=3)
    for row, hypotheses, others in zip(source, found, plain, strict=True):
        real = row[row != PAD][None]
        for hypothesis, other in zip(hypotheses, others, strict=True):
            assert other.attention is None
            assert hypothesis.tokens == other.tokens
            assert hypothesis.attention is not None
            with torch.inference_mode():
                target_in = torch.tensor([[BOS, *hypothesis.tokens]])
                expected = model.decode(target_in, model.encode(real), with_attention=True).attention
            assert expected is not None
            torch.testing.assert_close(hypothesis.attention, expected[0, 0, 0])


def test_tiny_vocabularies_and_impossible_ends() -> None:
    """A beam wider than the vocabulary, and a model that gives EOS no chance at all."""
    assert run(MarkovModel(torch.zeros(4, 4)), random_source(2, 4, 0), 3, beam_size=10, n_best=10)
    endless = MarkovModel(torch.zeros(5, 5))
    endless.output.bias = torch.nn.Parameter(torch.tensor([0.0, 0.0, -math.inf, 0.0, 0.0]))
    assert run(endless, random_source(1, 5, 0), 3) == [[Hypothesis([], -math.inf, -math.inf, None, True)]]
    assert run(endless, torch.zeros(0, 0, dtype=torch.long), 3) == []


def test_a_model_that_diverged_is_named() -> None:
    table = torch.full((5, 5), math.nan)
    for sampling in (None, Sampling()):
        with pytest.raises(DivergenceError, match="not a number"):
            run(MarkovModel(table), random_source(1, 5, 0), 3, sampling=sampling)


@pytest.mark.parametrize(
    "changes",
    [
        {"beam_size": 0},
        {"length_penalty": -1.0},
        {"length_penalty": math.nan},
        {"n_best": 0},
        {"n_best": 5},
        {"max_length_ratio": -1.0},
        {"max_length_ratio": math.inf},
        {"min_length_ratio": -0.1},
        {"min_length_ratio": 0.1, "max_length_ratio": 0.05},
        {"sampling": Sampling(temperature=0.0)},
        {"sampling": Sampling(top_k=-1)},
        {"sampling": Sampling(top_p=0.0)},
        {"sampling": Sampling(top_p=1.5)},
        {"sampling": Sampling(seed=-1)},
    ],
)
def test_impossible_arguments_are_usage_errors(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run(MarkovModel(torch.zeros(6, 6)), random_source(1, 6, 0), 4, **changes)


def test_limits_of_the_length() -> None:
    """A limit for any source made a minimum ratio an error, and huge limits were no numbers for torch."""
    model, sentences = MarkovModel(torch.zeros(8, 8)), [Sentence([5] * 20)]
    options = SearchOptions(max_length_ratio=0.0, max_length_offset=4, min_length_ratio=0.5)
    check(sentences, options)
    assert lengths(model, sentences, options) == [(4, 4)]
    huge = SearchOptions(max_length_ratio=1e308, max_length_offset=10**30, min_length_ratio=1e300)
    check(sentences, huge)
    torch.tensor(lengths(model, sentences, huge))
    with pytest.raises(UsageError, match="minimum length ratio"):
        check(sentences, SearchOptions(max_length_ratio=1.0, min_length_ratio=1.5))
