"""The picture of an attention matrix."""

from __future__ import annotations

import torch
from rich.cells import cell_len

from seq2seq.alignment.matrix import AttentionMatrix, draw_attention


def diagonal(source: list[str], target: list[str]) -> AttentionMatrix:
    return AttentionMatrix(source, target, torch.eye(len(target), len(source)))


def test_picture_of_a_diagonal() -> None:
    picture = draw_attention(diagonal(["▁the", "▁cat", "</s>"], ["▁die", "▁Katze", "</s>"]), encoding="utf-8")
    assert picture.splitlines() == [
        "           <",
        "       t c /",
        "       h a s",
        "       e t >",
        "  die  ██",
        "Katze    ██",
        " </s>      ██",
    ]


def test_outside_utf8_everything_is_ascii() -> None:
    """A Windows console or LANG=C raised UnicodeEncodeError at the first shade."""
    matrix = AttentionMatrix(["▁é", "中"], ["▁ß"], torch.tensor([[0.3, 0.7]]))
    picture = draw_attention(matrix, encoding="ascii")
    assert picture.isascii()
    assert picture.splitlines()[-1] == "?  3366"


def test_wide_and_combining_characters_keep_the_columns() -> None:
    picture = draw_attention(diagonal(["中文", "e\u0301", "x"], ["日本", "😀", "ab"]), encoding="utf-8")
    lines = picture.splitlines()
    assert cell_len(lines[-1].split("█")[0]) == 4 + 2 + 4
    assert cell_len(lines[1].rstrip()) == 4 + 2 + 5
    assert [cell_len(line.split("█")[0]) for line in lines[2:]] == [6, 8, 10]


def test_bytes_are_read_and_long_labels_are_cut() -> None:
    picture = draw_attention(diagonal(["▁x<0xC3><0xA9>", "\n\x1b[31m"], ["▁x<0xC3><0xA9>"]), encoding="utf-8")
    assert "xé" in picture
    assert "\x1b" not in picture
    assert "█" in picture
    assert "~" in draw_attention(diagonal(["a" * 99], ["b" * 99]), encoding="utf-8")
