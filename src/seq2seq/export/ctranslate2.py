"""Export of a run for CTranslate2: weights, vocabularies, tokenizer, settings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq import console
from seq2seq.config import TransformerSettings
from seq2seq.export.engine import CTranslate2Engine
from seq2seq.export.folder import Export, Trained, add_run, export_folder, open_export, seal
from seq2seq.export.parity import Parity, Reference
from seq2seq.export.requirements import longest_source, require_transformer, table_length
from seq2seq.extras import import_library
from seq2seq.models.layers import Embedding, FeedForward
from seq2seq.models.positions import Positions, sinusoids
from seq2seq.models.transformer import TransformerModel
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer, SublayerConnection
from seq2seq.special_tokens import BOS, EOS, SPECIAL_TOKENS, UNK


def export_ctranslate2(trained: Trained, target: Path, *, quantization: str, sentences: int) -> Parity:
    """Export to `target`, and compare the greedy outputs for `sentences` lines with the model's.

    In full precision they must be equal, but for equally likely tokens; with quantization the difference is measured.

    Raises:
        UsageError: the model is no Transformer, ctranslate2 is not installed, or `target` exists and is not an export.
        CheckpointError: the outputs of the export differ from the model's.
        ResourceError: the disk is full.
    """
    import_library("ctranslate2")
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
                console.say(f"on this machine, CTranslate2 computes {precision} weights in {engine.compute_type}")
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
        "version": str(import_library("ctranslate2").__version__),
        "quantization": quantization,
        "positions": positions,
        "parity": parity.to_json(),
    }


def build_spec(model: TransformerModel, source: Sequence[str], target: Sequence[str], positions: int | None) -> Any:
    """A valid `ctranslate2.specs.TransformerSpec` with the model's weights and these vocabularies.

    `positions` is the number of entries of the table of positions, which limits the length of texts; None if rotary.
    """
    from ctranslate2.specs import TransformerSpec

    spec = TransformerSpec(*_empty(model.settings))
    spec.config.bos_token, spec.config.eos_token = SPECIAL_TOKENS[BOS], SPECIAL_TOKENS[EOS]
    spec.config.unk_token, spec.config.decoder_start_token = SPECIAL_TOKENS[UNK], SPECIAL_TOKENS[BOS]
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = _epsilon(model)
    spec.register_source_vocabulary(list(source))
    spec.register_target_vocabulary(list(target))
    assert isinstance(model.source_embedding, Embedding)
    _fill(spec.encoder.embeddings[0], weight=model.source_embedding.weight)
    _fill(spec.decoder.embeddings, weight=model.target_embedding.weight)
    _fill_linear(spec.decoder.projection, model.output)
    width = model.settings.hidden_size
    _fill_positions(spec.encoder, model.source_positions, positions, width)
    _fill_positions(spec.decoder, model.target_positions, positions, width)
    if model.settings.norm_position == "pre":
        _fill_norm(spec.encoder.layer_norm, model.encoder_norm)
        _fill_norm(spec.decoder.layer_norm, model.decoder_norm)
    for ours, theirs in zip(model.encoder, spec.encoder.layer, strict=True):
        assert isinstance(ours, EncoderLayer)
        own = ours.attention
        _fill_attention(theirs.self_attention, ours.around_attention, own.query_key_value, own.out)
        _fill_feed_forward(theirs.ffn, ours.feed_forward, ours.around_feed_forward)
    for ours, theirs in zip(model.decoder, spec.decoder.layer, strict=True):
        assert isinstance(ours, DecoderLayer)
        own, cross = ours.self_attention, ours.cross_attention
        _fill_attention(theirs.self_attention, ours.around_self_attention, own.query_key_value, own.out)
        _fill_attention(theirs.attention, ours.around_cross_attention, cross.query, cross.key_value, cross.out)
        _fill_feed_forward(theirs.ffn, ours.feed_forward, ours.around_feed_forward)
    spec.validate()
    return spec


def vocabulary(pieces: Sequence[str]) -> list[str]:
    """The pieces made unique, as CTranslate2 requires: a repeated one gets a mark and its id."""
    seen: set[str] = set()
    entries = []
    for number, piece in enumerate(pieces):
        entry = piece
        while entry in seen:
            entry += f"\u241f{number}"
        seen.add(entry)
        entries.append(entry)
    return entries


def _empty(settings: TransformerSettings) -> tuple[Any, Any]:
    """Specifications of the encoder and the decoder, without weights."""
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec
    from ctranslate2.specs.common_spec import Activation

    activations = {"relu": Activation.RELU, "gelu": Activation.GELU, "swiglu": Activation.SWISH}
    common = {
        "num_heads": settings.num_heads,
        "pre_norm": settings.norm_position == "pre",
        "activation": activations[settings.activation],
        "ffn_glu": settings.activation == "swiglu",
        "rms_norm": settings.norm == "rms_norm",
        "head_dim": settings.hidden_size if settings.attention == "wide" else None,
        # 0 rotates the whole head, None disables rotation.
        "rotary_dim": 0 if settings.positions == "rotary" else None,
        "rotary_interleave": False,
    }
    encoder = TransformerEncoderSpec(settings.encoder_layers, **common)
    # The attention that is returned on request: the mean over all heads of the last layer.
    decoder = TransformerDecoderSpec(
        settings.decoder_layers, **common, alignment_layer=-1, alignment_heads=settings.num_heads
    )
    return encoder, decoder


def _epsilon(model: TransformerModel) -> float:
    layer = model.encoder[0]
    assert isinstance(layer, EncoderLayer)
    norm = layer.around_attention.norm
    assert isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
    assert norm.eps is not None
    return norm.eps


def _fill(spec: Any, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            # A copy, because quantization works in place.
            setattr(spec, name, tensor.detach().float().cpu().numpy().copy())


def _fill_linear(spec: Any, linear: nn.Linear) -> None:
    _fill(spec, weight=linear.weight, bias=linear.bias)


def _fill_norm(spec: Any, norm: nn.Module) -> None:
    assert isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
    _fill(spec, gamma=norm.weight)
    if isinstance(norm, nn.LayerNorm):
        _fill(spec, beta=norm.bias)


def _fill_positions(spec: Any, positions: Positions, entries: int | None, width: int) -> None:
    match positions.kind:
        case "learned":
            _fill(spec.position_encodings, encodings=positions.table)
        case "sinusoidal":
            assert entries is not None
            _fill(spec.position_encodings, encodings=sinusoids(0, entries, width, torch.device("cpu")))
        case "rotary":
            pass


def _fill_attention(spec: Any, around: SublayerConnection, *products: nn.Linear) -> None:
    _fill_norm(spec.layer_norm, around.norm)
    for theirs, ours in zip(spec.linear, products, strict=True):
        _fill_linear(theirs, ours)


def _fill_feed_forward(spec: Any, block: FeedForward, around: SublayerConnection) -> None:
    _fill_norm(spec.layer_norm, around.norm)
    _fill_linear(spec.linear_1, block.outer)
    if block.activation != "swiglu":
        _fill_linear(spec.linear_0, block.inner)
        return
    # The model has one matrix: first the gate, which is activated, then the value.
    (gate, value), (gate_bias, value_bias) = block.inner.weight.chunk(2), block.inner.bias.chunk(2)
    _fill(spec.linear_0, weight=gate, bias=gate_bias)
    _fill(spec.linear_0_noact, weight=value, bias=value_bias)
