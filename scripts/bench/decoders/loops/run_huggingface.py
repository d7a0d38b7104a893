"""transformers' `generate` on an M2M100 model, its pre-norm Transformer with fixed positions."""

from __future__ import annotations

import torch
from common import BOS, EOS, MAX_LENGTH, PAD, UNK, Job, Translate, batches, fill, main, renamed
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration

_NAMES = {f"{side}.norm": f"model.{side}.layer_norm" for side in ("encoder", "decoder")}
for _side in ("encoder", "decoder"):
    _layer = f"model.{_side}.layers.N."
    for _ours, _theirs in {"self": "self_attn", "cross": "encoder_attn"}.items():
        _NAMES |= {f"{_side}.N.{_ours}.{part}": f"{_layer}{_theirs}.{part}_proj" for part in "qkv"}
        _NAMES[f"{_side}.N.{_ours}.o"] = f"{_layer}{_theirs}.out_proj"
        _NAMES[f"{_side}.N.{_ours}_norm"] = f"{_layer}{_theirs}_layer_norm"
    _NAMES |= {f"{_side}.N.inner": f"{_layer}fc1", f"{_side}.N.outer": f"{_layer}fc2"}
    _NAMES[f"{_side}.N.feed_forward_norm"] = f"{_layer}final_layer_norm"


def _load(job: Job) -> Translate:
    torch.set_num_threads(job.threads)
    model, vocabulary = _model(job), job.vocabulary()
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    settings = GenerationConfig(
        num_beams=job.beam,
        max_new_tokens=MAX_LENGTH,
        length_penalty=1.0,
        early_stopping=False,
        do_sample=False,
        use_cache=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
    )

    @torch.inference_mode()
    def translate(sentences: list[list[str]]) -> list[list[str]]:
        outputs: list[list[str]] = [[] for _ in sentences]
        for batch in batches(sentences, job.batch):
            rows = [[ids.get(piece, UNK) for piece in sentences[i]] + [EOS] for i in batch]
            longest = max(map(len, rows))
            source = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
            found = model.generate(source, attention_mask=(source != PAD).long(), generation_config=settings)
            for i, row in zip(batch, found.tolist(), strict=True):
                outputs[i] = [vocabulary[number] for number in row if number > UNK]
        return outputs

    return translate


def _model(job: Job) -> M2M100ForConditionalGeneration:
    shape, weights = job.shape(), job.weights()
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "layers": shape[f"{side}_layers"],
            "ffn_dim": shape["ff_width"],
            "attention_heads": shape["heads"],
            "layerdrop": 0.0,
        }.items()
    }
    config = M2M100Config(
        **sides,
        d_model=shape["width"],
        vocab_size=len(weights["embedding"]),
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=len(weights["positions"]),
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
    )
    model = M2M100ForConditionalGeneration(config).eval()
    arrays = renamed(weights, _NAMES)
    tied = {
        name: weights["embedding"] for name in model.state_dict() if name.endswith(("shared.weight", "lm_head.weight"))
    }
    tied |= {name: weights["embedding"] for name in model.state_dict() if name.endswith("embed_tokens.weight")}
    fill(model, {**arrays, **tied})
    for side in (model.model.encoder, model.model.decoder):
        table = side.embed_positions.weights  # the first token's position is that after the padding's
        table[PAD + 1 : PAD + 1 + len(weights["positions"])] = torch.from_numpy(weights["positions"])
    return model


if __name__ == "__main__":
    main(_load)
