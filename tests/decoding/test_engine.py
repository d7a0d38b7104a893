"""The native engine on every architecture: against enumeration, scoring and itself in other batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import target_token_scores
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import ResourceError, UsageError
from seq2seq.kernels.compiled_transformer import pack_for_search
from seq2seq.kernels.packed_linear import PackedLinear
from seq2seq.models.interface import Memory, Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, PAD
from tests.decoding.probabilities import enumerate_all, next_log_probabilities, target_log_probabilities
from tests.decoding.random_models import random_weights
from tests.decoding.tiny_models import MarkovModel, RecurrentModel

CPU = torch.device("cpu")


def transformer(**changes: object) -> TransformerSettings:
    base = {"hidden_size": 8, "ff_size": 8, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
    return TransformerSettings(**{**base, **changes})  # type: ignore[arg-type]


def gru(**changes: object) -> RNNSettings:
    return RNNSettings(**{"hidden_size": 8, "embedding_size": 8, "num_heads": 2, **changes})  # type: ignore[arg-type]


SETTINGS: dict[str, ModelSettings] = {
    "transformer": transformer(),
    "transformer-post": transformer(norm_position="post"),
    "transformer-modern": transformer(norm="rms_norm", positions="rotary", activation="swiglu"),
    "transformer-learned-wide": transformer(positions="learned", attention="wide", tied_embeddings="none"),
    "gru-additive": gru(),
    "gru-general": gru(attention="general", input_feeding=False, layer_norm=True),
    "gru-multi-head": gru(attention="multi_head", decoder_layers=2),
    "gru-none": gru(attention="none", input_feeding=False),
    "lstm-dot": gru(cell="lstm", attention="dot"),
    "rnn-scaled-dot": gru(cell="tanh", attention="scaled_dot"),
}
EVERY = pytest.mark.parametrize("name", SETTINGS)
MANY_HYPOTHESES = (
    SearchOptions(12, n_best=12, length_penalty=0.0),
    SearchOptions(sampling=Sampling(top_k=4), n_best=11),
)
"""So many that hypotheses no longer share a buffer of keys and values."""


def random_model(name: str, size: int, seed: int = 1) -> Seq2SeqModel:
    std = 0.3 if name.startswith("rnn") else 0.7  # A wilder one magnifies rounding.
    return random_weights(SETTINGS[name], size, seed=seed, std=std)


def random_sentences(count: int, size: int, longest: int = 9) -> list[Sentence]:
    draws = torch.Generator().manual_seed(count)
    lengths = torch.randint(0, longest + 1, (count,), generator=draws).tolist()
    rows = [torch.randint(4, size, (length,), generator=draws).tolist() for length in lengths]
    return [Sentence(row, key=(number,)) for number, row in enumerate(rows)]


def tokens_of(results: list[list[Hypothesis]]) -> list[list[list[int]]]:
    return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in results]


@EVERY
def test_a_wide_beam_equals_enumeration(name: str) -> None:
    size, longest, alpha = 6, 3, 1.0
    model = random_model(name, size)
    options = SearchOptions(99, alpha, n_best=6, max_length_ratio=0.0, max_length_offset=longest)
    sentences = random_sentences(2, size)
    for sentence, found in zip(sentences, NativeEngine(model, CPU).search(sentences, options), strict=True):
        wanted = enumerate_all(model.eval(), torch.tensor([*sentence.ids, EOS]), size, longest + 1)
        wanted.sort(key=lambda pair: -pair[1] / (len(pair[0]) + 1) ** alpha)
        assert [h.tokens for h in found] == [tokens for tokens, _ in wanted[:6]]
        for hypothesis, (_, total) in zip(found, wanted, strict=False):
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)


@EVERY
def test_beam_one_is_the_argmax(name: str) -> None:
    for seed in range(2):
        model = random_model(name, 11, seed)
        sentences = random_sentences(4, 11)
        found = NativeEngine(model, CPU).search(sentences, SearchOptions(1, max_length_offset=3))
        for sentence, (hypothesis,) in zip(sentences, found, strict=True):
            tokens: list[int] = []
            while len(tokens) < 2 * len(sentence.ids) + 3:
                scores = next_log_probabilities(model.eval(), torch.tensor([*sentence.ids, EOS]), tokens)
                best = max((t for t in range(11) if t not in (PAD, BOS)), key=lambda t: scores[t])
                if best == EOS:
                    break
                tokens.append(best)
            assert hypothesis.tokens == tokens


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, SearchOptions(5, n_best=5)) for name in SETTINGS),
        *((name, options) for name in ("transformer", "gru-multi-head", "lstm-dot") for options in MANY_HYPOTHESES),
    ],
)
def test_neighbours_change_nothing(name: str, options: SearchOptions) -> None:
    """Hypotheses of a sentence once saw the places of siblings that had died, when a longer neighbour kept them."""
    model, sentences = random_model(name, 30), random_sentences(6, 30)
    options = options._replace(max_length_ratio=1.0, max_length_offset=4)
    engine = NativeEngine(model, CPU)
    together = engine.search(sentences, options)
    backward = engine.search(sentences[::-1], options)[::-1]
    alone = [engine.search([sentence], options)[0] for sentence in sentences]
    assert tokens_of(together) == tokens_of(backward) == tokens_of(alone)
    for one, other in zip(together, alone, strict=True):
        assert [h.log_probability for h in one] == pytest.approx([h.log_probability for h in other], abs=1e-4)


@EVERY
def test_scoring_gives_the_searchs_own_scores(name: str) -> None:
    model, sentences = random_model(name, 30), random_sentences(6, 30)
    options = SearchOptions(4, n_best=4, with_token_scores=True, max_length_offset=5)
    found = NativeEngine(model, CPU).search(sentences, options)
    flat = [(s.ids, h) for s, hypotheses in zip(sentences, found, strict=True) for h in hypotheses]
    source, targets = padded([[*ids, EOS] for ids, _ in flat], CPU), [h.tokens for _, h in flat]
    with torch.inference_mode():
        totals = target_log_probabilities(model.eval(), source, targets).tolist()
        tokens = target_token_scores(model, source, targets)
    for (_, hypothesis), total, scores in zip(flat, totals, tokens, strict=True):
        assert hypothesis.token_scores is not None
        assert hypothesis.log_probability == pytest.approx(total, abs=1e-5)
        assert hypothesis.token_scores == pytest.approx(scores, abs=1e-5)
        assert sum(hypothesis.token_scores) == pytest.approx(hypothesis.log_probability, abs=1e-9)


@EVERY
def test_attention_is_what_teacher_forcing_gives(name: str) -> None:
    model, sentences = random_model(name, 30), random_sentences(5, 30)
    found = NativeEngine(model, CPU).search(sentences, SearchOptions(4, n_best=2, with_attention=True))
    for sentence, hypotheses in zip(sentences, found, strict=True):
        for hypothesis in hypotheses:
            with torch.inference_mode():
                memory = model.eval().encode(torch.tensor([[*sentence.ids, EOS]]))
                target_in = torch.tensor([[BOS, *hypothesis.tokens]])
                wanted = model.decode(target_in, memory, with_attention=True).attention
            if wanted is None:
                assert hypothesis.attention is None
            else:
                assert hypothesis.attention is not None
                torch.testing.assert_close(hypothesis.attention, wanted[0, -1].mean(dim=0), atol=1e-5, rtol=1e-5)


def test_a_vocabulary_in_blocks_gives_the_same_as_sorting_it() -> None:
    """From 512 tokens on they are looked for in blocks; ties go to the lower place, then token, as in a sort."""
    for seed, size in enumerate((511, 512, 1025)):
        draws = torch.Generator().manual_seed(seed)
        # Few different values, so that there are ties everywhere.
        table = torch.randint(0, 40, (size, size), generator=draws) / 8
        for beam in (1, 6):
            options = SearchOptions(beam, n_best=beam, max_length_offset=2)
            found = NativeEngine(MarkovModel(table), CPU).search([Sentence([4])], options)
            assert tokens_of(found)[0] == plain_beam(table, beam, 4)


def plain_beam(table: Tensor, beam: int, longest: int) -> list[list[int]]:
    scores = table.log_softmax(dim=1).double()
    alive, done = [([BOS], 0.0)], []
    for length in range(1, longest + 2):
        # Sorted by place, then token, and a sort that leaves equals as they are.
        candidates = []
        for tokens, total in alive:
            row = (table[tokens[-1]].double() - table[tokens[-1]].logsumexp(0).double() + total).tolist()
            some = [EOS] if length > longest else [t for t in range(len(scores)) if t not in (PAD, BOS)]
            candidates += [([*tokens, t], row[t]) for t in some]
        candidates.sort(key=lambda c: -round(c[1], 5))
        done += [(t[1:-1], total / length) for t, total in candidates[:beam] if t[-1] == EOS]
        alive = [c for c in candidates if c[0][-1] != EOS][:beam]
        if len(done) >= beam or not alive:
            break
    return [tokens for tokens, _ in sorted(done, key=lambda d: -round(d[1], 5))][:beam]


def test_phrases_and_diversity_are_honoured() -> None:
    model = random_model("transformer", 20)
    engine = NativeEngine(model, CPU)
    plain = random_sentences(4, 20)
    phrases = (((7, 8, 9),), (), ((5,), (6, 6)), ())
    mixed = [sentence._replace(phrases=some) for sentence, some in zip(plain, phrases, strict=True)]
    found = engine.search(mixed, SearchOptions(3))
    for sentence, hypotheses in zip(mixed, found, strict=True):
        text = " ".join(map(str, ["", *hypotheses[0].tokens, ""]))
        assert all(f" {' '.join(map(str, phrase))} " in text for phrase in sentence.phrases)
    assert found[1] == engine.search(plain, SearchOptions(3))[1]
    diverse = engine.search(plain, SearchOptions(4, n_best=4, diversity=3.0))
    assert all(len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses) for hypotheses in diverse)


@pytest.mark.parametrize(
    ("options", "phrases"),
    [
        (SearchOptions(beam_size=0), ()),
        (SearchOptions(beam_size=0), ((5,),)),
        (SearchOptions(diversity=-1.0), ()),
        (SearchOptions(diversity=math.nan), ()),
        (SearchOptions(n_best=2, diversity=math.inf), ()),
    ],
)
def test_impossible_options_are_usage_errors(options: SearchOptions, phrases: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(UsageError):
        NativeEngine(RecurrentModel(9, seed=1), CPU).search([Sentence([4], phrases=phrases)], options)


@pytest.mark.bf16
@EVERY
def test_every_architecture_searches_in_bf16(name: str) -> None:
    """In a recurrent model some products met numbers of two types, which was a traceback out of torch."""
    model, sentences, options = random_model(name, 40), random_sentences(8, 40), SearchOptions(beam_size=4)
    exact = NativeEngine(model, CPU).search(sentences, options)
    rough = NativeEngine(model, CPU, "bf16").search(sentences, options)
    close = [one[0].score == pytest.approx(other[0].score, rel=0.1) for one, other in zip(rough, exact, strict=True)]
    assert sum(close) >= 6


@pytest.mark.bf16
def test_precisions() -> None:
    """bf16 is for the inner layers: in bf16 scores of the vocabulary many tokens tied, and log P was off by 0.1."""
    sentences, options = random_sentences(20, 600), SearchOptions(4)
    model = random_model("transformer", 600)
    exact = NativeEngine(model, CPU, "fp32").search(sentences, options)
    assert NativeEngine(model, CPU).search(sentences, options) == exact
    rough = NativeEngine(model, CPU, "bf16").search(sentences, options)
    assert rough != exact
    for one, other in zip(exact, rough, strict=True):
        assert one[0].score == pytest.approx(other[0].score, rel=0.2, abs=0.2)
    shuffled = NativeEngine(model, CPU, "bf16").search(sentences[7::-1], options)
    assert [found[0].tokens for found in shuffled] == [found[0].tokens for found in rough[7::-1]]


def test_precisions_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 on an old CPU was a traceback out of oneDNN."""
    model = random_model("transformer", 12)
    monkeypatch.setattr("seq2seq.decoding.engine.computes_bf16", lambda: False)
    monkeypatch.setattr("seq2seq.kernels.int8_products.SUPPORTED", False)
    for precision, words in (("fp16", "fp16"), ("int3", "int3"), ("bf16", "bf16"), ("int8", "VNNI")):
        with pytest.raises(UsageError, match=words):
            NativeEngine(model, CPU, precision)
    with pytest.raises(UsageError, match="int8 needs a CPU, not meta"):
        NativeEngine(model, torch.device("meta"), "int8")


@pytest.mark.int8
def test_int8_needs_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NativeEngine(random_model("transformer", 12), CPU, "int8")
    monkeypatch.setattr("seq2seq.decoding.engine.kernels.load", lambda compiling: "numba is broken")
    with pytest.raises(UsageError, match="numba is broken"):
        engine.search([Sentence([5, 6])], SearchOptions())


@pytest.mark.int8
@pytest.mark.usefixtures("kernels")
@EVERY
def test_int8_is_close_to_fp32_in_every_architecture(name: str) -> None:
    """The same alone and in a batch, in any order."""
    model, sentences, options = random_model(name, 600), random_sentences(20, 600), SearchOptions(4)
    exact = NativeEngine(model, CPU).search(sentences, options)
    engine = NativeEngine(model, CPU, "int8")
    rough = engine.search(sentences, options)
    assert [found[0].score for found in rough] != [found[0].score for found in exact]
    close = [one[0].score == pytest.approx(other[0].score, rel=0.1) for one, other in zip(rough, exact, strict=True)]
    assert sum(close) >= 15
    assert [found[0].tokens for found in engine.search(sentences[7::-1], options)] == [
        found[0].tokens for found in rough[7::-1]
    ]
    for sentence, found in zip(sentences[:4], rough, strict=False):
        assert engine.search([sentence], options)[0][0].tokens == found[0].tokens


def test_the_model_is_left_as_it_was() -> None:
    model = random_model("transformer", 12).train()
    engine = NativeEngine(model, CPU)
    assert engine.search([], SearchOptions()) == []
    before = engine.search([Sentence([5, 6])], SearchOptions())
    assert model.training
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    # The weights change between searches while a model is trained: no copy of old ones may remain.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1.0)
    assert engine.search([Sentence([5, 6])], SearchOptions()) != before
    assert model(torch.tensor([[5, EOS]]), torch.tensor([[BOS]])).requires_grad


def test_no_memory_left_is_named() -> None:
    class Hungry(RecurrentModel):
        def encode(self, source: Tensor) -> Memory:
            raise torch.OutOfMemoryError

    with pytest.raises(ResourceError, match="2 lines at once and beam size 5"):
        NativeEngine(Hungry(9, seed=1), CPU).search([Sentence([4]), Sentence([5])], SearchOptions())


def test_limits_are_the_models() -> None:
    model = random_model("transformer-learned-wide", 9)
    engine = NativeEngine(model, CPU)
    assert engine.max_source_length == engine.max_target_length == 1024
    assert NativeEngine(random_model("gru-none", 9), CPU).max_target_length is None
    assert isinstance(model.output, nn.Linear)


@pytest.mark.parametrize("kind", ["transformer", "gru-additive"])
def test_unchanged_weights_are_packed_once_for_all_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing took a third of the time of a short sentence; changed weights are packed again."""
    model = random_model(kind, 12).eval()
    packed = []

    def counted(*arguments: Any) -> Seq2SeqModel:
        packed.append(arguments)
        return pack_for_search(*arguments)

    monkeypatch.setattr("seq2seq.decoding.engine.pack_for_search", counted)
    engine, sentences, options = NativeEngine(model, CPU), [Sentence([5, 6, 7])], SearchOptions(3)

    def found() -> list[list[Hypothesis]]:
        with engine.unchanged():
            return engine.search(sentences, options)

    assert found() == found()
    assert len(packed) == 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-0.5)
    changed = found()
    assert len(packed) == 2
    assert changed == NativeEngine(model, CPU).search(sentences, options)
    model.train()  # as between two validations: its weights will change, and the copy would only take memory
    found()
    assert engine._kept == ((), {})
