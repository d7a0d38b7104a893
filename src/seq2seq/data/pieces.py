"""What a sentencepiece model file says of its pieces: kind of model, and text, score and type of each piece.

The library tells neither the kind of a model nor which pieces are user-defined, so the file itself (a protocol buffer)
is read: sentencepiece_model.proto, fields `pieces` and `trainer_spec.model_type`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_PIECES, _TRAINER = 1, 2
_TEXT, _SCORE, _TYPE, _MODEL_TYPE = 1, 2, 3, 3
_NORMAL, _BPE = 1, 2


class PieceTable(NamedTuple):
    """The pieces of a model in its own order."""

    merges: bool
    """True for BPE, whose scores are the order of merges; False where scores are log-probabilities (unigram)."""
    texts: list[str]
    scores: list[float]
    normal: list[bool]
    """False for bytes, special tokens and user-defined symbols."""


def read_pieces(model: bytes) -> PieceTable:
    """Read the content of a `.model` file that sentencepiece has already accepted.

    Raises:
        ValueError: it ends too early, or is no such file.
    """
    try:
        return _read(model)
    except (TypeError, struct.error) as error:
        raise ValueError(f"not a sentencepiece model: {error}") from None


def _read(model: bytes) -> PieceTable:
    table = PieceTable(False, [], [], [])
    for number, value in _fields(model):
        if number == _PIECES and isinstance(value, bytes):
            fields = dict(_fields(value))
            table.texts.append(bytes(fields.get(_TEXT, b"")).decode("utf-8", "replace"))  # type: ignore[arg-type]
            table.scores.append(float(fields.get(_SCORE, 0.0)))
            table.normal.append(fields.get(_TYPE, _NORMAL) == _NORMAL)
        elif number == _TRAINER and isinstance(value, bytes):
            table = table._replace(merges=dict(_fields(value)).get(_MODEL_TYPE) == _BPE)
    return table


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(number, value) of each field of a protocol buffer message; 64-bit fields are skipped."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        match tag & 7:
            case 0:
                value, place = _varint(message, place)
                yield tag >> 3, value
            case 1:
                place += 8
            case 2:
                size, place = _varint(message, place)
                yield tag >> 3, message[place : place + size]
                place += size
            case 5:
                yield tag >> 3, struct.unpack_from("<f", message, place)[0]
                place += 4
            case kind:
                raise ValueError(f"unknown wire type {kind}")
    if place > len(message):
        raise ValueError("the message ends too early")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message):
            raise ValueError("the message ends too early")
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
