"""CTranslate2's own Translator: options `compute_type`, `workers` and `tokens` of a batch."""

from __future__ import annotations

from typing import Any

import ctranslate2
import numpy as np
from common import EOS, MAX_LENGTH, Job, Translate, main
from ctranslate2.specs import TransformerSpec


def _load(job: Job) -> Translate:
    folder = job.folder / "model"
    folder.mkdir()
    _spec(job).save(str(folder))
    translator = ctranslate2.Translator(
        str(folder),
        device="cpu",
        compute_type=job.options["compute_type"],
        inter_threads=job.options["workers"],
        intra_threads=job.threads,
    )
    end = job.vocabulary()[EOS]

    def translate(sentences: list[list[str]]) -> list[list[str]]:
        results = translator.translate_batch(
            [[*sentence, end] for sentence in sentences],
            beam_size=job.beam,
            length_penalty=1.0,
            max_decoding_length=MAX_LENGTH,
            max_batch_size=job.options["tokens"],
            batch_type="tokens",
        )
        return [result.hypotheses[0] for result in results]

    return translate


def _spec(job: Job) -> TransformerSpec:
    shape, weights = job.shape(), job.weights()
    spec = TransformerSpec.from_config((shape["encoder_layers"], shape["decoder_layers"]), shape["heads"])
    for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = stack.embeddings[0] if side == "encoder" else stack.embeddings
        embeddings.weight = weights["embedding"]
        stack.scale_embeddings = True
        stack.position_encodings.encodings = weights["positions"]
        _norm(stack.layer_norm, weights, f"{side}.norm")
        for number, layer in enumerate(stack.layer):
            prefix = f"{side}.{number}"
            _linear(layer.self_attention.linear[0], weights, *(f"{prefix}.self.{part}" for part in "qkv"))
            _linear(layer.self_attention.linear[1], weights, f"{prefix}.self.o")
            _norm(layer.self_attention.layer_norm, weights, f"{prefix}.self_norm")
            if side == "decoder":
                _linear(layer.attention.linear[0], weights, f"{prefix}.cross.q")
                _linear(layer.attention.linear[1], weights, f"{prefix}.cross.k", f"{prefix}.cross.v")
                _linear(layer.attention.linear[2], weights, f"{prefix}.cross.o")
                _norm(layer.attention.layer_norm, weights, f"{prefix}.cross_norm")
            _linear(layer.ffn.linear_0, weights, f"{prefix}.inner")
            _linear(layer.ffn.linear_1, weights, f"{prefix}.outer")
            _norm(layer.ffn.layer_norm, weights, f"{prefix}.feed_forward_norm")
    spec.decoder.projection.weight = weights["embedding"]
    vocabulary = job.vocabulary()
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.decoder_start_token, spec.config.add_source_eos = "<s>", False
    spec.validate()
    spec.optimize(quantization=None)
    return spec


def _linear(spec: Any, weights: dict[str, Any], *names: str) -> None:
    spec.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
    spec.bias = np.concatenate([weights[f"{name}.bias"] for name in names])


def _norm(spec: Any, weights: dict[str, Any], name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]


if __name__ == "__main__":
    main(_load)
