"""A run's Transformer as a folder that every decoder's loop can read: no package of ours is needed to use it.

    weights.npz       fp32 arrays, linear weights as [out, in]:
                      embedding [V, D] (input, output and both sides alike; inputs are scaled by sqrt(D)),
                      positions [P, D] (added to the scaled embeddings from position 0 on),
                      and, for SIDE in encoder and decoder and N from 0, weight and bias of
                      SIDE.N.{self,cross}.{q,k,v,o}, SIDE.N.{inner,outer}, SIDE.N.{self,cross,feed_forward}_norm
                      and SIDE.norm
    vocabulary.txt    one piece a line in the order of ids; padding, begin, end and unknown are the first four
    pieces.model      the sentencepiece model
    shape.json        layers of both sides, width, feed-forward width, heads

The model is pre-norm with ReLU, sources end with the end mark, and targets begin with the begin mark.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_POSITIONS = 512
_PARTS = {
    "encoder": {
        "attention.out": "self.o",
        "around_attention.norm": "self_norm",
        "feed_forward.inner": "inner",
        "feed_forward.outer": "outer",
        "around_feed_forward.norm": "feed_forward_norm",
    },
    "decoder": {
        "self_attention.out": "self.o",
        "around_self_attention.norm": "self_norm",
        "cross_attention.query": "cross.q",
        "cross_attention.out": "cross.o",
        "around_cross_attention.norm": "cross_norm",
        "feed_forward.inner": "inner",
        "feed_forward.outer": "outer",
        "around_feed_forward.norm": "feed_forward_norm",
    },
}
_FUSED = {
    "attention.query_key_value": ("self.q", "self.k", "self.v"),
    "self_attention.query_key_value": ("self.q", "self.k", "self.v"),
    "cross_attention.key_value": ("cross.k", "cross.v"),
}


def write_weights(run: Path, folder: Path) -> None:
    """Fill `folder` from the best checkpoint of `run`.

    Raises:
        SystemExit: the model is not of the kind that all decoders know.
    """
    from seq2seq.config.model import TransformerSettings
    from seq2seq.models.positions import sinusoids
    from seq2seq.runs.load import load

    loaded = load(run, device="cpu")
    settings = loaded.config.model
    if not isinstance(settings, TransformerSettings):
        raise SystemExit(f"error: {run} is a {settings.kind}; the other decoders' loops know Transformers")
    wanted = {"norm_position": "pre", "norm": "layer_norm", "positions": "sinusoidal", "activation": "relu"}
    for name, value in {**wanted, "attention": "narrow", "tied_embeddings": "all"}.items():
        if getattr(settings, name) != value:
            raise SystemExit(f"error: {run}: the other decoders' loops need model.{name}: {value}")
    folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = loaded.translator.model, loaded.translator.tokenizers.source
    state = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    arrays = neutral(state)
    device = model.output.weight.device
    arrays["positions"] = sinusoids(0, _POSITIONS, settings.hidden_size, device).numpy()
    np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type] # numpy's stub means its keyword
    pieces = tokenizer.pieces(range(tokenizer.size))
    (folder / "vocabulary.txt").write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8")
    (folder / "pieces.model").write_bytes(tokenizer.to_bytes())
    shape = {
        "encoder_layers": settings.encoder_layers,
        "decoder_layers": settings.decoder_layers,
        "width": settings.hidden_size,
        "ff_width": settings.ff_size,
        "heads": settings.num_heads,
    }
    (folder / "shape.json").write_text(json.dumps(shape) + "\n", encoding="utf-8")


def neutral(state: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Our tensors under the names of the module's docstring, fused projections taken apart."""
    arrays = {"embedding": state["source_embedding.weight"]}
    for name, value in state.items():
        stem, _, suffix = name.rpartition(".")
        if stem in ("encoder_norm", "decoder_norm"):
            arrays[f"{stem.removesuffix('_norm')}.norm.{suffix}"] = value
        elif stem.startswith(("encoder.", "decoder.")):
            side, number, part = stem.split(".", 2)
            names = _FUSED.get(part) or (_PARTS[side][part],)
            for single, piece in zip(names, np.split(value, len(names)), strict=True):
                arrays[f"{side}.{number}.{single}.{suffix}"] = piece
    return arrays
