"""Attention matrices with readable labels, drawn as text."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from rich.cells import cell_len
from torch import Tensor

_SHADES = " ░▒▓█"
_DIGITS = " 123456789"
_WORD_MARK = "▁"  # sentencepiece writes this where a word begins
_BYTES = re.compile(r"(?:<0x[0-9A-Fa-f]{2}>)+")
_LONGEST_HEADER = 14
_LONGEST_LABEL = 24
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")
_NOT_IN_XML = "\ufffe\uffff"


class AttentionMatrix(NamedTuple):
    """Attention weights with the labels of rows (target) and columns (source), pieces or words."""

    source_pieces: list[str]
    target_pieces: list[str]
    weights: Float[Tensor, "T S"]
    """Rows sum to 1."""


def draw_attention(matrix: AttentionMatrix, *, encoding: str | None = None) -> str:
    """The matrix as text, with the source across and the target down; darker shades are higher weights.

    Args:
        matrix: weights over pieces or words.
        encoding: encoding of the output, by default that of stdout; without UTF-8 the digits 1 to 9 stand for shades.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "ascii"
    shades = _SHADES if encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig") else _DIGITS
    sources = [readable_label(piece, _LONGEST_HEADER, encoding) for piece in matrix.source_pieces]
    targets = [readable_label(piece, _LONGEST_LABEL, encoding) for piece in matrix.target_pieces]
    margin = max(cell_len(target) for target in targets)
    lines = [(" " * (margin + 2) + line).rstrip() for line in _upright(sources)]
    for target, row in zip(targets, matrix.weights.tolist(), strict=True):
        cells = "".join(shades[round(min(1.0, max(0.0, weight)) * (len(shades) - 1))] * 2 for weight in row)
        lines.append(" " * (margin - cell_len(target)) + target + "  " + cells.rstrip())
    return "\n".join(lines)


def readable_label(piece: str, longest: int, encoding: str = "utf-8") -> str:
    """A piece as text of at most `longest` cells, without word marks and control characters, bytes decoded."""
    text = _BYTES.sub(lambda found: _text_of_bytes(found[0]), piece)
    text = text.replace(_WORD_MARK, " ").strip() or "_"
    text = "".join("?" if unicodedata.category(c) in _UNSEEN or c in _NOT_IN_XML else c for c in text)
    text = text.encode(encoding, "replace").decode(encoding, "replace")
    while cell_len(text) > longest:
        text = text[:-2] + "~"
    return text


def _text_of_bytes(pieces: str) -> str:
    """The text of sentencepiece's byte pieces: `<0xC3><0xA9>` is é."""
    return bytes(int(pieces[place + 3 : place + 5], 16) for place in range(0, len(pieces), 6)).decode(
        "utf-8", "replace"
    )


def _upright(labels: Sequence[str]) -> list[str]:
    """Lines with the labels written downward, in columns of two cells, aligned at the bottom."""
    columns = [_characters(label) for label in labels]
    height = max(len(column) for column in columns)
    rows = []
    for place in range(height):
        cells = []
        for column in columns:
            above = height - len(column)
            cell = column[place - above] if place >= above else ""
            cells.append(cell + " " * (2 - cell_len(cell)))
        rows.append("".join(cells))
    return rows


def _characters(label: str) -> list[str]:
    """The characters of a label, with their combining marks."""
    found: list[str] = []
    for character in label:
        if found and cell_len(character) == 0:
            found[-1] += character
        else:
            found.append(character)
    return found
