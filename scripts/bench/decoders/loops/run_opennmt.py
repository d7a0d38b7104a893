"""OpenNMT-py's inference engine on a checkpoint that is written here from the neutral weights."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from common import MAX_LENGTH, Job, Translate, fill, main, renamed
from onmt.inference_engine import InferenceEnginePY
from onmt.inputters.inputter import dict_to_vocabs
from onmt.model_builder import build_base_model
from onmt.opts import train_opts, translate_opts
from onmt.utils.parse import ArgumentParser

_SPECIALS = ("<blank>", "<s>", "</s>", "<unk>")
_NEVER = -1e4  # bias of tokens that are not to be written
_LAYERS = {"encoder": "encoder.transformer.N.", "decoder": "decoder.transformer_layers.N."}
_ATTENTION = {"q": "linear_query", "k": "linear_keys", "v": "linear_values", "o": "final_linear"}
_NAMES = {f"{side}.norm": f"{side}.layer_norm" for side in _LAYERS}
for _side, _layer in _LAYERS.items():
    for _ours, _theirs in {"self": "self_attn", "cross": "context_attn"}.items():
        _NAMES |= {f"{_side}.N.{_ours}.{part}": f"{_layer}{_theirs}.{name}" for part, name in _ATTENTION.items()}
    _NAMES[f"{_side}.N.self_norm"] = _layer + ("layer_norm" if _side == "encoder" else "layer_norm_1")
    _NAMES[f"{_side}.N.cross_norm"] = f"{_layer}layer_norm_2"
    _NAMES |= {f"{_side}.N.inner": f"{_layer}feed_forward.w_1", f"{_side}.N.outer": f"{_layer}feed_forward.w_2"}
    _NAMES[f"{_side}.N.feed_forward_norm"] = f"{_layer}feed_forward.layer_norm"


def _load(job: Job) -> Translate:
    torch.set_num_threads(job.threads)
    path = job.folder / f"model-{os.getpid()}.pt"
    _write_checkpoint(job, path)
    # OpenNMT-py asks torch.load for a file with settings in it, which newer versions refuse by default.
    original = torch.load
    torch.load = lambda *args, **kwargs: original(*args, **{**kwargs, "weights_only": False})
    engine = InferenceEnginePY(_translation_options(job, path))

    def translate(sentences: list[list[str]]) -> list[list[str]]:
        _, found = engine.infer_list([" ".join([*sentence, _SPECIALS[2]]) for sentence in sentences])
        return [hypotheses[0].split() for hypotheses in found]

    return translate


def _translation_options(job: Job, path: Path) -> Any:
    parser = ArgumentParser()
    translate_opts(parser)
    settings = {
        "model": path,
        "src": "none",
        "beam_size": job.beam,
        "batch_size": job.batch,
        "batch_type": "sents",
        "max_length": MAX_LENGTH,
        "length_penalty": "avg",
        "gpu": -1,
    }
    options = parser.parse_args([text for name, value in settings.items() for text in (f"--{name}", str(value))])
    ArgumentParser.validate_translate_opts(options)
    ArgumentParser._get_all_transform_translate(options)
    ArgumentParser._validate_transforms_opts(options)
    ArgumentParser.validate_translate_opts_dynamic(options)
    return options


def _write_checkpoint(job: Job, path: Path) -> None:
    shape, weights = job.shape(), job.weights()
    parser = ArgumentParser()
    train_opts(parser)
    settings = {
        "encoder_type": "transformer",
        "decoder_type": "transformer",
        "enc_layers": shape["encoder_layers"],
        "dec_layers": shape["decoder_layers"],
        "heads": shape["heads"],
        "hidden_size": shape["width"],
        "word_vec_size": shape["width"],
        "transformer_ff": shape["ff_width"],
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "max_relative_positions": 0,
    }
    flags = ["position_encoding", "add_qkvbias", "add_ffnbias", "share_embeddings", "share_decoder_embeddings"]
    texts = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    files = ["--src_vocab", "none", "--data", "{}"]
    options: Namespace = parser.parse_args([*files, *texts, *(f"--{flag}" for flag in flags)])
    ArgumentParser.update_model_opts(options)
    ArgumentParser.validate_model_opts(options)
    pieces = job.vocabulary(_SPECIALS)
    words = {"src": pieces, "tgt": pieces, "data_task": "seq2seq", "decoder_start_token": _SPECIALS[1]}
    model = build_base_model(options, dict_to_vocabs(words))
    embedding, positions = weights["embedding"], weights["positions"]
    arrays = renamed(weights, _NAMES)
    arrays |= {
        name: embedding for name in model.state_dict() if name.endswith(("emb_luts.0.weight", "generator.weight"))
    }
    fill(model, arrays, left=["pe.pe", "generator.bias"])
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("pe.pe"):
            tensor[: len(positions), 0] = torch.from_numpy(positions)
    state["generator.bias"].zero_()[:2] = _NEVER
    generator = {name.removeprefix("generator."): tensor for name, tensor in state.items() if "generator" in name}
    body = {name: tensor for name, tensor in state.items() if "generator" not in name}
    torch.save({"model": body, "generator": generator, "vocab": words, "opt": options}, path)


if __name__ == "__main__":
    main(_load)
