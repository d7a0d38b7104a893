"""Ids of the four special tokens, the same for every tokenizer."""

from __future__ import annotations

PAD = 0
BOS = 1
EOS = 2
UNK = 3
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
