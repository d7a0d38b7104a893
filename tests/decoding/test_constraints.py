"""Lexical constraints against enumeration: of all outputs that hold the phrases, the best ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from seq2seq.decoding.beam_search import search
from seq2seq.decoding.constraints import constrained, constrained_width
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence, WordTokens
from seq2seq.decoding.length_limits import lengths
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel, Stepped
from seq2seq.special_tokens import BOS, EOS, UNK
from tests.decoding.probabilities import target_log_probabilities
from tests.decoding.random_models import ARCHITECTURES, random_model
from tests.decoding.test_phrases import has_all
from tests.decoding.tiny_models import MarkovModel

CPU = torch.device("cpu")


class Bound(NamedTuple):
    """The longest output allowed."""

    maximum: int


def find(
    model: Seq2SeqModel, sentences: Sequence[Sentence], limit: int, *, beam: int, n_best: int = 1, alpha: float = 1.0
) -> list[list[Hypothesis]]:
    """The search with phrases, all outputs of at most `limit` tokens."""
    options = SearchOptions(
        beam_size=beam, n_best=n_best, length_penalty=alpha, max_length_ratio=0.0, max_length_offset=limit
    )
    choose = constrained(sentences, lengths(model, sentences, options), options)
    source = padded([[*sentence.ids, EOS] for sentence in sentences], CPU)
    return search(model, source, sentences, options, choose=choose)


def enumerate_all(model: Seq2SeqModel, ids: list[int], size: int, limit: int) -> dict[tuple[int, ...], float]:
    """Every output of at most `limit` tokens with its log-probability."""
    outputs = [output for length in range(limit + 1) for output in itertools.product(range(UNK, size), repeat=length)]
    source: Tensor = padded([[*ids, EOS]], CPU).expand(len(outputs), -1)
    with torch.inference_mode():
        return dict(zip(outputs, target_log_probabilities(model, source, outputs).tolist(), strict=True))


PHRASES: list[tuple[tuple[int, ...], ...]] = [
    ((4,),),
    ((4, 5),),
    ((4, 4),),
    ((4,), (5,)),
    ((4, 5), (5, 4)),
    ((4, 5), (4,)),
    ((4,), (4,), (4,)),
    ((4, 5, 4), (3,)),
    ((4, 5, 6, 4),),
    (),
]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_wide_beam_equals_enumeration(kind: str) -> None:
    """Every phrase list up to the very maximum length: what is found are the best outputs that hold the phrases."""
    size, limit = 7, 4
    for seed, alpha in ((0, 0.0), (1, 1.0)):
        model = random_model(kind, size, seed)
        ids = [3 + seed, 5, 4]
        everything = enumerate_all(model, ids, size, limit)
        sentences = [Sentence(ids, phrases=phrases) for phrases in PHRASES]
        found = find(model, sentences, limit, beam=500, n_best=12, alpha=alpha)
        for phrases, hypotheses in zip(PHRASES, found, strict=True):
            allowed = [output for output in everything if has_all(output, phrases)]
            allowed.sort(key=lambda output: -everything[output] / (len(output) + 1) ** alpha)
            assert [tuple(h.tokens) for h in hypotheses] == allowed[:12]
            for hypothesis in hypotheses:
                expected = everything[tuple(hypothesis.tokens)]
                assert hypothesis.log_probability == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_narrow_beams_keep_every_phrase(kind: str, beam: int) -> None:
    """Many random phrase lists, most of them longer than the beam is wide, with the least room that they can have."""
    size, model = 30, random_model(kind, 30)
    draws = torch.Generator().manual_seed(beam)

    def row(longest: int) -> tuple[int, ...]:
        length = int(torch.randint(1, longest + 1, (1,), generator=draws))
        return tuple(torch.randint(4, size, (length,), generator=draws).tolist())

    sentences = [Sentence(list(row(6)), phrases=tuple(row(4) for _ in range(number % 5))) for number in range(20)]
    for limit in (16, 24):
        for sentence, hypotheses in zip(sentences, find(model, sentences, limit, beam=beam), strict=True):
            assert has_all(tuple(hypotheses[0].tokens), sentence.phrases)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_neighbours_change_nothing(kind: str) -> None:
    """A sentence with phrases beside others, and one without beside those that have some."""
    model = random_model(kind, 12)
    sentences = [Sentence([3 + n % 7] * (n % 4 + 1), phrases=((4 + n % 3, 5),) * (n % 3)) for n in range(12)]
    together = find(model, sentences, 9, beam=3, n_best=3)
    for sentence, expected in zip(sentences, together, strict=True):
        (alone,) = find(model, [sentence], 9, beam=3, n_best=3)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]
        if not sentence.phrases:
            options = SearchOptions(beam_size=3, n_best=3, max_length_ratio=0.0, max_length_offset=9)
            (plain,) = search(model, padded([[*sentence.ids, EOS]], CPU), [sentence], options)
            assert [h.tokens for h in plain] == [h.tokens for h in alone]


def test_the_engine_gives_phrases_the_beams_that_they_need() -> None:
    """Sentences are searched apart by how wide a beam they need, and come back in their order."""
    engine = NativeEngine(random_model("transformer", 12), CPU)
    sentences = [Sentence([3 + n % 7] * (n % 4 + 1), phrases=((4 + n % 3, 5),) * (n % 4)) for n in range(12)]
    options = SearchOptions(beam_size=3, n_best=2, max_length_offset=9)
    for sentence, expected in zip(sentences, engine.search(sentences, options), strict=True):
        (alone,) = engine.search([sentence], options)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]
        assert len(alone) == 2
        assert all(has_all(tuple(h.tokens), sentence.phrases) for h in alone)


def test_phrases_that_the_model_writes_anyway_change_nothing() -> None:
    """The best output holds its own parts; asking for one of them must not make it worse."""
    model = random_model("transformer", 12)
    for number in range(8):
        ids = [3 + number, 4, 5][: 1 + number % 3]
        (plain,) = find(model, [Sentence(ids)], 8, beam=20)
        tokens = tuple(plain[0].tokens)
        wanted = [Sentence(ids, phrases=(tokens[begin : begin + 2],)) for begin in range(len(tokens) - 1)]
        for found in find(model, wanted, 8, beam=20):
            assert found[0].score >= plain[0].score - 1e-6


def test_a_prefix_counts() -> None:
    """Phrases within the prefix, and one that it begins, are not written again."""
    model = random_model("gru", 9)
    for limit in (5, 9):
        (found,) = find(model, [Sentence([4, 5], prefix=(6, 7), phrases=((7, 8), (6,)))], limit, beam=2)
        assert found[0].tokens[:2] == [6, 7]
        assert has_all(tuple(found[0].tokens), ((7, 8), (6,)))
    sentence, options = Sentence([4], prefix=(6, 7), phrases=((7, 8),)), SearchOptions(beam_size=2)
    for maximum in (3, 4):
        constrained([sentence], [Bound(maximum)], options)
    with pytest.raises(UsageError, match="sentence 1 need 3 tokens; its longest output has 2"):
        constrained([sentence], [Bound(2)], options)


def test_no_output_holds_a_special_token() -> None:
    with pytest.raises(UsageError, match="a phrase cannot hold </s>"):
        constrained([Sentence([4], phrases=((7, EOS),))], [Bound(9)], SearchOptions())


def test_width() -> None:
    assert constrained_width((), 5) == 5
    assert constrained_width(((4, 5),), 1) >= 3
    assert constrained_width(((4,),), 8) >= 8


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_prefixes_and_phrases_end_with_whole_words(kind: str) -> None:
    """The prefix `Zwei` once went on as `Zweionne`: after it, and after a phrase, no token goes on in the word.

    A phrase that is the beginning of another one still leaves room for it.
    """
    words = WordTokens(endings=frozenset({4, 5}), inner=(6, 7, 8))
    given = SearchOptions(beam_size=4, max_length_ratio=0.0, max_length_offset=9, words=words)
    sentences = [
        Sentence([4, 5, 6], prefix=(4,)),
        Sentence([4, 6, 7], phrases=((4,),)),
        Sentence([5, 8], phrases=((9, 5), (5,))),
        Sentence([6, 4], prefix=(5,), phrases=((4, 4),)),
        Sentence([9, 4, 4], phrases=((9, 4), (9, 4, 7))),
    ]
    free, kept = 0, 0
    for seed in range(4):
        engine = NativeEngine(random_model(kind, 10, seed), CPU)
        for options in (given, given._replace(words=None)):
            for number, (sentence, found) in enumerate(zip(sentences, engine.search(sentences, options), strict=True)):
                output = tuple(found[0].tokens)
                assert output[: len(sentence.prefix)] == sentence.prefix
                assert has_all(output, sentence.phrases)
                closed = {
                    end
                    for end in range(1, len(output))
                    for phrase in (sentence.phrases or [sentence.prefix])
                    if output[end - len(phrase) : end] == phrase and (sentence.phrases or end == len(phrase))
                }
                broken = any(output[end] in words.inner for end in closed)
                if options.words is None:
                    free += broken
                elif number < 4:
                    assert not broken, (sentence, output)
                    kept += 1
    assert free
    assert kept == 16


def best_output(
    probabilities: dict[int, dict[int, float]],
    phrase: tuple[int, ...],
    beam: int,
    words: WordTokens | None = None,
    longest: int = 6,
) -> list[int]:
    """What is found with the phrase, where the last token alone decides about the next one."""
    table = torch.full((9, 9), -30.0)
    for last, following in probabilities.items():
        table[last, list(following)] = torch.tensor(list(following.values())).log()
    options = SearchOptions(beam_size=beam, max_length_ratio=0.0, max_length_offset=longest, words=words)
    return NativeEngine(MarkovModel(table), CPU).search([Sentence([4, 5], phrases=(phrase,))], options)[0][0].tokens


def test_a_phrase_is_not_put_behind_the_end() -> None:
    """`orange hat -> gelber Helm` once came out as `... starrt etwas an. gelber Helm`: to forbid the end alone makes an
    output of two sentences the likeliest."""
    after = {BOS: {4: 0.9, 5: 0.1}, 5: {EOS: 0.1, 6: 0.2, 7: 0.7}, 6: {EOS: 1.0}, 7: {EOS: 1.0}}
    after[4] = {EOS: 0.9, 6: 0.1}  # the sentence is at its end
    words = WordTokens(endings=frozenset(), inner=())
    for beam in (2, 5):
        assert best_output(after, (6,), beam) == [4, 6]
        assert best_output(after, (6,), beam, words) == [5, 6]
    # Where every output is at its end, the phrase goes behind it.
    assert best_output({**after, BOS: {4: 1.0, 5: 1e-17}}, (6,), 5, words) == [4, 6]


def test_a_phrase_does_not_begin_within_a_word() -> None:
    """`policeman -> Aerztin` once came out as `Der alt Aerztin`: half of `alten` was left where the phrase began."""
    after = {BOS: {4: 1.0}, 5: {6: 0.01, 8: 0.49, EOS: 0.5}, 6: {7: 1.0}, 7: {EOS: 1.0}, 8: {EOS: 1.0}}
    after[4] = {5: 0.9, 6: 0.1}  # after `alt`, `en` and the first half of the phrase
    words = WordTokens(endings=frozenset({4, 5, 7, 8}), inner=(5, 7))
    for beam in (1, 4):
        assert best_output(after, (6, 7), beam) == [4, 6, 7]
        assert best_output(after, (6, 7), beam, words) == [4, 5, 6, 7]
        # Where there is no room for the rest of the word, the phrase comes first.
        assert best_output(after, (6, 7), beam, words, longest=3) == [4, 6, 7]


def test_the_search_ends_where_the_rest_has_fallen_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places of the beam are kept for hypotheses without the phrase, which were followed to the maximum length."""
    after = {BOS: {4: 1.0}, 4: {5: 0.5, 6: 0.5}, 5: {7: 1.0}, 6: {EOS: 1.0}, 7: {7: 0.5, 8: 0.5}, 8: {7: 0.5, 8: 0.5}}
    words = WordTokens(endings=frozenset({6}), inner=(7, 8))
    steps: list[int] = []
    step = MarkovModel.step

    def counted(model: MarkovModel, tokens: Tensor, *rest: Any, **more: Any) -> Stepped:
        steps.append(len(tokens))
        return step(model, tokens, *rest, **more)

    monkeypatch.setattr(MarkovModel, "step", counted)
    assert best_output(after, (6,), 4, words, longest=200) == [4, 6]
    assert len(steps) < 30
