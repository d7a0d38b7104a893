"""`seq2seq init`"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from seq2seq.cli.options import PairsFile, SourceFile, TargetFile, TestFiles, ValidFiles
from seq2seq.console import say
from seq2seq.errors import DataError, UsageError
from seq2seq.languages import language_of_column, language_of_file

if TYPE_CHECKING:
    from seq2seq.config.sources import Source

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


class Corpora(NamedTuple):
    """The files of a command line as sources."""

    train: Source
    valid: list[Source]
    test: list[Source]
    languages: tuple[str, str]


def init(
    output: Annotated[Path, typer.Argument(help="Config to write; - prints it.")] = Path("seq2seq.yaml"),
    source: SourceFile = None,
    target: TargetFile = None,
    pairs: PairsFile = None,
    valid: ValidFiles = None,
    test: TestFiles = None,
    model: Annotated[str, typer.Option("--model", help="transformer or gru.")] = "transformer",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented config for your own files, sizes chosen from the corpus.

    \b
      seq2seq init --source corpus.en --target corpus.de my.yaml
      seq2seq init --pairs corpus.tsv --test test.tsv my.yaml
      seq2seq train my.yaml
    """
    if model not in ("transformer", "gru"):
        raise UsageError(
            f"--model {model} is neither transformer nor gru", hint="--model transformer", code="usage.choice"
        )
    corpora = named_corpora(source, target, pairs, valid, test)
    if corpora is None:
        raise UsageError(
            "no corpus is named", hint="--source FILE --target FILE, or --pairs FILE", code="usage.nothing-to-do"
        )
    text = config_for(corpora, model=model, name=output.stem if str(output) != "-" else "mine")
    if str(output) == "-":
        typer.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise UsageError(f"{output} exists", hint="--force replaces it; or give another name", code="usage.exists")
    from seq2seq.atomic_files import write_text

    write_text(output, text)
    say(f"wrote {output}\nnext: seq2seq train {output}")


def named_corpora(
    source: str | None, target: str | None, pairs: str | None, valid: list[str] | None, test: list[str] | None
) -> Corpora | None:
    """The corpora that options name; None if there are none.

    Raises:
        UsageError: options are missing or too many, or the columns of a table are not clear.
        DataError: a file is missing or damaged, or of another format.
    """
    if pairs is None and source is None and target is None:
        if valid or test:
            raise UsageError(
                f"{'--valid' if valid else '--test'} needs --pairs, or --source and --target",
                hint="--pairs corpus.tsv --valid valid.tsv",
                code="usage.needs",
            )
        return None
    if pairs is None and (source is None or target is None):
        raise UsageError(
            "--source and --target belong together", hint="--source corpus.en --target corpus.de", code="usage.needs"
        )
    from seq2seq.config.sources import TextSource
    from seq2seq.data.detect import detect_source, languages_of
    from seq2seq.data.pipes import spool_pipes

    valid, test = (None if files is None else spool_pipes(files) for files in (valid, test))
    if pairs is None:
        source, target = spool_pipes([str(source), str(target)])
        train: Source = TextSource(source=str(source), target=str(target))
        languages = language_of_file(str(source)), language_of_file(str(target))
        columns: tuple[str | None, str | None] = languages
    else:
        (pairs,) = spool_pipes([pairs])
        train = table = detect_source(pairs, source, target)
        columns = (source, target)
        found = languages_of(table)
        languages = (
            language_of_column(source or "") or found[0] or "",
            language_of_column(target or "") or found[1] or "",
        )
    return Corpora(
        train,
        _held_out("--valid", valid, columns),
        _held_out("--test", test, columns),
        (languages[0] or "src", languages[1] or "tgt"),
    )


def _held_out(option: str, files: list[str] | None, columns: tuple[str | None, str | None]) -> list[Source]:
    """A validation or test set: one table, or the option twice for two text files."""
    from seq2seq.config.sources import TextSource
    from seq2seq.data.detect import detect_source

    match files or []:
        case []:
            return []
        case [table]:
            return [detect_source(table, *columns)]
        case [left, right]:
            return [TextSource(source=left, target=right)]
        case more:
            raise UsageError(
                f"{option} is given {len(more)} times",
                hint=f"{option} TABLE, or for two text files: {option} SOURCE {option} TARGET",
                code="usage.conflict",
            )


def settings_for(corpora: Corpora) -> list[str]:
    """Settings that `seq2seq train` adds for files without a config, as `key=value`."""
    sizes = _sizes(corpora)
    listed = {"train": [corpora.train], "valid": corpora.valid, "test": corpora.test}
    return [
        f"preset={sizes.preset}",
        f"name={json.dumps('-'.join(corpora.languages))}",
        *(
            f"data.{split}={json.dumps([_entry(source) for source in sources], ensure_ascii=False)}"
            for split, sources in listed.items()
            if sources
        ),
        f"data.source_language={json.dumps(corpora.languages[0])}",
        f"data.target_language={json.dumps(corpora.languages[1])}",
        f"data.holdout={sizes.holdout}",
        f"tokenizer.vocabulary_size={sizes.vocabulary}",
        f"training.max_steps={sizes.steps}",
    ]


def config_for(corpora: Corpora, *, model: str, name: str) -> str:
    """A commented config for a corpus."""
    sizes = _sizes(corpora)
    source_language, target_language = corpora.languages
    preset = "gru" if model == "gru" else sizes.preset
    passes = _passes(sizes, preset)
    held_out = "".join(
        f"  {split}:\n{_yaml_entry(sources[0])}"
        for split, sources in (("valid", corpora.valid), ("test", corpora.test))
        if sources
    )
    if not held_out:
        held_out = f"""\
  # Your own validation and test files are better than pairs held out of the training text:
  # valid: [{{source: valid.{source_language}, target: valid.{target_language}}}]
  # test: [{{source: test.{source_language}, target: test.{target_language}}}]
"""
    if not (corpora.valid and corpora.test):
        what = "the test" if corpora.valid else "validation" if corpora.test else "validation, and as many for the test"
        held_out += f"  holdout: {sizes.holdout}                       # pairs for {what}, never trained on\n"
    return f"""\
# Train with: seq2seq train {name}.yaml      Every key: seq2seq config reference
name: {json.dumps(name)}
preset: {preset}                  # chosen for {sizes.lines:,} pairs
seed: 1

data:
  source_language: {json.dumps(source_language)}
  target_language: {json.dumps(target_language)}             # chooses the tokenizer of BLEU, with the text
  train:
{_yaml_entry(corpora.train)}{held_out}\
  # augment: true                    # also train on copies in CAPITALS, in small letters, with typing errors

tokenizer:
  vocabulary_size: {sizes.vocabulary}             # small corpora want small vocabularies

training:
  max_steps: {sizes.steps}                  # about {passes:,} passes at most; patience may end it earlier
  # max_minutes: 60
  # precision: auto

decoding:
  beam_size: 5
"""


def _entry(source: Source) -> dict[str, Any]:
    """The settings of a source that say where its text is."""
    from seq2seq.config.sources import FileSource

    names = [source.form] if isinstance(source, FileSource) else []
    settings = {name: getattr(source, name) for name in (*names, "source", "target")}
    return {name: value for name, value in settings.items() if value is not None}


def _yaml_entry(source: Source) -> str:
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in _entry(source).items()]
    return "    - " + "      ".join(lines)


def _sizes(corpora: Corpora) -> Sizes:
    from seq2seq.data.corpus import check_sides
    from seq2seq.tokenizers.sentencepiece import size_for_characters

    check_sides("train", [corpora.train])
    alphabet: Counter[str] = Counter()
    lines, characters = _count(corpora.train, alphabet)
    file = next(iter(_entry(corpora.train).values()))
    if not lines:
        raise DataError(f"{file} is empty", hint="is it the right file?", code="data.no-lines")
    if lines < 10:
        raise DataError(f"{file} has only {lines} lines", hint="a model needs thousands of pairs", code="data.too-few")
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
    return Sizes(lines, preset, vocabulary, max(1, min(1000, lines // 20)), steps, characters / lines)


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


def _count(source: Source, alphabet: Counter[str]) -> tuple[int, int]:
    """Pairs, and characters of the longer side; each character of the first pairs is counted in `alphabet`."""
    from seq2seq.data.corpus import read_pairs
    from seq2seq.tokenizers.normalization import normalize

    lines = left = right = 0
    for pair in read_pairs(source, option=""):
        lines += 1
        left += len(pair[0])
        right += len(pair[1])
        if lines <= _COUNTED_LINES:
            alphabet.update(normalize(" ".join(pair), "nfc"))
    return lines, max(left, right)
