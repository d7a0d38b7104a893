"""A run as a folder that `transformers` loads with `AutoModelForSeq2SeqLM` and `AutoTokenizer`.

Post-norm models become `MarianMTModel` (the architecture of Marian's and OPUS-MT's models), pre-norm models
`PegasusForConditionalGeneration`, which differs in the place of its norms only. Both use the same sinusoids.
The tokenizer is `MarianTokenizer`, with the run's sentencepiece models and a table of token ids.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seq2seq import console
from seq2seq.atomic_files import write_bytes, write_json, write_text
from seq2seq.decoding.length_limits import lengths
from seq2seq.decoding.segmentation import readable
from seq2seq.decoding.text_batches import batches_by_length, padded
from seq2seq.errors import UsageError
from seq2seq.export.folder import Trained, export_folder, seal
from seq2seq.export.model_card import model_card
from seq2seq.export.parity import Parity, Reference
from seq2seq.export.requirements import longest_source, require_transformer, table_length
from seq2seq.extras import import_library
from seq2seq.models.attention import CrossAttention, SelfAttention
from seq2seq.models.transformer import TransformerModel
from seq2seq.models.transformer_layers import DecoderLayer, EncoderLayer, SublayerConnection
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from seq2seq.tokenizers.pair import TokenizerPair

_BATCH_TOKENS = 2048


def export_huggingface(trained: Trained, target: Path, *, sentences: int) -> Parity:
    """Export to `target`, and check that `transformers` gives the model's greedy outputs for `sentences` lines.

    Raises:
        UsageError: `transformers` has no counterpart for a setting, which is named, or is not installed; or `target`
            exists and is not an export.
        CheckpointError: the outputs of the export differ from the model's.
        ResourceError: the disk is full.
    """
    library = import_library("transformers")
    model = require_transformer(trained.model, "transformers")
    _require_counterpart(model, trained.tokenizers)
    with export_folder(target) as folder, _quiet():
        reference = Reference(trained, sentences, longest_source(model, trained.config.decoding))
        theirs = _convert(model, trained)
        theirs.save_pretrained(folder)
        _save_tokenizer(trained, folder, theirs.config.max_position_embeddings)
        loaded = library.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        result = reference.compare("transformers fp32", _greedy(loaded, model, reference), exact=True)
        tokenized = _check_tokenizer(library.AutoTokenizer.from_pretrained(folder), trained, reference)
        parity = reference.parity([result])
        example = reference.texts[0] if reference.texts else "..."
        write_text(folder / "README.md", model_card(trained, parity, type(theirs).__name__, example))
        details = {"library": "huggingface", "version": str(library.__version__)}
        seal(
            folder,
            trained,
            {**details, "quantization": "float32", "parity": {**parity.to_json(), "tokenized": tokenized}},
        )
    return parity


def _require_counterpart(model: TransformerModel, tokenizers: TokenizerPair) -> None:
    """Raise `UsageError` for the first setting that no maintained class of `transformers` supports."""
    settings = model.settings
    wrong = [
        (f"model.positions: {settings.positions}", "sinusoidal", settings.positions != "sinusoidal"),
        (f"model.norm: {settings.norm}", "layer_norm", settings.norm != "layer_norm"),
        (f"model.activation: {settings.activation}", "relu or gelu", settings.activation == "swiglu"),
        (f"model.attention: {settings.attention}", "narrow", settings.attention != "narrow"),
        (
            f"model.tied_embeddings: {settings.tied_embeddings} with norm_position: pre",
            "all (or norm_position: post)",
            settings.norm_position == "pre" and settings.tied_embeddings != "all",
        ),
    ]
    for name, needed, unfit in wrong:
        if unfit:
            raise UsageError(
                f"transformers has no class for {name}; it needs {needed}",
                hint="export with --format ctranslate2, or train with preset: marian",
                code="export.unsupported",
            )
    for tokenizer in tokenizers:
        if tokenizer.kind != "sentencepiece":
            raise UsageError(
                f"transformers' MarianTokenizer needs sentencepiece, not tokenizer.kind: {tokenizer.kind}",
                hint="export with --format ctranslate2, or train with tokenizer.kind=unigram",
                code="export.unsupported",
            )


def _convert(model: TransformerModel, trained: Trained) -> Any:
    """A model of `transformers` with the model's weights."""
    library = import_library("transformers")
    settings, decoding = model.settings, trained.config.decoding
    common = {
        "vocab_size": model.source_embedding.weight.shape[0],
        "max_position_embeddings": table_length(model, decoding),
        "d_model": settings.hidden_size,
        "encoder_layers": settings.encoder_layers,
        "decoder_layers": settings.decoder_layers,
        "encoder_attention_heads": settings.num_heads,
        "decoder_attention_heads": settings.num_heads,
        "encoder_ffn_dim": settings.ff_size,
        "decoder_ffn_dim": settings.ff_size,
        "activation_function": settings.activation,
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation_dropout": settings.ff_dropout,
        "scale_embedding": True,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
        "decoder_start_token_id": BOS,
        "forced_eos_token_id": EOS,
        "tie_word_embeddings": settings.tied_embeddings != "none",
    }
    if settings.norm_position == "post":
        config = library.MarianConfig(
            **common,
            decoder_vocab_size=model.target_embedding.weight.shape[0],
            share_encoder_decoder_embeddings=settings.tied_embeddings == "all",
        )
        theirs = library.MarianMTModel(config)
    else:
        theirs = library.PegasusForConditionalGeneration(library.PegasusConfig(**common))
    missing, unexpected = theirs.load_state_dict(dict(_tensors(model)), strict=False)
    left = [name for name in missing if not name.endswith("embed_positions.weight")]
    if left or unexpected:
        raise RuntimeError(f"weights that do not fit {type(theirs).__name__}: {left} {unexpected}")
    theirs.generation_config = library.GenerationConfig(
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        decoder_start_token_id=BOS,
        forced_eos_token_id=EOS,
        # As in the native search, PAD and BOS are never written.
        suppress_tokens=[PAD, BOS],
        num_beams=decoding.beam_size,
        length_penalty=decoding.length_penalty,
        early_stopping=decoding.beam_size > 1,
        max_length=theirs.config.max_position_embeddings,
    )
    return theirs.eval()


def _tensors(model: TransformerModel) -> Iterator[tuple[str, Tensor]]:
    """The model's weights under the names of `transformers`."""
    source, target, output = model.source_embedding, model.target_embedding, model.output
    if model.settings.tied_embeddings == "all":
        yield "model.shared.weight", source.weight
    yield "model.encoder.embed_tokens.weight", source.weight
    yield "model.decoder.embed_tokens.weight", target.weight
    yield "lm_head.weight", output.weight
    bias: Tensor | None = output.bias
    yield "final_logits_bias", (torch.zeros(output.out_features) if bias is None else bias)[None]
    if model.settings.norm_position == "pre":
        yield from _named("model.encoder.layer_norm", model.encoder_norm)
        yield from _named("model.decoder.layer_norm", model.decoder_norm)
    for number, layer in enumerate(model.encoder):
        assert isinstance(layer, EncoderLayer)
        prefix = f"model.encoder.layers.{number}."
        yield from _attention(prefix + "self_attn", layer.attention, layer.around_attention)
        yield from _feed_forward(prefix, layer)
    for number, layer in enumerate(model.decoder):
        assert isinstance(layer, DecoderLayer)
        prefix = f"model.decoder.layers.{number}."
        yield from _attention(prefix + "self_attn", layer.self_attention, layer.around_self_attention)
        yield from _attention(prefix + "encoder_attn", layer.cross_attention, layer.around_cross_attention)
        yield from _feed_forward(prefix, layer)


def _attention(
    name: str, attention: SelfAttention | CrossAttention, around: SublayerConnection
) -> Iterator[tuple[str, Tensor]]:
    """The weights of an attention layer, with one matrix for each projection."""
    if isinstance(attention, SelfAttention):
        weights = attention.query_key_value.weight.chunk(3)
        biases = attention.query_key_value.bias.chunk(3)
    else:
        weights = (attention.query.weight, *attention.key_value.weight.chunk(2))
        biases = (attention.query.bias, *attention.key_value.bias.chunk(2))
    for part, weight, bias in zip("qkv", weights, biases, strict=True):
        yield f"{name}.{part}_proj.weight", weight
        yield f"{name}.{part}_proj.bias", bias
    yield from _named(f"{name}.out_proj", attention.out)
    yield from _named(f"{name}_layer_norm", around.norm)


def _feed_forward(prefix: str, layer: EncoderLayer | DecoderLayer) -> Iterator[tuple[str, Tensor]]:
    yield from _named(prefix + "fc1", layer.feed_forward.inner)
    yield from _named(prefix + "fc2", layer.feed_forward.outer)
    yield from _named(prefix + "final_layer_norm", layer.around_feed_forward.norm)


def _named(name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for part, parameter in module.named_parameters():
        yield f"{name}.{part}", parameter


def _save_tokenizer(trained: Trained, folder: Path, longest: int) -> None:
    """Write the files of a `MarianTokenizer`."""
    source, target = trained.tokenizers
    write_bytes(folder / "source.spm", source.to_bytes())
    write_bytes(folder / "target.spm", target.to_bytes())
    joint = trained.tokenizers.joint
    sides = {"vocab.json": source} if joint else {"vocab.json": source, "target_vocab.json": target}
    for name, side in sides.items():
        write_json(folder / name, {piece: number for number, piece in enumerate(side.pieces(range(side.size)))})
    languages = trained.config.data
    settings = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": languages.source_language,
        "target_lang": languages.target_language,
        "pad_token": SPECIAL_TOKENS[PAD],
        "eos_token": SPECIAL_TOKENS[EOS],
        "unk_token": SPECIAL_TOKENS[UNK],
        "separate_vocabs": not joint,
        "model_max_length": longest,
        # Spaces before punctuation are left as the model writes them.
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings)


def _greedy(model: Any, ours: TransformerModel, reference: Reference) -> list[list[int]]:
    """Greedy outputs of `transformers`, within the length limits of the reference."""
    bounds = lengths(ours, reference.sentences, reference.options)
    outputs: list[list[int]] = [[] for _ in reference.sentences]
    sizes = [len(sentence.ids) + 1 for sentence in reference.sentences]
    for batch in batches_by_length(sizes, _BATCH_TOKENS):
        source = padded([[*reference.sentences[place].ids, EOS] for place in batch], torch.device("cpu"))
        with torch.inference_mode():
            rows = model.generate(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                num_beams=1,
                do_sample=False,
                max_length=max(bounds[place].maximum for place in batch) + 2,  # BOS and EOS are counted
            )
        for place, row in zip(batch, rows[:, 1:].tolist(), strict=True):
            end = row.index(EOS) if EOS in row else len(row)
            outputs[place] = row[: min(end, bounds[place].maximum)]
    return outputs


def _check_tokenizer(tokenizer: Any, trained: Trained, reference: Reference) -> int:
    """Number of lines that `transformers` encodes, and whose outputs it decodes, as the run does. Warns of others."""
    if not reference.texts:
        return 0
    same = 0
    outputs = trained.tokenizers.target.decode(reference.outputs)
    for text, sentence, tokens, output in zip(
        reference.texts, reference.sentences, reference.outputs, outputs, strict=True
    ):
        read = tokenizer(readable(text)).input_ids == [*sentence.ids, EOS]
        same += read and tokenizer.decode(tokens, skip_special_tokens=True) == output.strip()
    if same < len(reference.texts):
        console.warn(
            f"transformers' tokenizer treats {len(reference.texts) - same} of {len(reference.texts)} lines differently"
        )
    return same


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the progress bars and warnings of `transformers`."""
    logging = import_library("transformers").logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
