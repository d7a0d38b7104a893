"""Subwords by sentencepiece (Kudo and Richardson 2018): unigram (Kudo 2018) and BPE (Sennrich et al. 2016),
with byte fallback.

Every byte has a token of its own, so that no text is unknown; white space is kept as it is, so that decoding
gives back the very text that was encoded (with normalization: identity).
"""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import sentencepiece
from typing_extensions import Self

from seq2seq import console
from seq2seq.atomic_files import suggest_file
from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError, ConfigError, DataError
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from seq2seq.tokenizers.pair import UNKNOWN, Tokenizer

# sentencepiece writes a space as U+2581, so a real U+2581 would come back as a space. It is escaped with two
# private-use characters; a real escape character is doubled.
_SPACE_MARK, _ESCAPE, _ESCAPED_MARK = "\u2581", "\ue000", "\ue001"
_NEEDS_ESCAPE = re.compile(f"[{_SPACE_MARK}{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([{_ESCAPE}{_ESCAPED_MARK}])")

_TRAINING_CHARACTERS = 2000
"""Longer lines are cut for the trainer: it would skip them, and a line of megabytes would hold it up."""

_UNTRAINABLE = str.maketrans("\n\0\u2585", "   ")
"""The trainer skips lines that hold NUL or U+2585, its own mark for unknown text."""

_TRAINING_THREADS = 8
"""Fixed, for sums in another order would give another vocabulary on another machine."""

_CHECK = """
import sys
sys.path[:] = [place for place in sys.path if place]  # nothing is imported from the working folder
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except (ImportError, ValueError, OSError):
    pass
import sentencepiece
p = sentencepiece.SentencePieceProcessor()
p.LoadFromSerializedProto(sys.stdin.buffer.read())
numbers = list(range(p.get_piece_size()))
assert numbers
p.decode(numbers)
pieces = [p.id_to_piece(number) for number in numbers]
for row in p.encode([*pieces, "".join(pieces), "".join(map(chr, [*range(1, 0x3100), 0x1f600]))]):
    p.decode(row)
"""
"""All that we ask of a model: every piece, and most characters that its normalization may know."""

_CHECK_SECONDS = 60


class SubwordTokenizer(Tokenizer):
    """A sentencepiece model whose ids are rearranged so that PAD, BOS, EOS and UNK are 0 to 3."""

    kind = "sentencepiece"
    suffix = ".model"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        processor = self._processor
        special = [processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id()]
        others = [number for number in range(processor.get_piece_size()) if number not in special]
        self._theirs = special + others  # -1 where the model has no such token
        self._ours = [UNK] * processor.get_piece_size()
        for ours, theirs in enumerate(self._theirs):
            if theirs >= 0:
                self._ours[theirs] = ours
        self._same = self._theirs == list(range(len(self._theirs)))

    @property
    def size(self) -> int:
        return len(self._theirs)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = self._processor.encode([_escape(text) for text in texts])
        if self._same:
            return rows
        return [[self._ours[number] for number in row] for row in rows]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        rows = [
            [theirs for number in row if number not in (PAD, BOS, EOS) and (theirs := self._theirs[number]) >= 0]
            for row in ids
        ]
        return [_unescape(self._processor.decode(row)) if row else "" for row in rows]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._pieces[number] for number in ids]

    @cached_property
    def _pieces(self) -> list[str]:
        others = self._theirs[len(SPECIAL_TOKENS) :]
        return [*SPECIAL_TOKENS, *(str(self._processor.id_to_piece(theirs)) for theirs in others)]

    def subwords(self) -> tuple[list[str | None], list[float], bool]:
        """Text (None for bytes, special and user-defined tokens) and score of every id, and whether scores order merges
        (BPE) rather than being log-probabilities (unigram)."""
        table = read_pieces(self._model)
        texts = [table.texts[theirs] if theirs >= 0 and table.normal[theirs] else None for theirs in self._theirs]
        return texts, [table.scores[theirs] if theirs >= 0 else 0.0 for theirs in self._theirs], table.merges

    def to_bytes(self) -> bytes:
        return self._model

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        try:
            return cls(content)
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"not a sentencepiece model: {error}", where=name, code="tokenizer.damaged") from None


def read_model(path: Path) -> SubwordTokenizer:
    """An existing `.model` file from anywhere, tried in a process of its own first: a damaged one may crash
    the library.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read tokenizer model: {error.strerror}",
            where=str(path),
            hint=suggest_file(path),
            code="tokenizer.missing",
        ) from None
    try:
        command = [sys.executable, "-c", _CHECK]
        trial = subprocess.run(command, input=content, capture_output=True, timeout=_CHECK_SECONDS, check=False)
        sound = trial.returncode == 0
        tokenizer = SubwordTokenizer.from_bytes(content, str(path)) if sound else None
        if tokenizer is not None:
            tokenizer.subwords()
            return tokenizer
    except (subprocess.TimeoutExpired, ValueError):
        pass
    raise CheckpointError(
        "damaged, or not a sentencepiece model",
        where=str(path),
        hint="fetch the file again, or train a tokenizer",
        code="tokenizer.damaged",
    )


def train_subwords(
    settings: TokenizerSettings, sentences: Sequence[str], side: str, tags: Sequence[str] = ()
) -> SubwordTokenizer:
    """Learn a vocabulary of at most `vocabulary_size` entries, 256 bytes, 4 special tokens and `tags` included.

    Raises:
        ConfigError: the characters alone need more entries.
        DataError: there is no text.
    """
    model = io.BytesIO()
    if not any(sentence.strip() for sentence in sentences):
        raise DataError("the tokenizer has no text to learn from", hint="check data.train", code="data.tokenizer-text")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_training_parts(sentences),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=settings.vocabulary_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=settings.character_coverage,
            normalization_rule_name=settings.normalization,
            remove_extra_whitespaces=False,
            max_sentence_length=8 * _TRAINING_CHARACTERS,
            num_threads=_TRAINING_THREADS,
            user_defined_symbols=list(tags),
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            pad_piece=SPECIAL_TOKENS[PAD],
            unk_surface=UNKNOWN,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explain(error, settings, side) from None
    tokenizer = SubwordTokenizer.from_bytes(model.getvalue(), f"{side} tokenizer")
    if tokenizer.size < settings.vocabulary_size:
        console.say(
            f"{side} vocabulary: {tokenizer.size:,} entries instead of {settings.vocabulary_size:,}; "
            "the corpus has no more subwords"
        )
    return tokenizer


def _training_parts(sentences: Sequence[str]) -> Iterator[str]:
    """Sentences as the trainer can take them: escaped, without what it skips, cut at spaces."""
    for sentence in sentences:
        rest = _escape(sentence.translate(_UNTRAINABLE))
        while len(rest) > _TRAINING_CHARACTERS:
            cut = rest.rfind(" ", 1, _TRAINING_CHARACTERS)
            cut = cut if cut > 0 else _TRAINING_CHARACTERS
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def _explain(error: RuntimeError, settings: TokenizerSettings, side: str) -> ConfigError | DataError:
    found = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if found:
        return ConfigError(
            f"tokenizer.vocabulary_size {settings.vocabulary_size} is too small: "
            f"the {side} characters and bytes alone need {found[1]} entries",
            hint=f"tokenizer.vocabulary_size={2 * int(found[1])} or tokenizer.character_coverage=0.9995",
            code="config.vocabulary",
        )
    return DataError(
        f"the {side} tokenizer cannot be trained: {error}",
        hint="use tokenizer.kind=char, or more text",
        code="data.tokenizer-text",
    )


def _escape(text: str) -> str:
    if _SPACE_MARK not in text and _ESCAPE not in text:
        return text
    return _NEEDS_ESCAPE.sub(lambda found: _ESCAPE + (_ESCAPE if found[0] == _ESCAPE else _ESCAPED_MARK), text)


def _unescape(text: str) -> str:
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: _ESCAPE if found[1] == _ESCAPE else _SPACE_MARK, text)


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
