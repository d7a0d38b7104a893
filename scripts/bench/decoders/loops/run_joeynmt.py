"""JoeyNMT's `search`, which computes the whole prefix again at every step; sentences sorted by length here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from common import EOS, MAX_LENGTH, PAD, UNK, Job, Translate, batches, fill, main, renamed
from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary

_SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
_NAMES = {f"{side}.norm": f"{side}.layer_norm" for side in ("encoder", "decoder")}
for _side, _self, _norm in (("encoder", "src_src_att", "layer_norm"), ("decoder", "trg_trg_att", "x_layer_norm")):
    _layer = f"{_side}.layers.N."
    for _ours, _theirs in {"self": _self, "cross": "src_trg_att"}.items():
        _NAMES |= {f"{_side}.N.{_ours}.{part}": f"{_layer}{_theirs}.{part}_layer" for part in "qkv"}
        _NAMES[f"{_side}.N.{_ours}.o"] = f"{_layer}{_theirs}.output_layer"
    _NAMES |= {f"{_side}.N.self_norm": _layer + _norm, f"{_side}.N.cross_norm": f"{_layer}dec_layer_norm"}
    _NAMES |= {f"{_side}.N.inner": f"{_layer}feed_forward.pwff_layer.0"}
    _NAMES |= {f"{_side}.N.outer": f"{_layer}feed_forward.pwff_layer.3"}
    _NAMES |= {f"{_side}.N.feed_forward_norm": f"{_layer}feed_forward.layer_norm"}


def _load(job: Job) -> Translate:
    torch.set_num_threads(job.threads)
    vocabulary = job.vocabulary(_SPECIALS)
    model = _model(job, vocabulary)
    ids = {piece: number for number, piece in enumerate(vocabulary)}

    def translate(sentences: list[list[str]]) -> list[list[str]]:
        outputs: list[list[str]] = [[] for _ in sentences]
        for numbers in batches(sentences, job.batch):
            rows = [[ids.get(piece, UNK) for piece in sentences[i]] + [EOS] for i in numbers]
            longest = max(map(len, rows))
            batch = Batch(
                src=torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]),
                src_length=torch.tensor([len(row) for row in rows]),
                src_prompt_mask=None,
                trg=None,
                trg_prompt_mask=None,
                indices=torch.tensor(numbers),
                device=torch.device("cpu"),
                pad_index=PAD,
                eos_index=EOS,
                is_train=False,
            )
            found, *_ = search(model, batch, MAX_LENGTH, job.beam, beam_alpha=1.0)
            for i, row in zip(numbers, found.tolist(), strict=True):
                end = row.index(EOS) if EOS in row else len(row)
                outputs[i] = [vocabulary[number] for number in row[:end] if number > UNK]
        return outputs

    return translate


def _model(job: Job, pieces: list[str]) -> Any:
    shape, weights = job.shape(), job.weights()
    symbols: dict[str, Any] = {"lang_tags": [], "sep_token": None, "sep_id": None}
    for name, number in {"pad": PAD, "bos": 1, "eos": EOS, "unk": UNK}.items():
        symbols |= {f"{name}_token": _SPECIALS[number], f"{name}_id": number}
    vocabulary = _vocabulary(pieces, SimpleNamespace(**symbols))
    stack = {
        "type": "transformer",
        "num_heads": shape["heads"],
        "hidden_size": shape["width"],
        "ff_size": shape["ff_width"],
        "dropout": 0.0,
        "layer_norm": "pre",
        "activation": "relu",
        "embeddings": {"embedding_dim": shape["width"], "scale": True},
    }
    config = {
        "encoder": {**stack, "num_layers": shape["encoder_layers"]},
        "decoder": {**stack, "num_layers": shape["decoder_layers"]},
        "tied_embeddings": True,
        "tied_softmax": True,
    }
    model = build_model(config, vocabulary, vocabulary).eval()
    tied = ("src_embed.lut.weight", "trg_embed.lut.weight", "decoder.output_layer.weight")
    arrays = {**renamed(weights, _NAMES), **dict.fromkeys(tied, weights["embedding"])}
    positions = weights["positions"]
    fill(model, arrays, left=["pe.pe"])
    for side in (model.encoder, model.decoder):
        side.pe.pe[0, : len(positions)] = torch.from_numpy(positions)
    return model


def _vocabulary(pieces: list[str], symbols: SimpleNamespace) -> Vocabulary:
    """JoeyNMT puts its special tokens in an order of its own: they are put back into that of the weights."""
    vocabulary = Vocabulary.__new__(Vocabulary)
    vocabulary.specials, vocabulary.lang_tags = list(_SPECIALS), []
    vocabulary._itos = list(pieces)
    vocabulary._stoi = {piece: number for number, piece in enumerate(pieces)}
    vocabulary.pad_index, vocabulary.bos_index = symbols.pad_id, symbols.bos_id
    vocabulary.eos_index, vocabulary.unk_index = symbols.eos_id, symbols.unk_id
    vocabulary.sep_index = None
    return vocabulary


if __name__ == "__main__":
    main(_load)
