"""eole's inference engine on a model folder that is written here from the neutral weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from common import MAX_LENGTH, Job, Translate, main, renamed
from eole.config.run import PredictConfig
from eole.inference_engine import InferenceEnginePY
from safetensors.torch import save_file

_SPECIALS = ("<blank>", "<s>", "</s>", "<unk>")
_NEVER = -1e4  # bias of tokens that are not to be written
_ATTENTION = {"q": "linear_query", "k": "linear_keys", "v": "linear_values", "o": "final_linear"}
_NAMES = {f"{side}.norm": f"{side}.layer_norm" for side in ("encoder", "decoder")}
for _side in ("encoder", "decoder"):
    _layer = f"{_side}.transformer_layers.N."
    for _ours, _theirs in {"self": "self_attn", "cross": "context_attn"}.items():
        _NAMES |= {f"{_side}.N.{_ours}.{part}": f"{_layer}{_theirs}.{name}" for part, name in _ATTENTION.items()}
    _NAMES[f"{_side}.N.self_norm"] = f"{_layer}input_layernorm"
    _NAMES[f"{_side}.N.cross_norm"] = f"{_layer}precontext_layernorm"
    _NAMES |= {f"{_side}.N.inner": f"{_layer}mlp.gate_up_proj", f"{_side}.N.outer": f"{_layer}mlp.down_proj"}
    _NAMES[f"{_side}.N.feed_forward_norm"] = f"{_layer}post_attention_layernorm"


def _load(job: Job) -> Translate:
    torch.set_num_threads(job.threads)
    folder = job.folder / f"model-{os.getpid()}"
    _write_model(job, folder)
    config = PredictConfig(
        model_path=[str(folder)],
        src="none",
        output=str(job.folder / "none"),
        beam_size=job.beam,
        batch_size=job.batch,
        batch_type="sents",
        max_length=MAX_LENGTH,
        length_penalty="avg",
        world_size=1,
        gpu_ranks=[],
    )
    engine = InferenceEnginePY(config)

    def translate(sentences: list[list[str]]) -> list[list[str]]:
        _, _, found = engine.infer_list([" ".join([*sentence, _SPECIALS[2]]) for sentence in sentences])
        return [hypotheses[0].split() for hypotheses in found]

    return translate


def _write_model(job: Job, folder: Path) -> None:
    shape, weights = job.shape(), job.weights()
    width = shape["width"]
    positions = {"position_encoding": True, "position_encoding_type": "SinusoidalInterleaved"}
    model: dict[str, Any] = {
        "architecture": "transformer",
        "hidden_size": width,
        "heads": shape["heads"],
        "transformer_ff": shape["ff_width"],
        "mlp_activation_fn": "relu",
        "add_qkvbias": True,
        "add_final_linear_bias": True,
        "add_ffnbias": True,
        "share_embeddings": True,
        "share_decoder_embeddings": True,
        "position_encoding_type": "SinusoidalInterleaved",
        "embeddings": {"word_vec_size": width, **positions},
        "encoder": {"layers": shape["encoder_layers"]},
        "decoder": {"layers": shape["decoder_layers"]},
    }
    folder.mkdir()
    pieces = job.vocabulary(_SPECIALS)
    settings = {"data": {}, "src_vocab": "none", "tgt_vocab": "none", "share_vocab": True, "model": model}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    specials = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), _SPECIALS, strict=True))
    vocabulary = {"src": pieces, "tgt": pieces, "decoder_start_token": _SPECIALS[1], "specials": specials}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tensors = {name: torch.from_numpy(value).contiguous() for name, value in renamed(weights, _NAMES).items()}
    table = torch.zeros(5000, 1, width)
    table[: len(weights["positions"]), 0] = torch.from_numpy(weights["positions"])
    bias = torch.zeros(len(pieces))
    bias[:2] = _NEVER
    tensors["generator.bias"] = bias
    for name in ("src_emb.embeddings.weight", "tgt_emb.embeddings.weight", "generator.weight"):
        tensors[name] = torch.from_numpy(weights["embedding"]).clone()
    for side in ("src_emb", "tgt_emb"):
        tensors[f"{side}.pe.pe"] = table.clone()
    save_file(tensors, folder / "model.00.safetensors")


if __name__ == "__main__":
    main(_load)
