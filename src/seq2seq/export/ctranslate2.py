"""A run as a folder that CTranslate2 translates from: weights, vocabularies, tokenizer, settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from seq2seq import console
from seq2seq.errors import UsageError
from seq2seq.export.engine import CTranslate2Engine
from seq2seq.export.extras import import_ctranslate2
from seq2seq.export.folder import Export, Trained, add_run, export_folder, open_export, seal
from seq2seq.export.parity import Parity, Reference
from seq2seq.export.requirements import longest_source, require_transformer, table_length
from seq2seq.export.transformer_spec import build_spec, vocabulary
from seq2seq.models import TransformerModel

QUANTIZATIONS = (
    "float32",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
)


def export_ctranslate2(
    trained: Trained, target: Path, *, quantization: str = "float32", sentences: int = 200
) -> Parity:
    """Write `target`, after the greedy outputs of `sentences` lines were compared with the model's own.

    In full precision they are the same, but for tokens that are equally likely; what the quantization changes is
    measured.

    Raises:
        UsageError: no Transformer, an unknown quantization, no ctranslate2 installed, or `target` is something else.
        CheckpointError: the export does not write what the model writes.
        ResourceError: the disk is full.
    """
    if quantization not in QUANTIZATIONS:
        raise UsageError(
            f"--quantization {quantization} is not known", hint=", ".join(QUANTIZATIONS), code="usage.choice"
        )
    import_ctranslate2()
    model = require_transformer(trained.model, "CTranslate2")
    positions = table_length(model, trained.config.decoding)
    with export_folder(target) as folder:
        reference = Reference(trained, sentences, longest_source(model, trained.config.decoding))
        results = []
        for precision in dict.fromkeys(("float32", quantization)):
            (folder / precision).mkdir()
            _write(folder / precision, trained, model, precision, positions)
            engine = CTranslate2Engine(
                Export(folder / precision, {"positions": positions}, trained.config, trained.tokenizers)
            )
            found = engine.search(reference.sentences, reference.options)
            outputs = [hypotheses[0].tokens for hypotheses in found]
            results.append(reference.compare(f"ctranslate2 {precision}", outputs, exact=precision == "float32"))
            if engine.compute_type != precision:
                console.say(f"weights in {precision} are computed with in {engine.compute_type} on this machine")
        for path in (folder / quantization).iterdir():
            path.rename(folder / path.name)
        for precision in dict.fromkeys(("float32", quantization)):
            shutil.rmtree(folder / precision)
        add_run(folder, trained)
        parity = reference.parity(results)
        seal(folder, trained, _details(quantization, positions, parity))
    open_export(target)
    return parity


def _write(folder: Path, trained: Trained, model: TransformerModel, quantization: str, positions: int | None) -> None:
    sides = [vocabulary(side.pieces(range(side.size))) for side in trained.tokenizers]
    spec = build_spec(model, sides[0], sides[1], positions)
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    spec.save(str(folder))


def _details(quantization: str, positions: int | None, parity: Parity) -> dict[str, Any]:
    return {
        "library": "ctranslate2",
        "version": str(import_ctranslate2().__version__),
        "quantization": quantization,
        "positions": positions,
        "parity": parity.to_json(),
    }
