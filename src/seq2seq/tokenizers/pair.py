"""Tokenizers of both sides of a model: training, saving, loading."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import console
from seq2seq.atomic_files import write_json
from seq2seq.config.settings import TokenizerSettings
from seq2seq.config.settings_by_size import choose
from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.tags import TARGET_TAG
from seq2seq.tokenizers.base import Tokenizer
from seq2seq.tokenizers.symbols import KINDS, train_symbols
from seq2seq.version import UPDATE

_FORMAT = 1
_SLOW_SENTENCES = 500_000

_RESTORE = "restore it from a copy, or train again"
_INDEX = "tokenizer.json"


class TokenizerPair(NamedTuple):
    """Tokenizers of source and target; with a joint vocabulary they are one object."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether both sides share one vocabulary."""
        return self.source is self.target

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the kinds and contents of both sides, in hexadecimal."""
        return _sha256(json.dumps([(side.kind, _sha256(side.to_bytes())) for side in self]).encode())

    def with_tags(self, tags: Sequence[str]) -> TokenizerPair:
        """These tokenizers with every tag as one token of the source side; new tags follow the old entries."""
        known = set(self.source.pieces(range(self.source.size)))
        if not (new := [tag for tag in dict.fromkeys(tags) if tag not in known]):
            return self
        source = self.source.with_tags(new)
        return TokenizerPair(source, source if self.joint else self.target)

    def extended(self, settings: TokenizerSettings, pairs: Iterator[tuple[str, str]], seed: int) -> TokenizerPair:
        """These tokenizers with new entries after the old ones, for what they do not know in new pairs.

        The entries are learned from a sample, drawn as in `train_tokenizers`.
        """
        sample = _sample(pairs, max(1, settings.sample_size // (2 if self.joint else 1)), seed)
        sources, targets = [pair[0] for pair in sample], [pair[1] for pair in sample]
        most = settings.vocabulary_size
        if self.source.kind == "sentencepiece":  # a small corpus gives few rows enough examples
            most = min(most, choose(max(1, len(sample))).vocabulary)
        if self.joint:
            both = self.source.extended([*sources, *targets], most)
            return TokenizerPair(both, both)
        return TokenizerPair(self.source.extended(sources, most), self.target.extended(targets, most))

    def save(self, folder: Path) -> None:
        """Write the tokenizer files and, last, `tokenizer.json` with their SHA-256."""
        folder.mkdir(parents=True, exist_ok=True)
        index: dict[str, Any] = {"format": _FORMAT, "joint": self.joint, "files": {}}
        sides = {"joint": self.source} if self.joint else {"source": self.source, "target": self.target}
        for name, tokenizer in sides.items():
            tokenizer.save(folder / (name + tokenizer.suffix))
            index["files"][name] = {
                "file": name + tokenizer.suffix,
                "kind": tokenizer.kind,
                "size": tokenizer.size,
                "sha256": _sha256(tokenizer.to_bytes()),
            }
        write_json(folder / _INDEX, index)

    @classmethod
    def load(cls, folder: Path) -> TokenizerPair:
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing, damaged, swapped, or from a newer version.
        """
        path = folder / _INDEX
        try:
            index = json.loads(_read(path))
            if index["format"] > _FORMAT:
                raise CheckpointError(
                    f"{path} was made by a newer seq2seq (format {index['format']})",
                    hint=UPDATE,
                    code="checkpoint.version",
                )
            if index["format"] < 1:
                raise ValueError("no such format")
            names = ("joint", "joint") if index["joint"] else ("source", "target")
            loaded = {name: _load_side(folder, index["files"][name]) for name in dict.fromkeys(names)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__})", hint=_RESTORE, code="tokenizer.damaged"
            ) from None
        return cls(loaded[names[0]], loaded[names[1]])


def train_tokenizers(
    settings: TokenizerSettings,
    pairs: Callable[[], Iterator[tuple[str, str]]],
    seed: int,
    tags: Sequence[str] = (),
) -> TokenizerPair:
    """Train the tokenizers on a sample of the training pairs, or read the given model files.

    `pairs` starts a new pass over the cleaned corpus at each call; at most `sample_size` sentences are held in memory,
    drawn uniformly by reservoir sampling (Vitter 1985, algorithm R). Each of `tags` becomes one token of the source
    side.

    Raises:
        ConfigError: the vocabulary cannot hold even the single characters, or a given model does not know a tag.
        DataError: there is no text to learn from.
        CheckpointError: a given model file is missing or damaged.
    """
    if settings.source_model:
        from seq2seq.tokenizers.sentencepiece import read_model

        source = read_model(Path(settings.source_model))
        require_tags(source, tags, settings.source_model)
        return TokenizerPair(source, read_model(Path(settings.target_model)) if settings.target_model else source)
    sides = 2 if settings.joint else 1
    sample = _sample(pairs(), max(1, settings.sample_size // sides), seed)
    sources, targets = [pair[0] for pair in sample], [pair[1] for pair in sample]
    if settings.joint:
        tokenizer = _train(settings, sources + targets, "joint", tags)
        return TokenizerPair(tokenizer, tokenizer)
    return TokenizerPair(_train(settings, sources, "source", tags), _train(settings, targets, "target", ()))


def require_tags(tokenizer: Tokenizer, tags: Sequence[str], name: str) -> None:
    """Check that each tag is one token.

    Raises:
        ConfigError: the tokenizer would split a tag.
    """
    known = set(tokenizer.pieces(range(tokenizer.size))) if tags else set()
    if missing := [tag for tag in tags if tag not in known]:
        own = ", ".join([*tokenizer.tags, *tokenizer.corpus_tags]) or "none"
        raise ConfigError(
            f"{name} does not know {' and '.join(missing)} as one token; its tags: {own}",
            where="target_tag" if TARGET_TAG.match(missing[0]) else "tag",
            hint="let a tokenizer be trained (no tokenizer.source_model), or take its tags",
            code="config.vocabulary",
        )


def _train(settings: TokenizerSettings, sentences: list[str], side: str, tags: Sequence[str]) -> Tokenizer:
    if len(sentences) >= _SLOW_SENTENCES:
        console.say(f"training the {side} {settings.kind} tokenizer on {len(sentences):,} sentences takes minutes")
    with console.timed(f"{side} {settings.kind} tokenizer trained on {len(sentences):,} sentences"):
        match settings.kind:
            case "unigram" | "bpe":
                from seq2seq.tokenizers.sentencepiece import train_subwords

                return train_subwords(settings, sentences, side, tags)
            case "char" | "word" | "wordpunct":
                return train_symbols(settings, sentences, side, tags)


def _sample(pairs: Iterator[tuple[str, str]], size: int, seed: int) -> list[tuple[str, str]]:
    """Draw `size` pairs with equal probability; fewer pairs are returned all, in their order."""
    randomness = random.Random(seed)
    sample: list[tuple[str, str]] = []
    with console.Progress("sampling text for the tokenizer", None, "pairs", delay=1.0) as progress:
        for number, pair in enumerate(progress.over(pairs)):
            if number < size:
                sample.append(pair)
            elif (place := int(randomness.random() * (number + 1))) < size:
                sample[place] = pair
    return sample


def _load_side(folder: Path, entry: dict[str, Any]) -> Tokenizer:
    path = folder / Path(entry["file"]).name
    content = _read(path)
    if (actual := _sha256(content)) != entry["sha256"]:
        raise CheckpointError(
            f"damaged or swapped: expected SHA-256 {entry['sha256'][:12]}..., found {actual[:12]}...",
            where=str(path),
            hint="restore the file from where the run was copied",
            code="tokenizer.damaged",
        )
    tokenizer = _kind(entry["kind"], folder).from_bytes(content, str(path))
    if tokenizer.size != entry["size"]:
        raise ValueError("another size")
    return tokenizer


def _read(path: Path) -> bytes:
    """Read a tokenizer's file. Raises CheckpointError, which names the file or, if it is missing, the folder."""
    try:
        return path.read_bytes()
    except OSError as error:
        missing = path if path.parent.exists() else path.parent
        fault = "is missing" if not missing.exists() else f"cannot be read: {error.strerror}"
        raise CheckpointError(f"{missing} {fault}", hint=_RESTORE, code="tokenizer.missing") from None


def _kind(name: str, folder: Path) -> type[Tokenizer]:
    if name == "sentencepiece":
        from seq2seq.tokenizers.sentencepiece import SubwordTokenizer

        return SubwordTokenizer
    if name in KINDS:
        return KINDS[name]
    raise CheckpointError(f"unknown kind of tokenizer: {name!r}", where=str(folder / _INDEX), code="tokenizer.damaged")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
