"""`seq2seq init`"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from seq2seq.console import say
from seq2seq.errors import DataError, UsageError
from seq2seq.languages import language_of_file

_COUNTED_LINES = 100_000
"""More lines bring hardly any character that the vocabulary of a large corpus has no room for."""

_LEARNED_FROM = 3
"""Occurrences from which a character gets an entry; rarer ones are spelled in bytes where entries are few."""


class Sizes(NamedTuple):
    """Choices made from the size of a corpus."""

    lines: int
    preset: str
    vocabulary: int
    """Entries for about four pairs each, and for the characters of both sides."""
    holdout: int
    steps: int
    characters: float
    """Mean characters of a line on the longer side."""


def init(
    source: Annotated[
        str, typer.Option("--source", "-s", help="Source side, one sentence a line.", show_default=False)
    ],
    target: Annotated[str, typer.Option("--target", "-t", help="Target side, its translations.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Config to write; - prints it.")] = Path("seq2seq.yaml"),
    model: Annotated[str, typer.Option("--model", help="transformer or gru.")] = "transformer",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented config for your own files, sizes chosen from the corpus.

    \b
      seq2seq init --source corpus.en --target corpus.de my.yaml
      seq2seq train my.yaml
    """
    if model not in ("transformer", "gru"):
        raise UsageError(
            f"--model {model} is neither transformer nor gru", hint="--model transformer", code="usage.choice"
        )
    from seq2seq.data.pipes import spool_pipes

    source, target = spool_pipes([source, target])
    text = config_for_files(source, target, model=model, name=output.stem if str(output) != "-" else "mine")
    if str(output) == "-":
        typer.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise UsageError(f"{output} exists", hint="--force replaces it; or give another name", code="usage.exists")
    from seq2seq.atomic_files import write_text

    write_text(output, text)
    say(f"wrote {output}\nnext: seq2seq train {output}")


def settings_for_files(source: str, target: str) -> list[str]:
    """Settings that `seq2seq train --source --target` adds, as `key=value`."""
    sizes = _sizes(source, target)
    source_language, target_language = _languages(source, target)
    files = json.dumps([{"source": source, "target": target}], ensure_ascii=False)
    return [
        f"preset={sizes.preset}",
        f"name={json.dumps(f'{source_language}-{target_language}')}",
        f"data.train={files}",
        f"data.source_language={source_language}",
        f"data.target_language={target_language}",
        f"data.holdout={sizes.holdout}",
        f"tokenizer.vocabulary_size={sizes.vocabulary}",
        f"training.max_steps={sizes.steps}",
    ]


def config_for_files(source: str, target: str, *, model: str, name: str) -> str:
    """A commented config for two text files."""
    sizes = _sizes(source, target)
    source_language, target_language = _languages(source, target)
    preset = "gru" if model == "gru" else sizes.preset
    passes = _passes(sizes, preset)
    return f"""\
# Train with: seq2seq train {name}.yaml      Every key: seq2seq config reference
name: {json.dumps(name)}
preset: {preset}                  # chosen for {sizes.lines:,} pairs
seed: 1

data:
  source_language: {json.dumps(source_language)}
  target_language: {json.dumps(target_language)}             # chooses the tokenizer of BLEU, with the text
  train:
    - source: {json.dumps(source, ensure_ascii=False)}
      target: {json.dumps(target, ensure_ascii=False)}
  # Your own validation and test files are better than pairs held out of the training text:
  # valid: [{{source: valid.{source_language}, target: valid.{target_language}}}]
  # test: [{{source: test.{source_language}, target: test.{target_language}}}]
  holdout: {sizes.holdout}                       # pairs for validation, and as many for the test, never trained on

tokenizer:
  vocabulary_size: {sizes.vocabulary}             # small corpora want small vocabularies

training:
  max_steps: {sizes.steps}                  # about {passes:,} passes at most; patience may end it earlier
  # max_minutes: 60
  # precision: auto

decoding:
  beam_size: 5
"""


def _sizes(source: str, target: str) -> Sizes:
    from seq2seq.tokenizers.sentencepiece import size_for_characters

    one, other = Path(source), Path(target)
    if one == other or (one.exists() and other.exists() and one.samefile(other)):
        raise UsageError(
            f"source and target are the same file, {source}",
            hint="--source corpus.en --target corpus.de",
            code="usage.same-file",
        )
    alphabet: Counter[str] = Counter()
    lines, characters = _count(source, alphabet)
    count, others = _count(target, alphabet)
    if lines != count:
        raise DataError(
            f"{source} has {lines:,} lines, {target} has {count:,}",
            hint="line i of one must translate line i of the other",
            code="data.line-counts",
        )
    if not lines:
        raise DataError(f"{source} is empty", hint="is it the right file?", code="data.no-lines")
    if lines < 10:
        raise DataError(
            f"{source} has only {lines} lines", hint="a model needs thousands of pairs", code="data.too-few"
        )
    if lines <= 60_000:
        preset, tokens_per_step = "transformer-tiny", 3500
    elif lines <= 600_000:
        preset, tokens_per_step = "transformer-small", 5200
    else:
        preset, tokens_per_step = "transformer-base", 20_000
    # One entry for about four pairs, rounded up to hundreds, between 500 and 32,000.
    vocabulary = min(32_000, max(500, math.ceil(lines / 4 / 100) * 100))
    if preset == "transformer-tiny":
        vocabulary = min(vocabulary, 6000)
    learned = sum(count >= _LEARNED_FROM for count in alphabet.values())
    vocabulary = max(vocabulary, min(32_000, size_for_characters(learned)))
    # About 15 tokens per pair; never so few steps that training ends within the warm-up.
    steps = min(200_000, max(3000, 30 * lines * 15 // tokens_per_step))
    return Sizes(lines, preset, vocabulary, max(1, min(1000, lines // 20)), steps, max(characters, others) / lines)


def _passes(sizes: Sizes, preset: str) -> int:
    """Approximate number of passes over the corpus, to two digits."""
    from seq2seq.config.presets import PRESETS

    # English and German captions have 1.9 characters per token with 500 entries, 3.4 with 2,000, 4.4 with 6,000.
    token = min(4.6, 1.9 + 0.75 * math.log2(sizes.vocabulary / 500))
    pairs = sizes.lines - 2 * sizes.holdout
    tokens = pairs * (sizes.characters / token + 1)
    batch: float = 0.95 * PRESETS[preset]["training"]["batch_size"]  # some of it is padding
    passes = sizes.steps / math.ceil(tokens / batch)
    return max(1, 10 * round(passes / 10) if passes >= 100 else round(passes))


def _count(path: str, alphabet: Counter[str]) -> tuple[int, int]:
    """Lines and characters; each character of the first lines is counted in `alphabet`."""
    from seq2seq.data.files import read_lines
    from seq2seq.tokenizers.base import normalize

    lines = characters = 0
    for line in read_lines(Path(path)):
        lines += 1
        characters += len(line)
        if lines <= _COUNTED_LINES:
            alphabet.update(normalize(line, "nfc"))
    return lines, characters


def _languages(source: str, target: str) -> tuple[str, str]:
    """Language codes from names such as `corpus.en`, `corpus.en.gz` or `corpus_en.txt`."""
    return language_of_file(source) or "src", language_of_file(target) or "tgt"
