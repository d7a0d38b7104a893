"""Requirements of other libraries: architecture, lengths of texts."""

from __future__ import annotations

from seq2seq.config import DecodingSettings, ModelSettings
from seq2seq.errors import UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.models.transformer import TransformerModel

_MIN_POSITIONS = 2048


def require_transformer(model: Seq2SeqModel, library: str) -> TransformerModel:
    """The model, if it is a Transformer.

    Raises:
        UsageError: the model is recurrent; no maintained format exists for it.
    """
    if isinstance(model, TransformerModel):
        return model
    raise UsageError(
        f"a recurrent model (model.kind: rnn) cannot be exported: {library} has no such architecture, TorchScript is "
        "no longer maintained, and ONNX holds no search",
        hint="translate with the run itself, or train with model.kind=transformer",
        code="export.unsupported",
    )


def require_transformer_kind(settings: ModelSettings) -> None:
    """Raise `UsageError` if the run cannot have an export for CTranslate2."""
    if settings.kind != "transformer":
        raise UsageError(
            f"a recurrent model (model.kind: {settings.kind}) has no ctranslate2 engine: CTranslate2 has no such "
            "architecture",
            where="--engine",
            hint="leave out --engine ctranslate2: the run itself translates",
            code="export.unsupported",
        )


def table_length(model: TransformerModel, decoding: DecodingSettings) -> int | None:
    """Entries of the table of positions, or None if positions need no table.

    A learned table has its own length; sinusoids cover the longest text that the decoding settings allow, and at least
    2,048 positions.
    """
    match model.settings.positions:
        case "rotary":
            return None
        case "learned":
            return model.settings.max_positions
        case "sinusoidal":
            source = decoding.max_source_tokens + 1
            longest = max(source, int(decoding.max_length_ratio * source) + decoding.max_length_offset + 1)
            return max(_MIN_POSITIONS, 1 << (longest - 1).bit_length())


def longest_source(model: TransformerModel, decoding: DecodingSettings) -> int:
    """Maximum length of a line in source tokens, EOS not counted, that is translated as a whole."""
    limit = model.max_source_length
    return decoding.max_source_tokens if limit is None else min(decoding.max_source_tokens, limit - 1)
