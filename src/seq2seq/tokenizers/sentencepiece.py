"""Subword tokenizer by sentencepiece (Kudo and Richardson 2018): unigram (Kudo 2018) and BPE (Sennrich et al. 2016).

Each byte has a token of its own (byte fallback), so that no text is unknown; white space is kept, so that decoding
restores the encoded text exactly (with normalization: identity).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece
from typing_extensions import Self

from seq2seq import console
from seq2seq.atomic_files import suggest_file
from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError, ConfigError, DataError
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from seq2seq.tokenizers.base import UNKNOWN, Tokenizer

# sentencepiece writes a space as U+2581, so that a U+2581 of the text would be decoded as a space. It is escaped with
# two private-use characters; an escape character of the text is doubled.
_SPACE_MARK, _ESCAPE, _ESCAPED_MARK = "\u2581", "\ue000", "\ue001"
_NEEDS_ESCAPE = re.compile(f"[{_SPACE_MARK}{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([{_ESCAPE}{_ESCAPED_MARK}])")

_TRAINING_CHARACTERS = 2000
"""Longer lines are split for the trainer, which would skip them, and is slow on lines of megabytes."""

_UNTRAINABLE = str.maketrans("\n\0\u2585", "   ")
"""The trainer skips lines that hold NUL or U+2585, its own mark for unknown text."""

_TRAINING_THREADS = 8
"""Fixed, since the order of the sums affects the vocabulary: it must be the same on every machine."""

_CHECK = """
import sys
sys.path[:] = [place for place in sys.path if place]  # nothing is imported from the working folder
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except (ImportError, ValueError, OSError):
    pass
import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto
model = sys.stdin.buffer.read()
p = sentencepiece.SentencePieceProcessor()
p.LoadFromSerializedProto(model)
assert len(ModelProto.FromString(model).pieces) == p.get_piece_size()
numbers = list(range(p.get_piece_size()))
assert numbers
p.decode(numbers)
pieces = [p.id_to_piece(number) for number in numbers]
for row in p.encode([*pieces, "".join(pieces), "".join(map(chr, [*range(1, 0x3100), 0x1f600]))]):
    p.decode(row)
"""
"""Trial of a model in a process of its own: all pieces, and most characters that its normalization may know."""

_CHECK_SECONDS = 60


class SubwordTokenizer(Tokenizer):
    """Sentencepiece model with its ids rearranged so that PAD, BOS, EOS and UNK are 0 to 3."""

    kind = "sentencepiece"
    suffix = ".model"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        processor = self._processor
        special = [processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id()]
        pieces = [number for number in range(processor.get_piece_size()) if number not in special]
        self._theirs = special + pieces  # -1 for a special token that the model lacks
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
        """Text (None for bytes, special and user-defined tokens) and score of each id, and whether scores are the order
        of merges (BPE) rather than log-probabilities (unigram).

        Raises:
            ValueError: the model is damaged.
        """
        model = parse_model(self._model)
        pieces = [model.pieces[theirs] if theirs >= 0 else None for theirs in self._theirs]
        texts = [piece.piece if piece and piece.type == piece.NORMAL else None for piece in pieces]
        scores = [piece.score if piece else 0.0 for piece in pieces]
        return texts, scores, model.trainer_spec.model_type == model.trainer_spec.BPE

    def to_bytes(self) -> bytes:
        return self._model

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        try:
            return cls(content)
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"not a sentencepiece model: {error}", where=name, code="tokenizer.damaged") from None


def parse_model(model: bytes) -> Any:
    """Parse a model file into sentencepiece's protobuf message.

    Raises:
        ValueError: the file is damaged.
    """
    # Imported here, since only sampling and models from elsewhere need it.
    from google.protobuf.message import DecodeError
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    try:
        return ModelProto.FromString(model)
    except DecodeError as error:
        raise ValueError(f"not a sentencepiece model: {error}") from None


def read_model(path: Path) -> SubwordTokenizer:
    """Read an existing `.model` file, after a trial in a process of its own: a damaged file may crash the library.

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
        hint="download the file again, or train a tokenizer",
        code="tokenizer.damaged",
    )


def train_subwords(
    settings: TokenizerSettings, sentences: Sequence[str], side: str, tags: Sequence[str] = ()
) -> SubwordTokenizer:
    """Train a vocabulary of at most `vocabulary_size` entries: 256 bytes, 4 special tokens and `tags` included.

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
    """Prepare sentences for the trainer: escaped, without the characters that it skips, split at spaces if long."""
    for sentence in sentences:
        rest = _escape(sentence.translate(_UNTRAINABLE))
        while len(rest) > _TRAINING_CHARACTERS:
            cut = rest.rfind(" ", 1, _TRAINING_CHARACTERS)
            cut = cut if cut > 0 else _TRAINING_CHARACTERS
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def _explain(error: RuntimeError, settings: TokenizerSettings, side: str) -> ConfigError | DataError:
    match = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if match:
        return ConfigError(
            f"tokenizer.vocabulary_size {settings.vocabulary_size} is too small: "
            f"the {side} characters and bytes alone need {match[1]} entries",
            hint=f"tokenizer.vocabulary_size={2 * int(match[1])} or tokenizer.character_coverage=0.9995",
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
