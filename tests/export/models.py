"""Small untrained models with sharp output distributions, and what an export needs beside them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from seq2seq.config import Config, ModelSettings, TokenizerSettings
from seq2seq.export.ctranslate2 import export_ctranslate2
from seq2seq.export.folder import Trained
from seq2seq.export.parity import Parity
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers

TEXTS = [
    ("the old man drinks tea", "der alte Mann trinkt Tee"),
    ("a woman reads two books", "eine Frau liest zwei Bücher"),
    ("the dog sees a cat in the garden", "der Hund sieht eine Katze im Garten"),
    ("children play football", "Kinder spielen Fußball"),
    ("nobody knows the way home", "niemand kennt den Weg nach Hause"),
]


def sharp_model(settings: ModelSettings, source_size: int, target_size: int, seed: int = 1) -> Seq2SeqModel:
    """Random weights, larger than at the start of training, biases and norms included: nothing cancels out."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build_model(settings, source_size, target_size).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif parameter.dim() == 1:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(1.5)
    return model


@cache
def tokenizers(joint: bool = True, kind: str = "bpe", size: int = 320) -> TokenizerPair:
    settings = TokenizerSettings(kind=kind, joint=joint, vocabulary_size=size)  # type: ignore[arg-type]
    return train_tokenizers(settings, lambda: iter(TEXTS * 3), seed=1)


def trained(
    settings: ModelSettings, pair: TokenizerPair, folder: Path, *, pairs: bool = True, seed: int = 1, **decoding: Any
) -> Trained:
    """An untrained model as if it were a run's."""
    model = sharp_model(settings, pair.source.size, pair.target.size, seed)
    config = Config.model_validate(
        {
            "name": "tiny",
            "tokenizer": {"joint": pair.joint},
            "model": settings.model_dump(),
            "decoding": {"max_length_ratio": 1.0, "max_length_offset": 5, "max_source_tokens": 64, **decoding},
        }
    )
    return Trained(model, pair, config, folder, "step-00000001", "0" * 64, TEXTS if pairs else [])


def to_ctranslate2(trained: Trained, target: Path, *, quantization: str = "float32", sentences: int = 200) -> Parity:
    return export_ctranslate2(trained, target, quantization=quantization, sentences=sentences)
