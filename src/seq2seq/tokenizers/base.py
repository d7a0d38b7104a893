"""The interface of every tokenizer: text to token ids and back."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from seq2seq.atomic_files import write_bytes
from seq2seq.tags import CORPUS_TAG, TARGET_TAG

UNKNOWN = "⁇"
"""Text of `<unk>` in decoded output (U+2047)."""

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
"""A piece that spells one byte of a character without an entry of its own (byte fallback of sentencepiece)."""


class Tokenizer(ABC):
    """Tokenizer of one vocabulary: ids 0 to 3 are PAD, BOS, EOS and UNK of `seq2seq.special_tokens`, text from 4 on."""

    kind: str
    suffix: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of entries, special tokens included."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text as ids, without BOS and EOS; an empty text gives no ids."""

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Decode each row of ids to text. PAD, BOS and EOS are skipped, UNK becomes `UNKNOWN`."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each id; spaces appear as U+2581."""

    @property
    def tags(self) -> list[str]:
        """Target tags such as `<2de>` that are one token."""
        return [piece for piece in self.pieces(range(self.size)) if TARGET_TAG.fullmatch(piece)]

    @property
    def corpus_tags(self) -> list[str]:
        """Tags of training corpora such as `<BT>` that are one token."""
        return [piece for piece in self.pieces(range(self.size)) if CORPUS_TAG.fullmatch(piece)]

    @abstractmethod
    def with_tags(self, tags: Sequence[str]) -> Tokenizer:
        """This tokenizer with new tags after its entries, whose ids stay as they are."""

    @abstractmethod
    def extended(self, texts: Sequence[str], most: int) -> Tokenizer:
        """This tokenizer with up to `most` new entries after the old ones, for what it does not know in texts.

        Known text is encoded as before. Returns the same object if there is nothing to add.
        """

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Serialize for `from_bytes`."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, content: bytes, name: str) -> Tokenizer:
        """Restore from the content of a file; `name` is for messages. Raises CheckpointError."""

    def save(self, path: Path) -> None:
        """Write one file, whole or not at all."""
        write_bytes(path, self.to_bytes())

    def __reduce__(self) -> tuple[Callable[[bytes, str], Tokenizer], tuple[bytes, str]]:
        # Worker processes receive the bytes of the file and restore the tokenizer from them.
        return type(self).from_bytes, (self.to_bytes(), "tokenizer")
