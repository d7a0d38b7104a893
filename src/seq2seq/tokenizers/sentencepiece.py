"""Subword tokenizer by sentencepiece (Kudo and Richardson 2018): unigram (Kudo 2018) and BPE (Sennrich et al. 2016).

Each byte has a token of its own (byte fallback), so that no text is unknown; white space is kept, so that decoding
restores the encoded text exactly (with normalization: identity).

With normalization: nfc, texts are normalized before they reach the library. The model file carries nearly the same
rules, so that programs without this package (exports, sentencepiece itself) need no step of their own; only marks in
an unusual order that form no single character, as in pointed Hebrew and Arabic, stay as they are there.
"""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import chain, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentencepiece
from typing_extensions import Self

from seq2seq import console
from seq2seq.atomic_files import suggest_file
from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import CheckpointError, ConfigError, DataError
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from seq2seq.tokenizers.base import UNKNOWN, Tokenizer
from seq2seq.tokenizers.normalization import normalize

# sentencepiece writes a space as U+2581, so that a U+2581 of the text would be decoded as a space. It is escaped with
# two private-use characters; an escape character of the text is doubled.
_SPACE_MARK, _ESCAPE, _ESCAPED_MARK = "\u2581", "\ue000", "\ue001"
_NEEDS_ESCAPE = re.compile(f"[{_SPACE_MARK}{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([{_ESCAPE}{_ESCAPED_MARK}])")

_TRAINING_CHARACTERS = 2000
"""Longer lines are split for the trainer, which would skip them, and is slow on lines of megabytes."""

_CHARACTER_SHARE = 0.75
"""Share of the entries, without bytes and special tokens, that single characters take where not all of them fit."""

_BYTES = 256

_NFC_TRIAL, _NFC_RESULT = "e\u0301\u00a0 \ufb01", "\u00e9\u2581\ufb01"
"""A text, and its end as a model with the rules of `nfc` normalizes it."""

_HANGUL = re.compile("[\uac00-\ud7a3]")

_UNTRAINABLE: dict[int, str] = dict.fromkeys(map(ord, "\n\0\u2585"), " ")
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
        self._nfc = str(processor.normalize(_NFC_TRIAL)).endswith(_NFC_RESULT)
        self._same = self._theirs == list(range(len(self._theirs)))

    @property
    def size(self) -> int:
        return len(self._theirs)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self._nfc:
            texts = [normalize(text, "nfc") for text in texts]
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

    def with_tags(self, tags: Sequence[str]) -> Self:
        model = parse_model(self._model)
        for tag in tags:
            model.pieces.add(piece=tag, score=0.0, type=model.SentencePiece.USER_DEFINED)
        model.trainer_spec.user_defined_symbols.extend(tags)
        model.trainer_spec.vocab_size = len(model.pieces)
        return type(self)(model.SerializeToString(deterministic=True))

    def extended(self, texts: Sequence[str], most: int) -> Self:
        """As `Tokenizer.extended`: new characters, and subwords with one of them. None of these occur in text of known
        characters, which is therefore segmented as before."""
        model = parse_model(self._model)
        normal, kinds = model.SentencePiece.NORMAL, model.trainer_spec
        known = {_SPACE_MARK, _ESCAPE, _ESCAPED_MARK}
        known.update(chain.from_iterable(piece.piece for piece in model.pieces if piece.type == normal))
        tags = {piece.piece for piece in model.pieces if piece.type == model.SentencePiece.USER_DEFINED}
        words = [
            word for text in texts for word in self._words(text) if not known.issuperset(word) and word not in tags
        ]
        if not words or most < 1:
            return self
        settings = TokenizerSettings(
            kind="bpe" if kinds.model_type == kinds.BPE else "unigram",
            vocabulary_size=_BYTES + len(SPECIAL_TOKENS) + most,
            normalization="identity",
        )
        learned, scores, is_bpe = _learn(settings, words, "additional").subwords()
        lowest = min((piece.score for piece in model.pieces if piece.type == normal), default=0.0)
        old = {piece.piece for piece in model.pieces}
        for text, score in zip(learned, scores, strict=True):
            if text is not None and text not in old and not known.issuperset(text):
                # Merges of BPE follow the old ones. The lowest probability stays, by which unknown text is judged.
                model.pieces.add(piece=text, score=lowest - 1 + score if is_bpe else max(lowest, score), type=normal)
        if self._nfc and any(map(_HANGUL.search, words)):
            model.normalizer_spec.precompiled_charsmap = _nfc_rules(hangul=True)
        kinds.vocab_size = len(model.pieces)
        return type(self)(model.SerializeToString(deterministic=True))

    def _words(self, text: str) -> list[str]:
        """Words of a text as the model normalizes it."""
        if self._nfc:
            return normalize(text, "nfc").split(" ")
        return str(self._processor.normalize(_escape(text))).replace(_SPACE_MARK, " ").split()

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
    tokenizer = _learn(settings, sentences, side, tags)
    if tokenizer.size < settings.vocabulary_size:
        console.say(
            f"{side} vocabulary: {tokenizer.size:,} entries instead of {settings.vocabulary_size:,}; "
            "the corpus has no more subwords"
        )
    return tokenizer


def _learn(
    settings: TokenizerSettings, sentences: Sequence[str], side: str, tags: Sequence[str] = ()
) -> SubwordTokenizer:
    if not any(sentence.strip() for sentence in sentences):
        raise DataError("the tokenizer has no text to learn from", hint="check data.train", code="data.tokenizer-text")
    nfc, coverage, left_out = settings.normalization == "nfc", settings.character_coverage, _UNTRAINABLE
    if nfc:
        sentences = [normalize(sentence, "nfc") for sentence in sentences]
    if coverage == "auto":
        # The library takes no share below 0.98, and shares of its own count of the characters only.
        coverage, left_out = 1.0, left_out | _rare_characters(sentences, settings.vocabulary_size - len(tags), side)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_training_parts(sentences, left_out),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=settings.vocabulary_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=coverage,
            normalization_rule_name="identity" if nfc else settings.normalization,
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
    content = model.getvalue()
    if nfc:
        content = _with_nfc(content, hangul=any(map(_HANGUL.search, sentences)))
    return SubwordTokenizer.from_bytes(content, f"{side} tokenizer")


def _training_parts(sentences: Iterable[str], left_out: dict[int, str]) -> Iterator[str]:
    """Prepare sentences for the trainer: escaped, without some characters, split at spaces if long."""
    for sentence in sentences:
        rest = _escape(sentence.translate(left_out))
        while len(rest) > _TRAINING_CHARACTERS:
            cut = rest.rfind(" ", 1, _TRAINING_CHARACTERS)
            cut = cut if cut > 0 else _TRAINING_CHARACTERS
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def _rare_characters(sentences: Sequence[str], entries: int, side: str) -> dict[int, str]:
    """Table that leaves out the characters for which a vocabulary has no room; a message counts them."""
    free = entries - _BYTES - len(SPECIAL_TOKENS)
    room = int(_CHARACTER_SHARE * free)
    distinct = set(chain.from_iterable(sentences))
    if room < 1 or len(distinct) + 2 <= free:  # 2 for what `_escape` may add
        return {}
    counts = Counter(chain.from_iterable(sentences))
    ordered = sorted(distinct, key=lambda character: (-counts[character], character))
    covered = sum(counts[character] for character in ordered[:room]) / counts.total()
    console.say(
        f"{side} vocabulary: {room:,} of {len(distinct):,} characters have entries ({covered:.1%} of the text), bytes "
        f"spell the others; tokenizer.vocabulary_size={size_for_characters(len(distinct))} has room for all"
    )
    return {ord(character): " " for character in ordered[room:]}


def size_for_characters(count: int) -> int:
    """The smallest size of a vocabulary, in hundreds, that has entries for `count` characters and for subwords."""
    return 100 * math.ceil((_BYTES + len(SPECIAL_TOKENS) + count / _CHARACTER_SHARE) / 100)


def _with_nfc(model: bytes, hangul: bool) -> bytes:
    """Put the rules of `nfc` into a model that was trained on normalized text."""
    proto = parse_model(model)
    proto.normalizer_spec.name = "nfc"
    proto.normalizer_spec.precompiled_charsmap = _nfc_rules(hangul)
    proto.normalizer_spec.remove_extra_whitespaces = True
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


@cache
def _nfc_rules(hangul: bool) -> bytes:
    """Rules of NFC and of white space as sentencepiece compiles them, which knows NFKC alone by name.

    The 22,000 rules of Korean are left out where a model has no use for them.
    """
    rules = {character: " " for character in map(chr, range(0x3001)) if character.isspace() and character != " "}
    for character in map(chr, range(0xAC00, 0xD7A4) if hangul else ()):
        decomposed = unicodedata.normalize("NFD", character)
        rules[decomposed] = character
        if len(decomposed) == 3:
            rules[unicodedata.normalize("NFC", decomposed[:2]) + decomposed[2]] = character
    for character in map(chr, chain(range(0xAC00), range(0xF900, 0x30000))):
        if unicodedata.decomposition(character)[:1] in ("", "<") or character in rules:
            continue
        composed, decomposed = unicodedata.normalize("NFC", character), unicodedata.normalize("NFD", character)
        base, marks = decomposed[0], decomposed[1:]
        spellings = {character, *(base + "".join(order) for order in permutations(marks))}
        # Letters that are composed in part, such as e with circumflex and a dot below that stands alone.
        spellings |= {
            unicodedata.normalize("NFC", text[:end]) + text[end:] for text in spellings for end in range(2, len(text))
        }
        rules |= {text: composed for text in spellings if unicodedata.normalize("NFC", text) == composed != text}
    with TemporaryDirectory() as folder:
        table = Path(folder) / "rules.tsv"
        lines = ("\t".join(" ".join(f"{ord(each):X}" for each in side) for side in rule) for rule in rules.items())
        table.write_text("\n".join(lines) + "\n", encoding="ascii")
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c"]),
            model_writer=model,
            model_type="char",
            vocab_size=8,
            hard_vocab_limit=False,
            normalization_rule_tsv=str(table),
            minloglevel=2,
        )
    compiled: bytes = parse_model(model.getvalue()).normalizer_spec.precompiled_charsmap
    return compiled


def _explain(error: RuntimeError, settings: TokenizerSettings, side: str) -> ConfigError | DataError:
    match = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if match:
        fixed = settings.character_coverage != "auto" and settings.vocabulary_size > _BYTES + 10
        return ConfigError(
            f"tokenizer.vocabulary_size {settings.vocabulary_size} is too small: "
            f"the {side} characters and bytes alone need {match[1]} entries",
            hint=f"tokenizer.vocabulary_size={2 * int(match[1])}"
            + (", or tokenizer.character_coverage=auto, which spells rare characters in bytes" if fixed else ""),
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
