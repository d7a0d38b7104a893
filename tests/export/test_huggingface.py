"""Exports for transformers: folders that its Auto classes load and that translate as the model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.config import ModelSettings, RNNSettings, load_config
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.errors import UsageError
from seq2seq.export.folder import is_export
from seq2seq.export.huggingface import export_huggingface
from seq2seq.models import build_model
from seq2seq.models.transformer import TransformerModel
from seq2seq.special_tokens import BOS, EOS
from seq2seq.tokenizers.pair import TokenizerPair
from tests.export.models import TEXTS, tokenizers, trained
from tests.models.model_configurations import transformer

transformers = pytest.importorskip("transformers")
# MarianTokenizer recommends another package.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

POST = {"norm_position": "post"}
ARCHITECTURES: dict[str, tuple[ModelSettings, bool]] = {
    "marian": (transformer(**POST), True),
    "marian-gelu-untied": (transformer(**POST, activation="gelu", tied_embeddings="none"), True),
    "marian-two-vocabularies": (transformer(**POST, tied_embeddings="target"), False),
    "marian-two-vocabularies-untied": (transformer(**POST, tied_embeddings="none"), False),
    "marian-shallow-decoder": (transformer(**POST, encoder_layers=3, decoder_layers=1), True),
    "pegasus": (transformer(), True),
}


def load(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return transformers.AutoTokenizer.from_pretrained(folder), model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_the_model(name: str, tmp_path: Path, joint: TokenizerPair) -> None:
    """Padded batches through transformers' classes, loaded by its Auto classes, against our own forced decoding."""
    settings, one_vocabulary = ARCHITECTURES[name]
    subject = trained(settings, joint if one_vocabulary else tokenizers(joint=False), tmp_path)
    parity = export_huggingface(subject, tmp_path / "x", sentences=200)
    assert parity.results[0].identical + parity.results[0].ties == parity.sentences == 5
    tokenizer, model = load(tmp_path / "x")
    sources = [source for source, _ in TEXTS]
    inputs = tokenizer(sources, return_tensors="pt", padding=True)
    ours = subject.tokenizers.source.encode(sources)
    assert [row[row != 0].tolist() for row in inputs.input_ids] == [[*row, EOS] for row in ours]
    target_in = torch.tensor([[BOS, 7, 300, 12]] * len(sources))
    with torch.inference_mode():
        theirs = model(**inputs, decoder_input_ids=target_in).logits
        expected = subject.model.logits(subject.model(inputs.input_ids, target_in))
    assert theirs.std() > 0.1
    assert torch.allclose(theirs, expected, atol=1e-4)


def test_text_goes_in_and_comes_out_as_in_the_run(tmp_path: Path, joint: TokenizerPair) -> None:
    """The command of the model card; special characters, spaces and unknown scripts keep their ids."""
    subject = trained(transformer(**POST), joint, tmp_path)
    export_huggingface(subject, tmp_path / "x", sentences=200)
    tokenizer, model = load(tmp_path / "x")
    texts = ["  two  spaces ", "don't , stop !", "犬は庭にいる", "\u00e9 \u201cquoted\u201d", "the dog sees"]
    ids = subject.tokenizers.source.encode(texts)
    assert tokenizer(texts).input_ids == [[*row, EOS] for row in ids]
    assert tokenizer.batch_decode(ids) == [" ".join(text.split()) for text in texts]
    found = model.generate(**tokenizer(texts, return_tensors="pt", padding=True), num_beams=1, max_length=12)
    options = SearchOptions(beam_size=1, max_length_ratio=0.0, max_length_offset=10)
    engine = NativeEngine(subject.model, torch.device("cpu"))
    expected = [one[0].tokens for one in engine.search([Sentence(row) for row in ids], options)]
    texts_out = tokenizer.batch_decode(found, skip_special_tokens=True)
    assert texts_out == [text.strip() for text in subject.tokenizers.target.decode(expected)]


def test_generation_follows_the_settings_of_decoding(tmp_path: Path, joint: TokenizerPair) -> None:
    """Hugging Face once cut outputs at 20 tokens by default."""
    subject = trained(transformer(**POST), joint, tmp_path, beam_size=3, length_penalty=0.7)
    export_huggingface(subject, tmp_path / "x", sentences=200)
    _, model = load(tmp_path / "x")
    settings = model.generation_config
    assert (settings.num_beams, settings.length_penalty, settings.max_length) == (3, 0.7, 2048)
    assert (settings.decoder_start_token_id, settings.eos_token_id, settings.pad_token_id) == (1, 2, 0)
    assert settings.suppress_tokens == [0, 1]


def test_the_model_card_names_data_and_scores(tmp_path: Path, joint: TokenizerPair) -> None:
    subject = trained(transformer(**POST), joint, tmp_path)
    metric = {"name": "BLEU", "value": 38.25, "signature": "nrefs:1|case:mixed|version:2.6.0"}
    results = {"checkpoint": subject.checkpoint, "test": {"sentences": 5, "metrics": [metric], "decoding": {}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "data.json").write_text(json.dumps({"counts": {"read": 1200, "kept": 1100}}))
    data = {"source_language": "en", "target_language": "de", "train": [{"source": "/home/me/a.en", "target": "b.de"}]}
    config = subject.config.model_validate({**subject.config.model_dump(), "data": data})
    export_huggingface(subject._replace(config=config), tmp_path / "x", sentences=200)
    card = (tmp_path / "x" / "README.md").read_text()
    assert card.startswith("---\nlanguage:\n- en\n- de\n")
    assert "| BLEU | 38.25 | `nrefs:1\\|case:mixed\\|version:2.6.0` |" in card
    assert "`a.en`, `b.de`" in card
    assert "/home/me" not in card
    assert "1,100 pairs after cleaning, of 1,200" in card
    assert "AutoModelForSeq2SeqLM" in card


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (transformer(positions="rotary"), "model.positions: rotary"),
        (transformer(positions="learned"), "model.positions: learned"),
        (transformer(norm="rms_norm"), "model.norm: rms_norm"),
        (transformer(activation="swiglu"), "model.activation: swiglu"),
        (transformer(attention="wide"), "model.attention: wide"),
        (transformer(tied_embeddings="target"), "model.tied_embeddings: target"),
        (RNNSettings(hidden_size=16, embedding_size=16), "recurrent"),
    ],
)
def test_a_setting_without_a_counterpart_is_named(
    settings: ModelSettings, named: str, tmp_path: Path, joint: TokenizerPair
) -> None:
    with pytest.raises(UsageError, match=named):
        export_huggingface(trained(settings, joint, tmp_path), tmp_path / "x", sentences=200)
    assert not (tmp_path / "x").exists()


def test_a_vocabulary_of_words_is_refused(tmp_path: Path) -> None:
    subject = trained(transformer(), tokenizers(kind="word", size=60), tmp_path)
    with pytest.raises(UsageError, match=r"tokenizer\.kind: word"):
        export_huggingface(subject, tmp_path / "x", sentences=200)


def test_the_folder_is_no_export_for_ctranslate2(tmp_path: Path, joint: TokenizerPair) -> None:
    export_huggingface(trained(transformer(), joint, tmp_path), tmp_path / "x", sentences=2)
    assert (tmp_path / "x" / "export.json").exists()
    assert not is_export(tmp_path / "x")


def test_the_preset_marian_can_be_exported(tmp_path: Path, joint: TokenizerPair) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: marian\n")
    config = load_config([path])
    small = config.model.model_copy(update={"hidden_size": 16, "ff_size": 24})
    assert isinstance(build_model(small, 9, 9), TransformerModel)
    export_huggingface(trained(small, joint, tmp_path), tmp_path / "x", sentences=2)
    assert json.loads((tmp_path / "x" / "config.json").read_text())["architectures"] == ["MarianMTModel"]
