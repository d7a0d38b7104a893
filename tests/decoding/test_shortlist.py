"""Shortlists: which tokens they list, and searches among them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.shortlist import Shortlist
from seq2seq.models.interface import Seq2SeqModel
from tests.decoding.random_models import random_weights

SIZE = 600
SETTINGS: dict[str, ModelSettings] = {
    "transformer": TransformerSettings(hidden_size=32, ff_size=32, num_heads=2, encoder_layers=1, decoder_layers=1),
    "untied": TransformerSettings(
        hidden_size=16, ff_size=16, num_heads=2, encoder_layers=1, decoder_layers=1, tied_embeddings="none"
    ),
    "gru": RNNSettings(hidden_size=24, embedding_size=24),
}
SEARCHES = {
    "greedy": SearchOptions(beam_size=1),
    "beam": SearchOptions(beam_size=4, n_best=3),
    "scores": SearchOptions(beam_size=3, with_token_scores=True, with_attention=True),
    "short": SearchOptions(beam_size=4, min_length_ratio=0.8, max_length_ratio=1.0, max_length_offset=0),
}


def random_shortlist(*, most: int = 40, shared: bool = False) -> Shortlist:
    draws = np.random.default_rng(4)
    sources = np.repeat(np.arange(4, SIZE), most)
    return Shortlist.of_translations(
        sources,
        draws.integers(4, SIZE, len(sources)),
        draws.random(len(sources)),
        draws.integers(0, 50, SIZE),
        best=most,
        shared=shared,
    )


def listed(shortlist: Shortlist, source: list[int]) -> list[int] | None:
    tokens = shortlist.tokens(source)
    return None if tokens is None else tokens.tolist()


def engine(name: str, shortlist: Shortlist | None = None) -> NativeEngine:
    model = random_weights(SETTINGS[name], SIZE, seed=5, std=0.3)
    return NativeEngine(model, torch.device("cpu"), shortlist=shortlist)


def sentences(count: int) -> list[Sentence]:
    draws = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 9, (count,), generator=draws).tolist()
    rows = [torch.randint(4, SIZE, (length,), generator=draws).tolist() for length in lengths]
    return [Sentence(row, key=(place,)) for place, row in enumerate(rows)]


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [item.tokens for item in found] == [item.tokens for item in expected]
    assert [item.score for item in found] == pytest.approx([item.score for item in expected], abs=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert one.cut == other.cut
        if other.token_scores is not None:
            assert one.token_scores == pytest.approx(other.token_scores, abs=1e-4)


def only(model: Seq2SeqModel, tokens: np.ndarray) -> None:
    """Let the model give no probability to other tokens."""
    forbidden = torch.ones(SIZE, dtype=torch.bool)
    forbidden[torch.from_numpy(tokens)] = False
    model.logits = lambda hidden: model.output(hidden).float().masked_fill(forbidden, -torch.inf)  # type: ignore[method-assign]


@pytest.mark.parametrize("with_loops", [False, True], ids=["torch", "loops"])
@pytest.mark.parametrize("kind", list(SEARCHES))
@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_search_is_that_of_a_model_without_the_other_tokens(
    name: str, kind: str, with_loops: bool, request: pytest.FixtureRequest
) -> None:
    if with_loops:
        request.getfixturevalue("kernels")
    shortlist, some, options = random_shortlist(), sentences(7), SEARCHES[kind]
    restricted = engine(name, shortlist)
    restricted.prepare(characters=10**6 if with_loops else 0)
    found = restricted.search(some, options)
    for sentence, hypotheses in zip(some, found, strict=True):
        alone = engine(name)
        tokens = shortlist.tokens(sentence.ids)
        assert tokens is not None
        only(alone.model, tokens)
        same(hypotheses, alone.search([sentence], options)[0])
        same(restricted.search([sentence], options)[0], hypotheses)


def test_lists_of_everything_change_nothing() -> None:
    everything = random_shortlist()._replace(always=np.arange(SIZE))
    some = sentences(5)
    for options in SEARCHES.values():
        expected = engine("transformer").search(some, options)
        for one, other in zip(engine("transformer", everything).search(some, options), expected, strict=True):
            same(one, other)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (SearchOptions(n_best=2, sampling=Sampling(seed=3)), {}),
        (SearchOptions(beam_size=4, n_best=2, diversity=0.5), {}),
        (SearchOptions(beam_size=3), {"prefix": (7, 8)}),
        (SearchOptions(beam_size=3), {"phrases": ((7, 8),)}),
    ],
    ids=["samples", "diversity", "prefix", "phrases"],
)
def test_other_searches_have_the_whole_vocabulary(options: SearchOptions, change: dict[str, object]) -> None:
    some = [sentence._replace(**change) for sentence in sentences(3)]
    tiny = random_shortlist(most=1)
    assert engine("gru", tiny).search(some, options) == engine("gru").search(some, options)
    alone = engine("gru", tiny).search(sentences(3)[:1], SearchOptions())
    assert alone != engine("gru").search(sentences(3)[:1], SearchOptions())


def test_neighbours_with_the_whole_vocabulary_change_nothing() -> None:
    shortlist, options = random_shortlist(), SearchOptions(beam_size=3)
    shortlist.begins[10:] = shortlist.begins[9]  # tokens from 9 on have no translations
    listed = [Sentence([4, 8], key=(0,)), Sentence([5, 6, 7], key=(1,))]
    others = [Sentence([4, 30], key=(2,)), Sentence([5, 5], prefix=(9, 9), key=(3,)), Sentence([SIZE - 1], key=(4,))]
    mixed = engine("transformer", shortlist).search([listed[0], *others, listed[1]], options)
    for one, other in zip([mixed[0], mixed[4]], engine("transformer", shortlist).search(listed, options), strict=True):
        same(one, other)
    for one, other in zip(mixed[1:4], engine("transformer").search(others, options), strict=True):
        same(one, other)


def test_a_list_holds_the_likeliest_translations_and_frequent_tokens() -> None:
    sources, targets = np.array([5, 5, 5, 9, 9]), np.array([20, 21, 22, 23, 24])
    probabilities, frequencies = np.array([0.2, 0.5, 0.3, 0.9, 0.1]), np.zeros(40, np.int64)
    frequencies[[30, 31]] = 3, 1
    apart = Shortlist.of_translations(sources, targets, probabilities, frequencies, best=2, shared=False)
    assert listed(apart, [5]) == [0, 1, 2, 3, 21, 22, 30, 31]
    assert listed(apart, [9, 5, 5]) == [0, 1, 2, 3, 21, 22, 23, 24, 30, 31]
    assert [listed(apart, ids) for ids in ([4], [5, 8], [39], [9, 10])] == [None] * 4  # never seen
    shared = Shortlist.of_translations(sources, targets, probabilities, frequencies, best=1, shared=True)
    assert listed(shared, [9, 5]) == [0, 1, 2, 3, 5, 9, 21, 23, 30, 31]


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, shortlist = tmp_path / "shortlist.npz", random_shortlist(shared=True)
    shortlist.save(path, "abc")
    found = Shortlist.load(path, "abc")
    assert found is not None
    for one, other in zip(found, shortlist, strict=True):
        assert np.array_equal(one, other)
    assert Shortlist.load(path, "abd") is None
    assert Shortlist.load(tmp_path / "missing", "abc") is None


@pytest.mark.parametrize("damage", [b"", b"PK", b"half", b"flipped", b"version", b"encrypted", b"array"])
def test_a_damaged_one_is_learned_again(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shortlist.npz"
    random_shortlist().save(path, "abc")
    content = bytearray(path.read_bytes())
    if damage == b"half":
        damage = bytes(content[: len(content) // 2])
    if damage == b"flipped":
        content[len(content) // 2] ^= 4
        damage = bytes(content)
    if damage == b"version":  # of the zip format that the first file needs
        content[content.index(b"PK\x01\x02") + 6] = 109
        damage = bytes(content)
    if damage == b"encrypted":
        content[content.index(b"PK\x01\x02") + 8] |= 1
        damage = bytes(content)
    if damage == b"array":
        file = io.BytesIO()
        np.save(file, np.arange(3))
        damage = file.getvalue()
    path.write_bytes(damage)
    assert Shortlist.load(path, "abc") is None
