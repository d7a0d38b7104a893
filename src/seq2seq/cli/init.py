"""`seq2seq init`"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from seq2seq.cli.options import Budget, PairsFile, SourceFile, TargetFile, TestFiles, ValidFiles, parse_minutes
from seq2seq.console import Progress, say
from seq2seq.errors import DataError, UsageError
from seq2seq.languages import language_of_column, language_of_file

if TYPE_CHECKING:
    from seq2seq.config.choices import Choice
    from seq2seq.config.sources import Source

_COUNTED_LINES = 100_000
"""More lines bring hardly any character that the vocabulary of a large corpus has no room for."""

_LEARNED_FROM = 3
"""Occurrences from which a character gets an entry; rarer ones are spelled in bytes where entries are few."""

_SMALLEST_VOCABULARY = 500
_TRIAL_PAIRS = 60_000
_SHOWN_LINES = 10_000
_MACHINE_SETTINGS = ("device", "devices", "threads", "training.precision")


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
    budget: Budget = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented config for your own files, sizes chosen from the corpus.

    \b
      seq2seq init --source corpus.en --target corpus.de my.yaml
      seq2seq init --pairs corpus.tsv --test test.tsv my.yaml
      seq2seq init --pairs corpus.tsv --budget 30m my.yaml
      seq2seq train my.yaml
    """
    if model not in ("transformer", "gru"):
        raise UsageError(
            f"--model {model} is neither transformer nor gru", hint="--model transformer", code="usage.choice"
        )
    minutes = None if budget is None else parse_minutes("--budget", budget)
    corpora = named_corpora(source, target, pairs, valid, test)
    if corpora is None:
        raise UsageError(
            "no corpus is named", hint="--source FILE --target FILE, or --pairs FILE", code="usage.nothing-to-do"
        )
    text = config_for(corpora, model=model, name=output.stem if str(output) != "-" else "mine", minutes=minutes)
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


def settings_for(
    corpora: Corpora, *, minutes: float | None = None, overrides: Sequence[str] = (), kind: str = "transformer"
) -> dict[str, Choice]:
    """Settings that `seq2seq train` adds for files without a config, with their reasons.

    Args:
        minutes: a time budget; the speed of this machine is then measured.
        overrides: settings of the command line, such as the device, for that measurement.
        kind: `transformer` or `gru`.
    """
    return {**data_settings(corpora), **_chosen(corpora, minutes, overrides, kind)}


def data_settings(corpora: Corpora) -> dict[str, Choice]:
    """Settings that name the corpora of a command line, and the run."""
    from seq2seq.config.choices import Choice

    listed = {"train": [corpora.train], "valid": corpora.valid, "test": corpora.test}
    source_language, target_language = corpora.languages
    return {
        "name": Choice("-".join(corpora.languages), ""),
        "data.source_language": Choice(source_language, ""),
        "data.target_language": Choice(target_language, "chooses the tokenizer of BLEU, with the text"),
        **{
            f"data.{split}": Choice([_entry(source) for source in sources], "")
            for split, sources in listed.items()
            if sources
        },
    }


def as_overrides(settings: Mapping[str, Choice]) -> list[str]:
    """Settings as `key=value`."""
    return [f"{key}={json.dumps(choice.value, ensure_ascii=False)}" for key, choice in settings.items()]


def config_for(corpora: Corpora, *, model: str, name: str, minutes: float | None = None) -> str:
    """A commented config for a corpus."""
    from seq2seq.config.choices import Choice
    from seq2seq.config.yaml import add_comments, write_yaml

    settings = settings_for(corpora, minutes=minutes, kind=model) | {"name": Choice(name, "")}
    tree: dict[str, Any] = {} if model == "transformer" else {"preset": "gru"}
    for key, choice in settings.items():
        *groups, last = key.split(".")
        group = tree
        for part in groups:
            group = group.setdefault(part, {})
        group[last] = choice.value
    text = add_comments(write_yaml(tree), {key: choice.reason for key, choice in settings.items() if choice.reason})
    hints = ["# augment: true         # also train on copies in CAPITALS, in small letters, with typing errors"]
    if not corpora.valid and not corpora.test:
        left, right = corpora.languages
        hints += [
            "# Your own validation and test files are better than pairs held out of the training text:",
            f"# valid: [{{source: valid.{left}, target: valid.{right}}}]",
            f"# test: [{{source: test.{left}, target: test.{right}}}]",
        ]
    text = text.replace("\ntokenizer:\n", "".join(f"\n  {hint}" for hint in hints) + "\ntokenizer:\n", 1)
    return f"# Train with: seq2seq train {name}.yaml      Every key: seq2seq config reference\n{text}"


def _entry(source: Source) -> dict[str, Any]:
    """The settings of a source that say where its text is."""
    from seq2seq.config.sources import FileSource

    names = [source.form] if isinstance(source, FileSource) else []
    settings = {name: getattr(source, name) for name in (*names, "source", "target")}
    return {name: value for name, value in settings.items() if value is not None}


def _chosen(corpora: Corpora, minutes: float | None, overrides: Sequence[str], kind: str) -> dict[str, Choice]:
    """The choices of the table for a corpus, and the pairs to hold out."""
    from seq2seq.config.choices import Choice, choose
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
    learned = sum(count >= _LEARNED_FROM for count in alphabet.values())
    needed = size_for_characters(learned)
    holdout = 0 if corpora.valid and corpora.test else max(1, min(1000, lines // 20))
    held_out = [split for split in ("valid", "test") if not getattr(corpora, split)]
    facts: dict[str, Any] = {
        "characters": characters / lines,
        "least_vocabulary": 0 if needed <= _SMALLEST_VOCABULARY else min(32_000, needed),
    }
    pairs = lines - len(held_out) * holdout
    choices = choose(pairs, **facts, minutes=minutes)
    if minutes is not None and kind == "transformer":
        from seq2seq.config import load_config
        from seq2seq.runs.estimate import machine_speed

        # Larger models reach more FLOP/s, so the speed is that of one whose size the budget may allow.
        trial = choose(min(pairs, _TRIAL_PAIRS), **facts)
        own = [setting for setting in overrides if setting.partition("=")[0] in _MACHINE_SETTINGS]
        speed = machine_speed(load_config([], own, as_overrides(trial.settings())), trial)
        choices = choose(pairs, **facts, minutes=minutes, speed=speed)
    chosen = choices.settings(kind=kind)
    if held_out:
        what = (
            "validation, and as many for the test" if len(held_out) == 2 else {"valid": "validation"}.get(held_out[0])
        )
        chosen = {"data.holdout": Choice(holdout, f"pairs for {what or 'the test'}, never trained on"), **chosen}
    if choices.expected_score:
        say(f"for comparison: {choices.expected_score} from about as many pairs")
    return chosen


def _count(source: Source, alphabet: Counter[str]) -> tuple[int, int]:
    """Pairs, and characters of the longer side; each character of the first pairs is counted in `alphabet`."""
    from seq2seq.data.corpus import read_pairs
    from seq2seq.tokenizers.normalization import normalize

    lines = left = right = 0
    with Progress("counting", None, "pairs", delay=1.0) as progress:
        for pair in read_pairs(source, option=""):
            lines += 1
            left += len(pair[0])
            right += len(pair[1])
            if lines <= _COUNTED_LINES:
                alphabet.update(normalize(" ".join(pair), "nfc"))
            if lines % _SHOWN_LINES == 0:
                progress.update(_SHOWN_LINES)
    return lines, max(left, right)
