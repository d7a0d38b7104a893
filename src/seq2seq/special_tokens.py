"""The four token ids that models, data and search agree on, whatever the tokenizer."""

from __future__ import annotations

PAD = 0
BOS = 1
EOS = 2
UNK = 3
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
