"""What a model must be for another library to take it, and how long its texts may be there."""

from __future__ import annotations

import importlib
from typing import Any

from seq2seq.config import DecodingSettings, ModelSettings
from seq2seq.errors import UsageError
from seq2seq.models import Seq2SeqModel, TransformerModel

_FEWEST_POSITIONS = 2048


def require_transformer(model: Seq2SeqModel, library: str) -> TransformerModel:
    """The model, which `library` can take.

    Raises:
        UsageError: it is recurrent, for which no maintained format exists.
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
    """Raise `UsageError` where CTranslate2 cannot be the engine: an export, which there is none of, cannot be made."""
    if settings.kind != "transformer":
        raise UsageError(
            f"a recurrent model (model.kind: {settings.kind}) has no ctranslate2 engine: CTranslate2 has no such "
            "architecture",
            where="--engine",
            hint="leave out --engine ctranslate2: the run itself translates",
            code="export.unsupported",
        )


def table_length(model: TransformerModel, decoding: DecodingSettings) -> int | None:
    """Positions that a library's table of them must have; None where positions need no table.

    A learned table has its own length; sinusoids go as far as the settings of decoding allow, and 2,048 at least.
    """
    match model.settings.positions:
        case "rotary":
            return None
        case "learned":
            return model.settings.max_positions
        case "sinusoidal":
            source = decoding.max_source_tokens + 1
            longest = max(source, int(decoding.max_length_ratio * source) + decoding.max_length_offset + 1)
            return max(_FEWEST_POSITIONS, 1 << (longest - 1).bit_length())


def longest_source(model: TransformerModel, decoding: DecodingSettings) -> int:
    """Most source tokens, EOS not counted, that a line may have to be translated in one piece."""
    limit = model.max_source_length
    return decoding.max_source_tokens if limit is None else min(decoding.max_source_tokens, limit - 1)


def import_ctranslate2() -> Any:
    """The module `ctranslate2`. Raises `UsageError` where it is not installed."""
    return _import("ctranslate2", "ctranslate2")


def import_transformers() -> Any:
    """The module `transformers`. Raises `UsageError` where it is not installed."""
    return _import("transformers", "huggingface")


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} is not usable here: {error}", hint=f"pip install 'seq2seq[{extra}]'", code="export.library"
        ) from None
