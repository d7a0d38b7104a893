"""Exports for CTranslate2: every architecture, every option of search, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seq2seq.config import RNNSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import CheckpointError, DivergenceError, UsageError
from seq2seq.export.ctranslate2 import vocabulary
from seq2seq.export.engine import CTranslate2Engine
from seq2seq.export.folder import Trained, find_export, is_export, open_export, seal
from seq2seq.special_tokens import EOS
from seq2seq.tokenizers.pair import TokenizerPair
from tests.decoding.probabilities import target_log_probabilities
from tests.export.models import to_ctranslate2, tokenizers, trained
from tests.models.model_configurations import transformer

ctranslate2 = pytest.importorskip("ctranslate2")

Make = Callable[..., tuple[Trained, CTranslate2Engine]]

ARCHITECTURES = {
    "pre-norm": transformer(),
    "post-norm": transformer(norm_position="post"),
    "post-rms": transformer(norm_position="post", norm="rms_norm"),
    "modern": transformer(norm="rms_norm", positions="rotary", activation="swiglu"),
    "learned-gelu-untied": transformer(
        positions="learned", max_positions=70, activation="gelu", tied_embeddings="none"
    ),
    "wide": transformer(attention="wide", tied_embeddings="target"),
    "wide-rotary": transformer(attention="wide", positions="rotary", num_heads=3),
    "shallow-decoder": transformer(encoder_layers=3, decoder_layers=1),
}
ROOMY = {"max_length_ratio": 1.0, "max_length_offset": 8}


def sentences(size: int, count: int = 12, seed: int = 3) -> list[Sentence]:
    draw = random.Random(seed)
    return [Sentence([draw.randrange(4, size) for _ in range(draw.randint(1, 12))]) for _ in range(count)]


def native(subject: Trained) -> NativeEngine:
    return NativeEngine(subject.model, torch.device("cpu"), precision="fp32")


def log_probability(subject: Trained, sentence: Sentence, hypothesis: Hypothesis) -> float:
    source = padded([[*sentence.ids, EOS]], torch.device("cpu"))
    with torch.inference_mode():
        return float(target_log_probabilities(subject.model, source, [hypothesis.tokens]))


@pytest.mark.parametrize(
    ("name", "joint_vocabulary"),
    [
        *((name, True) for name in ARCHITECTURES if name != "post-rms"),
        *((name, False) for name, settings in ARCHITECTURES.items() if settings.tied_embeddings != "all"),
    ],
)
def test_every_architecture_gives_the_same_outputs_and_probabilities(
    name: str, joint_vocabulary: bool, exported: Make, joint: TokenizerPair
) -> None:
    """The oracle is our own search, and forced decoding by our own model."""
    pair = joint if joint_vocabulary else tokenizers(joint=False)
    subject, engine = exported(ARCHITECTURES[name], pair)
    asked = sentences(pair.source.size)
    for beam in (1, 4):
        options = SearchOptions(beam_size=beam, n_best=beam, **ROOMY)
        found, expected = engine.search(asked, options), native(subject).search(asked, options)
        for sentence, theirs, ours in zip(asked, found, expected, strict=True):
            best = theirs[0]
            assert best.log_probability == pytest.approx(log_probability(subject, sentence, best), abs=1e-4)
            if not ours[0].cut:
                assert best.tokens == ours[0].tokens
                assert best.score == pytest.approx(ours[0].score, abs=1e-4)


def test_positions_are_seen() -> None:
    """The exported model must not be one whose output does not depend on positions: that would hide their faults."""
    model = trained(ARCHITECTURES["modern"], tokenizers(), Path()).model
    with torch.inference_mode():
        first, second = (model(torch.tensor([ids]), torch.tensor([[1, 9, 10]])) for ids in ([5, 6, 7, 2], [6, 5, 7, 2]))
    assert (first - second).abs().max() > 0.1


def test_results_do_not_depend_on_the_batch(exported: Make) -> None:
    subject, engine = exported(transformer())
    asked = sentences(subject.tokenizers.source.size, 30)
    options = SearchOptions(beam_size=3, **ROOMY)
    together = engine.search(asked, options)
    alone = [engine.search([sentence], options)[0] for sentence in asked]
    assert [found[0].tokens for found in together] == [found[0].tokens for found in alone]
    assert [found[0].score for found in together] == pytest.approx([found[0].score for found in alone], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 4])
def test_each_sentence_keeps_its_own_maximum_and_minimum(beam: int, exported: Make) -> None:
    """Limits of CTranslate2 hold for a whole batch: a sentence must not get those of its neighbours."""
    subject, engine = exported(transformer())
    asked = sentences(subject.tokenizers.source.size)
    options = SearchOptions(beam_size=beam, max_length_ratio=0.5, max_length_offset=1, min_length_ratio=0.4)
    for sentence, found in zip(asked, engine.search(asked, options), strict=True):
        length = len(found[0].tokens)
        assert int(0.4 * len(sentence.ids)) <= length <= int(0.5 * len(sentence.ids)) + 1
        assert found[0].log_probability == pytest.approx(log_probability(subject, sentence, found[0]), abs=1e-4)


def test_cut_outputs_are_those_of_our_own_greedy_search(exported: Make) -> None:
    subject, engine = exported(transformer())
    asked = sentences(subject.tokenizers.source.size)
    options = SearchOptions(beam_size=1, max_length_ratio=0.0, max_length_offset=2)
    found, expected = engine.search(asked, options), native(subject).search(asked, options)
    assert [one[0].tokens for one in found] == [one[0].tokens for one in expected]
    assert [one[0].cut for one in found].count(True) > 3
    for theirs, ours in zip(found, expected, strict=True):
        assert theirs[0].score == pytest.approx(ours[0].score, abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_begins_the_output_and_counts(beam: int, exported: Make) -> None:
    subject, engine = exported(transformer())
    size = subject.tokenizers.source.size
    draw = random.Random(5)
    asked = [
        sentence._replace(prefix=tuple(draw.randrange(4, size) for _ in range(number % 4)))
        for number, sentence in enumerate(sentences(size))
    ]
    for sentence, found in zip(asked, engine.search(asked, SearchOptions(beam_size=beam, **ROOMY)), strict=True):
        assert tuple(found[0].tokens[: len(sentence.prefix)]) == sentence.prefix
        assert found[0].log_probability == pytest.approx(log_probability(subject, sentence, found[0]), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
def test_attention_and_token_scores_are_the_models(beam: int, exported: Make) -> None:
    """CTranslate2's own attention of a batch with several beams belongs to other sentences."""
    subject, engine = exported(transformer(norm_position="post"))
    asked = sentences(subject.tokenizers.source.size)
    options = SearchOptions(beam_size=beam, with_attention=True, with_token_scores=True, **ROOMY)
    for sentence, (found, *_) in zip(asked, engine.search(asked, options), strict=True):
        source, target = padded([[*sentence.ids, EOS]], torch.device("cpu")), [[1, *found.tokens]]
        with torch.inference_mode():
            memory = subject.model.encode(source)
            expected = subject.model.decode(torch.tensor(target), memory, with_attention=True).attention
        assert expected is not None
        assert found.attention is not None
        assert torch.allclose(found.attention, expected[0, -1].mean(dim=0), atol=1e-5)
        assert found.token_scores is not None
        assert len(found.token_scores) == len(found.tokens) + 1
        assert sum(found.token_scores) == pytest.approx(found.log_probability)


def test_what_ctranslate2_cannot_do_is_refused(exported: Make) -> None:
    _, engine = exported(transformer())
    one = [Sentence([5, 6])]
    for options, asked in (
        (SearchOptions(sampling=Sampling()), one),
        (SearchOptions(diversity=0.5, n_best=2), one),
        (SearchOptions(), [Sentence([5], phrases=((7,),))]),
        (SearchOptions(n_best=6), one),
    ):
        with pytest.raises(UsageError):
            engine.search(asked, options)
    with pytest.raises(UsageError, match="no device"):
        CTranslate2Engine(engine.export, device="mps")


def test_nan_is_named(tmp_path: Path, joint: TokenizerPair) -> None:
    subject = trained(transformer(), joint, tmp_path)
    to_ctranslate2(subject, tmp_path / "x", sentences=2)
    bias = subject.model.get_parameter("encoder_norm.bias")
    torch.nn.init.constant_(bias, float("nan"))
    with pytest.raises(DivergenceError):
        to_ctranslate2(subject, tmp_path / "x", sentences=2)
    assert is_export(tmp_path / "x")  # the old one


def test_a_wrong_export_is_not_kept(tmp_path: Path, joint: TokenizerPair, monkeypatch: pytest.MonkeyPatch) -> None:
    from seq2seq.export import ctranslate2 as module

    subject = trained(transformer(), joint, tmp_path)
    right = module.build_spec

    def wrong(model: object, *arguments: object) -> object:
        spec = right(subject.model, *arguments)  # type: ignore[arg-type]
        spec.decoder.layer_norm.gamma.array *= -1
        return spec

    monkeypatch.setattr(module, "build_spec", wrong)
    with pytest.raises(CheckpointError, match="something else than the model"):
        to_ctranslate2(subject, tmp_path / "x", sentences=5)
    assert list(tmp_path.iterdir()) == []


def test_quantization_is_measured_and_stored(tmp_path: Path, joint: TokenizerPair) -> None:
    subject = trained(transformer(), joint, tmp_path)
    parity = to_ctranslate2(subject, tmp_path / "small", quantization="int8")
    assert [result.name for result in parity.results] == ["ctranslate2 float32", "ctranslate2 int8"]
    assert parity.results[0].identical == parity.sentences == 5
    export = open_export(tmp_path / "small")
    assert export.manifest["quantization"] == "int8"
    assert json.loads((tmp_path / "small" / "export.json").read_text())["parity"] == parity.to_json()
    to_ctranslate2(subject, tmp_path / "full")
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("small", "full")]
    assert sizes[0] < sizes[1]
    assert CTranslate2Engine(export).search([Sentence([5])], SearchOptions())[0][0].score < 0


def test_without_text_the_check_uses_random_tokens(tmp_path: Path, joint: TokenizerPair) -> None:
    parity = to_ctranslate2(trained(transformer(), joint, tmp_path, pairs=False), tmp_path / "x")
    assert parity.source == "random tokens"
    assert parity.results[0].identical + parity.results[0].ties == parity.sentences == 50
    assert parity.results[0].bleu is None


def test_a_vocabulary_of_characters_whose_symbols_look_alike(tmp_path: Path) -> None:
    """A space is shown as U+2581, which a text may hold as well: CTranslate2 needs them apart."""
    pair = tokenizers(kind="char", size=60)
    to_ctranslate2(trained(transformer(), pair, tmp_path), tmp_path / "x")
    assert vocabulary(["a", "b", "a", "a"]) == ["a", "b", "a\u241f2", "a\u241f3"]


def test_refusals(tmp_path: Path, joint: TokenizerPair) -> None:
    gru = trained(RNNSettings(hidden_size=16, embedding_size=16), joint, tmp_path)
    with pytest.raises(UsageError, match="recurrent"):
        to_ctranslate2(gru, tmp_path / "x")
    subject = trained(transformer(), joint, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="no export"):
        to_ctranslate2(subject, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("name", ["model.bin", "settings.yaml", "tokenizer/joint.model", "shared_vocabulary.json"])
def test_a_damaged_or_missing_file_is_named(name: str, tmp_path: Path, joint: TokenizerPair) -> None:
    to_ctranslate2(trained(transformer(), joint, tmp_path), tmp_path / "x")
    path = tmp_path / "x" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=path.name):
        open_export(tmp_path / "x")
    path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        open_export(tmp_path / "x")


def test_a_setting_of_a_newer_version_is_no_slip_of_the_user(tmp_path: Path, joint: TokenizerPair) -> None:
    """The file was whole, and the user, who had not written it, was told of an unknown key (2)."""
    subject = trained(transformer(), joint, tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "settings.yaml").write_text("decoding: {warp_speed: 9}\n")
    seal(tmp_path / "x", subject, {"library": "ctranslate2", "quantization": "float32"})
    with pytest.raises(
        CheckpointError, match=r"another version of seq2seq: unknown key `decoding\.warp_speed`"
    ) as caught:
        open_export(tmp_path / "x")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 9, "library": "ctranslate2"}', '{"format": Infinity}', "[" * 100_000]
)
def test_a_damaged_manifest(content: str, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(content)
    assert not is_export(tmp_path) or "9" in content
    with pytest.raises(CheckpointError):
        open_export(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\0b", "a" * 5000, "\ud800"])
def test_a_manifest_that_names_impossible_files(name: str, tmp_path: Path) -> None:
    """A name with a NUL ended in a traceback."""
    facts = {"library": "ctranslate2", "checkpoint": "x", "weights": "0", "quantization": "int8", "format": 1}
    (tmp_path / "export.json").write_text(json.dumps(facts | {"files": {name: {"size": 1, "sha256": "0"}}}))
    with pytest.raises(CheckpointError):
        open_export(tmp_path)


def test_which_export_a_run_has(tmp_path: Path, joint: TokenizerPair) -> None:
    subject = trained(transformer(), joint, tmp_path)
    with pytest.raises(CheckpointError, match="has not been exported"):
        find_export(tmp_path)
    to_ctranslate2(subject, tmp_path / "export" / "ctranslate2-int8", quantization="int8", sentences=2)
    assert find_export(tmp_path).manifest["quantization"] == "int8"
    to_ctranslate2(subject, tmp_path / "export" / "ctranslate2-int16", quantization="int16", sentences=2)
    with pytest.raises(CheckpointError, match="several"):
        find_export(tmp_path)
    to_ctranslate2(subject, tmp_path / "export" / "ctranslate2", sentences=2)
    assert find_export(tmp_path, subject.weights).manifest["quantization"] == "float32"
    with pytest.raises(CheckpointError, match="another checkpoint") as raised:
        find_export(tmp_path, "1" * 64, "step-5")
    assert raised.value.hint == f"export again: seq2seq export {tmp_path} --format ctranslate2 --checkpoint step-5"


def test_a_table_of_sinusoids_covers_what_decoding_may_ask(tmp_path: Path, joint: TokenizerPair) -> None:
    subject = trained(transformer(), joint, tmp_path, max_source_tokens=2000, max_length_ratio=2.0)
    to_ctranslate2(subject, tmp_path / "x", sentences=2)
    engine = CTranslate2Engine(open_export(tmp_path / "x"))
    assert engine.max_target_length == 4096
    long = [Sentence([5] * 2000)]
    assert engine.search(long, SearchOptions(beam_size=1, max_length_ratio=0.0, max_length_offset=3))
