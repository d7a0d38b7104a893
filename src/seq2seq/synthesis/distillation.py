"""Sequence-level knowledge distillation (Kim and Rush 2016): a small model is trained on translations of a large one.

The student has a deep encoder and one decoder layer (Kasai et al. 2021, "Deep encoder, shallow decoder"): the encoder
reads a sentence once, the decoder runs for every token.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from seq2seq.atomic_files import write_bytes
from seq2seq.config import Config
from seq2seq.config.model import ModelSettings, RNNSettings, TransformerSettings
from seq2seq.config.yaml import write_yaml
from seq2seq.data.corpus import read_pairs
from seq2seq.data.files import Pair
from seq2seq.decoding.mbr import utilities
from seq2seq.decoding.translation import Translation
from seq2seq.evaluation.metrics import bleu_tokenizer, corpus_metrics
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.synthesis.originals import Original
from seq2seq.tokenizers.sentencepiece import SubwordTokenizer

Size = Literal["small", "tiny", "same"]

_WIDTH = {"small": 2, "tiny": 4}
"""Divisors of the teacher's width."""
_UNIT = 16
"""Widths are multiples of this, and heads are at least as wide."""
_MOST_DROPOUT = 0.1
_TIMED = 1000
"""Sentences by which speeds are measured."""
_WARM_UP = 32


def training_lines(config: Config) -> Iterator[Original]:
    """The source texts of a run's training corpora with their references; tags of corpora are left out."""
    for number, source in enumerate(config.data.train):
        plain = source.model_copy(update={"tag": None})
        pairs = read_pairs(plain, config.data.errors, max_unreadable=config.data.cleaning.max_unreadable)
        for line, (text, reference) in enumerate(pairs, start=1):
            yield Original(f"data.train.{number}", line, text, reference)


def nearest_to_reference(original: Original, found: Sequence[Translation], target_language: str) -> Translation:
    """The translation with the highest sentence BLEU against the reference ("Seq-Inter" of the paper); the first one
    of a line without a reference."""
    if not original.reference or len(found) < 2:
        return found[0]
    texts = list(dict.fromkeys([original.reference, *(item.text for item in found)]))
    scores = utilities(texts, "bleu", tokenize=bleu_tokenizer(target_language))[:, 0]
    return max(found, key=lambda item: (float(scores[texts.index(item.text)]), item.score))


def student_model(teacher: ModelSettings, size: Size) -> ModelSettings:
    """Settings of a student: a part of the teacher's width, one decoder layer, and the other layers in the encoder;
    `same` is the teacher's own."""
    if size == "same":
        return teacher
    width = max(_UNIT, round(teacher.hidden_size / _WIDTH[size] / _UNIT) * _UNIT)
    changes: dict[str, Any] = {
        "hidden_size": width,
        "encoder_layers": teacher.encoder_layers + teacher.decoder_layers - 1,
        "decoder_layers": 1,
        "dropout": min(teacher.dropout, _MOST_DROPOUT),
        "word_dropout": 0.0,
    }
    heads = min(teacher.num_heads, max(1, width // _UNIT))
    changes["num_heads"] = next(count for count in range(heads, 0, -1) if width % count == 0)
    match teacher:
        case TransformerSettings():
            inner = round(teacher.ff_size * width / teacher.hidden_size / _UNIT) * _UNIT
            changes |= {"ff_size": max(_UNIT, inner), "attention_dropout": 0.0, "ff_dropout": 0.0}
        case RNNSettings():
            changes["embedding_size"] = max(_UNIT, round(teacher.embedding_size / _WIDTH[size] / _UNIT) * _UNIT)
    return teacher.model_copy(update=changes)


def student_config(loaded: LoadedRun, size: Size, corpus: tuple[str, str], folder: Path, *, genuine: bool) -> str:
    """YAML of a student's training: the teacher's settings, its validation and test set, and the distilled corpus.

    With `genuine`, the teacher's own corpora are read, too, without the pairs that share a text with a held-out one.
    The student shares the teacher's subwords: `folder` gets copies of their files. A vocabulary of words or characters
    is made from the distilled corpus.
    """
    directory, teacher = loaded.directory, loaded.config
    data = teacher.data.model_dump(mode="json")
    data["train"] = [{"source": corpus[0], "target": corpus[1]}, *(data["train"] if genuine else ())]
    data["holdout"] = 0
    data["cleaning"]["drop_test_overlap"] |= genuine
    for split in ("valid", "test"):
        sides = [directory.path / f"{split}.{side}" for side in ("source", "target")]
        data[split] = [dict(zip(("source", "target"), map(str, sides), strict=True))] if sides[0].exists() else []
    tokenizer = {**teacher.tokenizer.model_dump(mode="json"), **_tokenizer_files(loaded, folder)}
    training = teacher.training.model_dump(mode="json")
    tokenizer["extend"] = False  # a fine-tuning's, as `replay` is
    training |= {"init_from": None, "replay": 0.0, "freeze": [], "budget_minutes": None}
    if size != "same":  # a small model has no room for what keeps a large one from learning by heart
        training |= {"r_drop": 0.0, "simcut": 0.0}
    model = student_model(teacher.model, size).model_dump(mode="json")
    tree = {
        "seed": teacher.seed,
        "data": data,
        "tokenizer": tokenizer,
        "model": model,
        "training": training,
        "decoding": teacher.decoding.model_dump(mode="json"),
    }
    return f"# A {size} student of {directory.path}: sequence-level knowledge distillation.\n{write_yaml(tree)}"


def _tokenizer_files(loaded: LoadedRun, folder: Path) -> dict[str, Any]:
    """Copy the teacher's subword models; returns the settings that name them."""
    tokenizers = loaded.translator.tokenizers
    if not all(isinstance(side, SubwordTokenizer) for side in tokenizers):
        return {"source_model": None, "target_model": None}
    names = ["joint"] if tokenizers.joint else ["source", "target"]
    files = [folder / f"{name}.model" for name in names]
    for file, side in zip(files, tokenizers, strict=False):
        write_bytes(file, side.to_bytes())
    return {"source_model": str(files[0]), "target_model": None if tokenizers.joint else str(files[1])}


class Measured(NamedTuple):
    """Size, speed and scores of a run."""

    run: str
    parameters: int
    sentences_per_second: float
    scores: dict[str, dict[str, float]]
    """BLEU and chrF of each split."""
    sentences: dict[str, int]
    """Sentences of each split that were translated and scored."""
    signature: str
    """Of the BLEU."""


def measure(loaded: LoadedRun) -> Measured:
    """Translate the validation and the test set of a run with its own search, and score them. Both sets are timed
    together after a warm-up, up to 1,000 sentences of each."""
    translator = loaded.translator
    parameters = sum(parameter.numel() for parameter in translator.model.parameters())
    scores: dict[str, dict[str, float]] = {}
    sentences: dict[str, int] = {}
    signature, seconds = "", 0.0
    for split in ("valid", "test"):
        pairs: list[Pair] = loaded.directory.load_pairs(split)[:_TIMED]
        if not pairs:
            continue
        sources = [source for source, _ in pairs]
        translator.translate(sources[:_WARM_UP])
        started = time.perf_counter()
        texts = translator.translate(sources)
        seconds += time.perf_counter() - started
        sentences[split] = len(sources)
        language = loaded.config.data.target_language
        metrics = {
            item.name: item for item in corpus_metrics(texts, [pair[1] for pair in pairs], target_language=language)
        }
        scores[split] = {name: metrics[name].value for name in ("BLEU", "chrF")}
        signature = metrics["BLEU"].signature
    rate = sum(sentences.values()) / seconds if seconds else 0.0
    return Measured(str(loaded.directory.path), parameters, rate, scores, sentences, signature)


def comparison(teacher: Measured, student: Measured) -> list[tuple[str, str, str, str]]:
    """Rows (what, teacher, student, ratio or difference) for a table."""
    rows = [
        (
            "parameters",
            f"{teacher.parameters:,}",
            f"{student.parameters:,}",
            f"{teacher.parameters / student.parameters:.1f} times fewer",
        )
    ]
    if teacher.sentences_per_second:
        one, other = teacher.sentences_per_second, student.sentences_per_second
        rows.append(("sentences per second", f"{one:,.1f}", f"{other:,.1f}", f"{other / one:.1f} times as many"))
    for split, scores in teacher.scores.items():
        for name, before in scores.items():
            after = student.scores[split][name]
            what = f"{split} {name}, {teacher.sentences[split]:,} sentences"
            rows.append((what, f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}"))
    return rows
