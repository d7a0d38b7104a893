"""Character and word tokenizers: the vocabulary is a list of symbols, saved as JSON."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import get_args

from typing_extensions import Self

from seq2seq import console
from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError, DataError
from seq2seq.special_tokens import SPECIAL_TOKENS, UNK
from seq2seq.tags import TARGET_TAG
from seq2seq.tokenizers.base import UNKNOWN, Tokenizer
from seq2seq.tokenizers.normalization import Normalization, normalize

_REPEATED = 2
"""Least occurrences of a symbol in new text that is added to a vocabulary."""


class SymbolTokenizer(Tokenizer):
    """Tokenizer with a list of symbols, the most frequent first; any other symbol is UNK."""

    suffix = ".json"

    def __init__(self, symbols: Sequence[str], normalization: Normalization) -> None:
        self.symbols = tuple(symbols)
        self.normalization = normalization
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols, start=len(SPECIAL_TOKENS))}
        self._texts = ["", "", "", UNKNOWN, *self.symbols]
        # A word `<URL>` of a vocabulary of words needs no such care, and may stand within another word.
        tags = [*self.tags, *(tag for tag in self.corpus_tags if len(list(self.split(tag))) > 1)]
        self._tags = re.compile("(" + "|".join(tags) + ")") if tags else None

    @staticmethod
    @abstractmethod
    def split(text: str) -> Iterable[str]:
        """Split a text without tags into symbols."""

    @abstractmethod
    def join(self, symbols: Iterable[str]) -> str:
        """Join symbols into a text."""

    @property
    def size(self) -> int:
        return len(self._texts)

    def number(self, symbol: str) -> int:
        """The id of a symbol; UNK if it is not in the vocabulary."""
        return self._ids.get(symbol, UNK)

    def symbol(self, number: int) -> str:
        """The symbol of an id; empty for PAD, BOS and EOS."""
        return self._texts[number]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [self.join([self._texts[number] for number in row]) for row in ids]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        find = self._ids.get
        return [
            [find(symbol, UNK) for symbol in self.symbols_of(normalize(text, self.normalization))] for text in texts
        ]

    def symbols_of(self, text: str) -> Iterable[str]:
        """Split a text into symbols; a tag is one symbol."""
        if self._tags is None or "<" not in text:
            return self.split(text)
        # The parts with odd numbers are tags.
        parts = enumerate(self._tags.split(text))
        return chain.from_iterable((part,) if number % 2 else self.split(part) for number, part in parts)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [
            SPECIAL_TOKENS[number] if number < len(SPECIAL_TOKENS) else self._texts[number].replace(" ", "▁")
            for number in ids
        ]

    def with_tags(self, tags: Sequence[str]) -> Self:
        return type(self)([*self.symbols, *tags], self.normalization)

    def extended(self, texts: Sequence[str], most: int) -> Self:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.symbols_of(normalize(text, self.normalization)))
        new = [
            symbol
            for symbol, count in counts.items()
            if count >= _REPEATED and symbol not in self._ids and not TARGET_TAG.fullmatch(symbol)
        ]
        new.sort(key=lambda symbol: (-counts[symbol], symbol))
        return type(self)([*self.symbols, *new[:most]], self.normalization) if new else self

    def to_bytes(self) -> bytes:
        content = {"kind": self.kind, "normalization": self.normalization, "symbols": self.symbols}
        return (json.dumps(content, ensure_ascii=False, indent=0) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        try:
            data = json.loads(content)
            symbols, normalization = data["symbols"], data["normalization"]
            "".join(symbols).encode()  # no output can hold a lone surrogate
            sound = isinstance(symbols, list) and data["kind"] == cls.kind and normalization in get_args(Normalization)
            sound = sound and all(isinstance(symbol, str) for symbol in symbols) and len(set(symbols)) == len(symbols)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"damaged {cls.kind} vocabulary: {error!r}", where=name, code="tokenizer.damaged"
            ) from None
        if not sound:
            raise CheckpointError(f"not a {cls.kind} vocabulary", where=name, code="tokenizer.damaged")
        return cls(symbols, normalization)


class CharTokenizer(SymbolTokenizer):
    """One token per character (code point), spaces included. Lossless except for unknown characters."""

    kind = "char"

    @staticmethod
    def split(text: str) -> Iterable[str]:
        return text

    def join(self, symbols: Iterable[str]) -> str:
        return "".join(symbols)


class WordTokenizer(SymbolTokenizer):
    """One token per word. Words are split at spaces only, so punctuation should be separated beforehand.

    Lossless only for known words with single spaces between them: leading, trailing and repeated spaces are lost.
    """

    kind = "word"

    @staticmethod
    def split(text: str) -> Iterable[str]:
        return [word for word in text.split(" ") if word]

    def join(self, symbols: Iterable[str]) -> str:
        return " ".join(filter(None, symbols))


class WordPunctTokenizer(SymbolTokenizer):
    """One token per word and per punctuation mark; the symbol includes the space before it, if there is one.

    Lossless for known words with single spaces between them: leading, trailing and repeated spaces are lost.
    """

    kind = "wordpunct"
    _SYMBOL = re.compile(r" ?(?:\w+|[^\w\s])")

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        words = " ".join(text.split())
        return cls._SYMBOL.findall(f" {words}") if words else []

    def join(self, symbols: Iterable[str]) -> str:
        return "".join(f" {UNKNOWN}" if symbol == UNKNOWN else symbol for symbol in symbols).removeprefix(" ")


KINDS: dict[str, type[SymbolTokenizer]] = {
    kind.kind: kind for kind in (CharTokenizer, WordTokenizer, WordPunctTokenizer)
}


def train_symbols(
    settings: TokenizerSettings, sentences: Sequence[str], side: str, tags: Sequence[str] = ()
) -> SymbolTokenizer:
    """Train a vocabulary of `tags` and the most frequent characters or words, ties in code point order.

    Raises:
        DataError: the vocabulary would be empty.
    """
    kind = KINDS[settings.kind]
    counts: Counter[str] = Counter()
    symbols_of = kind(tags, settings.normalization).symbols_of
    for sentence in sentences:
        counts.update(symbols_of(normalize(sentence, settings.normalization)))
    for tag in tags:
        del counts[tag]
    frequent = [symbol for symbol, count in counts.items() if count >= settings.min_frequency]
    frequent.sort(key=lambda symbol: (-counts[symbol], symbol))
    symbols = frequent[: max(0, settings.vocabulary_size - len(SPECIAL_TOKENS) - len(tags))]
    if not symbols:
        raise DataError(
            "the tokenizer has no text to learn from",
            hint="check data.train and tokenizer.min_frequency",
            code="data.tokenizer-text",
        )
    if len(symbols) < len(counts):
        covered = sum(counts[symbol] for symbol in symbols) / counts.total()
        console.say(
            f"{side} {settings.kind} vocabulary: {len(symbols):,} of {len(counts):,} entries, "
            f"which cover {covered:.2%} of the text"
        )
    return kind([*tags, *symbols], settings.normalization)
