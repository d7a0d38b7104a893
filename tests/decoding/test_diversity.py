"""Diverse beam search against one that keeps all groups in step, with lists and floats."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import pytest
import torch

from seq2seq.decoding.beam_search import search
from seq2seq.decoding.candidates import Choose
from seq2seq.decoding.diversity import diverse_search
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.text_batches import padded
from seq2seq.models.interface import Seq2SeqModel, log_probabilities
from seq2seq.special_tokens import BOS, EOS, PAD
from tests.decoding.probabilities import target_log_probabilities
from tests.decoding.random_models import ARCHITECTURES, random_model

CPU = torch.device("cpu")
SENTENCES = [Sentence(ids) for ids in ([4, 5, 6], [3], [8, 8, 4, 5, 7], [6, 4], [7])]


def run(
    model: Seq2SeqModel, sentences: list[Sentence], options: SearchOptions, choose: Choose | None = None
) -> list[list[Hypothesis]]:
    source = padded([[*sentence.ids, EOS] for sentence in sentences], CPU)
    return search(model, source, sentences, options, choose=choose)


def diverse(model: Seq2SeqModel, sentences: list[Sentence], **options: float) -> list[list[Hypothesis]]:
    given = SearchOptions(max_length_ratio=0.0, max_length_offset=7)._replace(**options)
    return diverse_search(partial(run, model, sentences), given)


def plain_diverse(
    model: Seq2SeqModel, ids: list[int], size: int, limit: int, groups: int, width: int, diversity: float
) -> list[list[int]]:
    """The best output of each group, all groups one position further at a time, none stopping early."""
    alive: list[list[tuple[list[int], float]]] = [[([], 0.0)] for _ in range(groups)]
    done: list[list[tuple[list[int], float]]] = [[] for _ in range(groups)]
    with torch.inference_mode():
        memory = model.encode(torch.tensor([[*ids, EOS]]))
        for length in range(1, limit + 2):
            chosen: Counter[int] = Counter()
            for group in range(groups):
                candidates = []
                for tokens, total in alive[group] if len(done[group]) < width else []:
                    hidden = model.decode(torch.tensor([[BOS, *tokens]]), memory).hidden[0, -1]
                    scores = log_probabilities(model, hidden).tolist()
                    allowed = [EOS] if length > limit else [t for t in range(size) if t not in (PAD, BOS)]
                    candidates += [(tokens, t, total + scores[t]) for t in allowed]
                candidates.sort(key=lambda c: -(c[2] - diversity * chosen[c[1]]))
                done[group] += [(tokens, total) for tokens, t, total in candidates[:width] if t == EOS]
                going = [([*tokens, t], total) for tokens, t, total in candidates if t != EOS][:width]
                alive[group] = going
                if len(done[group]) < width:
                    chosen.update(tokens[-1] for tokens, _ in going)
    return [max(found, key=lambda d: d[1] / (len(d[0]) + 1))[0] for found in done]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize(("beam", "groups", "diversity"), [(4, 2, 0.3), (7, 3, 2.0)])
def test_groups_in_step_find_the_same(kind: str, beam: int, groups: int, diversity: float) -> None:
    size = 12
    model = random_model(kind, size, seed=groups)
    found = diverse(model, SENTENCES, beam_size=beam, n_best=groups, diversity=diversity)
    for sentence, hypotheses in zip(SENTENCES, found, strict=True):
        expected = plain_diverse(model, sentence.ids, size, 7, groups, beam // groups, diversity)
        assert {tuple(h.tokens) for h in hypotheses} == set(map(tuple, expected))


def test_scores_are_the_models_own() -> None:
    """The penalty sways the choice; what is reported is what `score` gives for the same pair."""
    model = random_model("transformer", 12)
    source = padded([[*sentence.ids, EOS] for sentence in SENTENCES], CPU)
    for hypotheses, row in zip(diverse(model, SENTENCES, beam_size=6, n_best=3, diversity=2.0), source, strict=True):
        for hypothesis in hypotheses:
            score = target_log_probabilities(model, row[None], [hypothesis.tokens]).item()
            assert hypothesis.log_probability == pytest.approx(score, abs=1e-5)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)


def test_the_first_group_is_plain_beam_search() -> None:
    model = random_model("gru", 12)
    plain = run(model, SENTENCES, SearchOptions(beam_size=2, max_length_ratio=0.0, max_length_offset=7))
    for one, hypotheses in zip(plain, diverse(model, SENTENCES, beam_size=6, n_best=3, diversity=1.0), strict=True):
        assert one[0].tokens in [h.tokens for h in hypotheses]


def test_more_diversity_shares_fewer_tokens() -> None:
    model = random_model("transformer", 30)

    def shared(diversity: float) -> float:
        found = diverse(model, SENTENCES, beam_size=4, n_best=4, diversity=diversity)
        return sum(
            sum(a == b for a, b in zip(one.tokens, other.tokens, strict=False)) / math.comb(4, 2)
            for hypotheses in found
            for place, one in enumerate(hypotheses)
            for other in hypotheses[:place]
        )

    assert shared(100.0) == 0
    assert {len(found) for found in diverse(model, SENTENCES, beam_size=4, n_best=4, diversity=100.0)} == {4}
    # Without a penalty all groups find one output, which is told once.
    assert {len(found) for found in diverse(model, SENTENCES, beam_size=4, n_best=4, diversity=0.0)} == {1}


def test_neighbours_change_nothing() -> None:
    model = random_model("gru", 12)
    options = {"beam_size": 4, "n_best": 2, "diversity": 1.0}
    for sentence, expected in zip(SENTENCES, diverse(model, SENTENCES, **options), strict=True):
        (alone,) = diverse(model, [sentence], **options)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]
