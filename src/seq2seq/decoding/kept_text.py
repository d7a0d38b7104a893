"""Text that a translation keeps as it is: lines without a letter, URLs, e-mail addresses, placeholders, tags, numbers.

Phrases of a glossary that the vocabulary cannot write are spans, too, with a text of their own in the output.

A line without a letter is copied. A span within a line is kept in one of two ways:

* With a vocabulary of symbols, a character that stands for the span takes its place: one unknown symbol, which
  `replace_unknown` copies into the output, where the span takes its place again.
* With subwords, and where an output has lost a span, the sentence is searched a second time with the spans as phrases
  that the output must hold (`constraints.py`). Only such sentences cost more time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from seq2seq.config.settings import KeptKind
from seq2seq.decoding.glossary import Glossary, phrase_tokens
from seq2seq.errors import UsageError
from seq2seq.fixed_text import FIXED_TEXT, has_letter, is_blank
from seq2seq.special_tokens import UNK
from seq2seq.tokenizers.base import BYTE_PIECE
from seq2seq.tokenizers.normalization import normalize
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import SymbolTokenizer

_STAND_IN = 0xF0000
"""First of the private-use characters that stand for spans; no vocabulary has them."""
_BOUNDARIES = {
    "numbers": (r"(?<!\d)", r"(?!\d)"),
    "urls": ("", "(?![/.:?]?[A-Za-z0-9_])"),
    "emails": ("(?<![A-Za-z0-9_.+-])", "(?!\\.?[A-Za-z0-9_])"),
}
"""Characters before and after a span of a kind that would make it another one; a word may follow without a space."""
_MAX_SPANS = 8
"""Spans of a line that are required in a second search: the states of the constraints grow with their product."""


def check_kinds(kinds: str | Iterable[str], option: str) -> tuple[str, ...]:
    """The kinds of a list, or of a string with commas; `none` is no kind. Raises `UsageError` for an unknown one."""
    known = get_args(KeptKind)
    chosen = [kind.strip() for kind in kinds.split(",")] if isinstance(kinds, str) else list(kinds)
    for kind in filter(None, chosen):
        if kind not in (*known, "none"):
            raise UsageError(
                f"{option} knows no {kind!r}",
                where=option,
                hint=f"some of {', '.join(known)}, with commas between them, or none",
                code="usage.choice",
            )
    return tuple(kind for kind in dict.fromkeys(chosen) if kind not in ("", "none"))


class Span(NamedTuple):
    """A span of a source text, and the text that stands for it in the output."""

    begin: int
    end: int
    text: str


class KeptText:
    """The text that a model keeps.

    Args:
        tokenizers: of the model.
        kinds: values of `decoding.keep`.
        replaces_unknown: whether unknown symbols of the output are replaced by those of the source.

    Attributes:
        glossary: its phrases without tokens are spans where unknown symbols are replaced.
    """

    def __init__(self, tokenizers: TokenizerPair, kinds: Sequence[str], replaces_unknown: bool) -> None:
        self.tokenizers = tokenizers
        self.kinds = frozenset(kinds)
        self._has_symbols = isinstance(tokenizers.source, SymbolTokenizer)
        self._is_useful = bool(self.kinds - {"lines"}) and (not self._has_symbols or replaces_unknown)
        self._has_stand_ins = self._has_symbols and replaces_unknown
        self.glossary: Glossary | None = None
        self._copies_lines = bool(self.kinds & {"lines", "unseen"}) and _has_letters(tokenizers)

    def copies(self, text: str) -> bool:
        """Whether a line is copied: it has no letter outside of URLs, e-mail addresses, placeholders and tags."""
        return self._copies_lines and not is_blank(text) and not has_letter(text)

    def with_glossary(self, glossary: Glossary | None) -> KeptText:
        """The same with another glossary."""
        if glossary is self.glossary:
            return self
        other = copy.copy(self)
        other.glossary = glossary
        return other

    def spans(self, text: str) -> list[Span]:
        """The spans of a text that are kept, in order; of a text in Unicode NFC if there is a glossary."""
        fixed = [Span(begin, end, text[begin:end]) for begin, end in self._fixed(text)]
        if self.glossary is None or not self._has_stand_ins:
            return fixed
        phrases = [
            Span(begin, begin + len(entry.source), entry.target)
            for begin, entry in self.glossary.matches(text)
            if not entry.tokens
        ]
        apart = (span for span in fixed if all(span.end <= other.begin or other.end <= span.begin for other in phrases))
        return sorted([*phrases, *apart])

    def _fixed(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of the URLs, numbers and so on that are kept."""
        if not self._is_useful:
            return []
        found = list(FIXED_TEXT.finditer(text))
        if not found or "unseen" not in self.kinds:
            return [match.span() for match in found if match.lastgroup in self.kinds]
        rows = self.tokenizers.source.encode([match[0] for match in found])
        return [
            match.span()
            for match, row in zip(found, rows, strict=True)
            if match.lastgroup in self.kinds or self._is_unseen(match[0], row)
        ]

    def _is_unseen(self, span: str, tokens: Sequence[int]) -> bool:
        """Whether the vocabulary spells a span: unknown symbols, bytes, or subwords of under two characters each."""
        if self._has_symbols or UNK in tokens:
            return UNK in tokens
        pieces = [piece.strip("▁") for piece in self.tokenizers.source.pieces(tokens)]
        return any(map(BYTE_PIECE.fullmatch, pieces)) or 2 * sum(map(bool, pieces)) > len(span)

    def masked(self, text: str) -> str:
        """The text with a stand-in for each span, if the vocabulary has unknown symbols; otherwise the text itself."""
        if not self._has_symbols:
            return text
        text = self._normal(text)
        parts, end = [], 0
        for number, span in enumerate(self.spans(text)):
            parts += [text[end : span.begin], chr(_STAND_IN + number)]
            end = span.end
        return "".join([*parts, text[end:]])

    def restored(self, output: str, line: str) -> str:
        """The output for a line with the spans in place of their stand-ins."""
        if not self._has_symbols or not has_stand_in(output):
            return output
        spans = self.spans(self._normal(line))
        return output.translate({_STAND_IN + number: span.text for number, span in enumerate(spans)})

    def lost(self, source: str, line: str, output: str) -> bool:
        """True if the output for a part of a line lacks a span. `source` is the part as it was encoded.

        A number within a longer one, or a URL that goes on, is another number or URL.
        """
        return any(_occurrences(span, output) < count for span, count in self._required(source, line).items())

    def phrases(self, source: str, ids: Sequence[int], line: str) -> tuple[tuple[int, ...], ...]:
        """The phrases that make an output hold the spans of a part of a line; none if they cannot be written."""
        if self._has_symbols:
            return ((UNK,),) * min(ids.count(UNK), _MAX_SPANS)
        target = self.tokenizers.target
        required = list(self._required(source, line).items())[:_MAX_SPANS]
        rows = phrase_tokens(target, [span for span, _ in required])
        texts = target.decode(rows)
        return tuple(
            row
            for (span, count), row, text in zip(required, rows, texts, strict=True)
            for _ in range(count)
            if text == span and UNK not in row
        )

    def _required(self, source: str, line: str) -> dict[str, int]:
        """Number of times that each span of a part must occur in its output."""
        if self._has_symbols:
            spans = self.spans(self._normal(line))
            texts = [span.text for number, span in enumerate(spans) if chr(_STAND_IN + number) in source]
        else:
            texts = [span.text for span in self.spans(source)]
        return {text: texts.count(text) for text in texts}

    def _normal(self, text: str) -> str:
        return text if self.glossary is None else normalize(text, "nfc")


def _occurrences(span: str, text: str) -> int:
    """Number of times that a text holds a span."""
    match = FIXED_TEXT.fullmatch(span)
    before, after = _BOUNDARIES.get(str(match.lastgroup), ("", "")) if match else ("", "")
    return len(re.findall(before + re.escape(span) + after, text))


def has_stand_in(text: str) -> bool:
    """Whether a text has a character that stands for a span."""
    return any(ord(character) >= _STAND_IN for character in text)


def _has_letters(tokenizers: TokenizerPair) -> bool:
    """Whether the source vocabulary has a letter: a model of symbols alone translates lines without letters."""
    pieces = tokenizers.source.pieces(range(4, tokenizers.source.size))
    return any(character.isalpha() for piece in pieces if not BYTE_PIECE.fullmatch(piece) for character in piece)
