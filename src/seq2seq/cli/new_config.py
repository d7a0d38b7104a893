"""Corpora that the options of a command name, and a config for them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from seq2seq.console import counted, muted, say, warn
from seq2seq.errors import DataError, UsageError
from seq2seq.languages import language_of_column, language_of_file

if TYPE_CHECKING:
    from seq2seq.checks.identified_languages import SideLanguages
    from seq2seq.config.settings_by_size import Choice, Kind
    from seq2seq.config.sources import Source

_LEARNED_FROM = 3
"""Least number of occurrences of a character that gets an entry; rarer ones may be spelled in bytes."""
_SMALLEST_VOCABULARY = 500
_IDENTIFIED_PAIRS = 300
"""Number of pairs, from the first on, whose languages are identified."""
_TRIAL_PAIRS = 60_000
_CHECKED_PAIRS = 10_000
"""Number of pairs, from the first on, that are checked for faults; this takes two seconds."""
_MACHINE_SETTINGS = ("device", "devices", "threads", "training.precision")


class Corpora(NamedTuple):
    """The files of a command line as sources."""

    train: Source
    valid: list[Source]
    test: list[Source]
    languages: tuple[str, str]


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
    held_out = _held_out("--valid", valid, columns), _held_out("--test", test, columns)
    if "" in languages:
        languages = _languages_by_text(train, languages)
    return Corpora(train, *held_out, (languages[0] or "src", languages[1] or "tgt"))


def _languages_by_text(train: Source, named: tuple[str, str]) -> tuple[str, str]:
    """The languages: `named`, completed by what py3langid identifies in the text if the two do not contradict."""
    languages = _side_languages(train, named)
    source, target = ("", "") if languages is None else languages.languages
    contradicts = (named[0] or source, named[1] or target) != (source, target)
    if "" in (source, target) or source == target or contradicts:
        return named
    say(f"languages: {source} to {target}, by the text (data.source_language, data.target_language)")
    return source, target


def _side_languages(train: Source, named: tuple[str, str]) -> SideLanguages | None:
    """Languages of the first pairs; None without py3langid."""
    from seq2seq.checks.identified_languages import Identifier, SideLanguages
    from seq2seq.data.corpus import read_pairs

    identifier = Identifier()
    if not identifier.available:
        return None
    return SideLanguages(list(islice(read_pairs(train, "replace"), _IDENTIFIED_PAIRS)), named, identifier)


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
    corpora: Corpora, *, minutes: float | None = None, overrides: Sequence[str] = (), kind: Kind = "auto"
) -> dict[str, Choice]:
    """Settings that `seq2seq train` adds for files without a config, with their reasons.

    Args:
        minutes: a time budget; the speed of this machine is then measured.
        overrides: settings of the command line, such as the device, for that measurement.
        kind: the architecture, or `auto`.
    """
    return {**data_settings(corpora), **_chosen(corpora, minutes, overrides, kind)}


def data_settings(corpora: Corpora, suffix: str = "") -> dict[str, Choice]:
    """Settings of the corpora of a command line, and a name for the run: the languages and a suffix."""
    from seq2seq.config.settings_by_size import Choice

    listed = {"train": [corpora.train], "valid": corpora.valid, "test": corpora.test}
    source_language, target_language = corpora.languages
    return {
        "name": Choice("-".join(corpora.languages) + suffix, ""),
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


def config_for(
    corpora: Corpora, *, kind: Kind, name: str, minutes: float | None = None, init_from: str | None = None
) -> str:
    """A commented config for a corpus, to train a model from the start or to fine-tune that of a run."""
    from seq2seq.config.settings_by_size import Choice
    from seq2seq.config.yaml import add_comments, write_yaml

    if init_from is None:
        settings = settings_for(corpora, minutes=minutes, kind=kind)
    else:
        settings = _fine_tuning(corpora, minutes, init_from)
    settings |= {"name": Choice(name, "")}
    tree: dict[str, Any] = {}
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
    file = shlex.quote(f"./{name}.yaml" if name.startswith("-") else f"{name}.yaml")
    return f"# Train with: seq2seq train {file}      Every key: seq2seq config reference\n{text}"


def _entry(source: Source) -> dict[str, Any]:
    """The settings of a source that locate its text: file names and columns."""
    from seq2seq.config.sources import FileSource

    names = [source.form] if isinstance(source, FileSource) else []
    settings = {name: getattr(source, name) for name in (*names, "source", "target")}
    return {name: value for name, value in settings.items() if value is not None}


def _chosen(corpora: Corpora, minutes: float | None, overrides: Sequence[str], kind: Kind) -> dict[str, Choice]:
    """Settings that suit the size of a corpus, and the number of pairs to hold out."""
    from seq2seq.config import load_config
    from seq2seq.config.settings_by_size import choose
    from seq2seq.devices import choose_device
    from seq2seq.tokenizers.sentencepiece import size_for_characters

    alphabet: Counter[str] = Counter()
    lines, characters = _counted(corpora, alphabet)
    _warn_of_faults(corpora)
    learned = sum(count >= _LEARNED_FROM for count in alphabet.values())
    needed = size_for_characters(learned)
    held_out = _held_out_setting(corpora, lines)
    facts: dict[str, Any] = {
        "characters": characters / lines,
        "least_vocabulary": 0 if needed <= _SMALLEST_VOCABULARY else min(32_000, needed),
    }
    missing = (not corpora.valid) + (not corpora.test)
    pairs = lines - missing * (held_out["data.holdout"].value if held_out else 0)
    own = [setting for setting in overrides if setting.partition("=")[0] in _MACHINE_SETTINGS]
    facts["on_gpu"] = choose_device(load_config([], own).device).type == "cuda"
    choices = choose(pairs, **facts, minutes=minutes, kind=kind)
    if minutes is not None:
        from seq2seq.runs.estimate import machine_speed

        # Larger models reach more FLOP/s, so the speed is that of one whose size the budget may allow.
        trial = choose(min(pairs, _TRIAL_PAIRS), **facts, kind="transformer")
        speed = machine_speed(load_config([], own, as_overrides(trial.settings())), trial)
        choices = choose(pairs, **facts, minutes=minutes, speed=speed, kind=kind)
    if choices.expected_score:
        say(f"for comparison: {choices.expected_score} from about as many pairs")
    return {**held_out, **choices.settings()}


def _warn_of_faults(corpora: Corpora) -> None:
    """Warn of what `seq2seq data check` calls an error in the first pairs."""
    from seq2seq.checks.corpus import CorpusCheck
    from seq2seq.checks.findings import KINDS

    with muted():
        report = CorpusCheck(corpora.languages, most=_CHECKED_PAIRS).check(corpora.train)
    if report.failed:
        found = [finding for finding in report.findings.values() if finding.verdict(report.pairs) == "error"]
        named = ", ".join(
            f"{KINDS[finding.kind].title} ({f'{finding.count:,}' if finding.lines else finding.examples[0]['why']})"
            for finding in found
        )
        fixes = any(KINDS[finding.kind].action != "keep" for finding in found)
        advice = "repairs or drops them with --fix" if fixes else f"says what helps: {KINDS[found[0].kind].advice}"
        warn(
            f"faults in the first {report.pairs:,} pairs: {named}; `seq2seq data check` of the same files shows them, "
            f"and {advice}"
        )


def _fine_tuning(corpora: Corpora, minutes: float | None, init_from: str) -> dict[str, Choice]:
    from seq2seq.config import load_config
    from seq2seq.config.settings_by_size import BUDGET_REASON, Choice
    from seq2seq.runs.fine_tuning_recipe import choose_recipe

    settings = {**data_settings(corpora), **holdout_setting(corpora)}
    settings["training.init_from"] = Choice(init_from, "weights, sizes and vocabulary")
    if minutes is not None:
        settings["training.budget_minutes"] = Choice(minutes, BUDGET_REASON)
    return {**settings, **choose_recipe(load_config([], as_overrides(settings)))}


def holdout_setting(corpora: Corpora) -> dict[str, Choice]:
    """The setting that holds validation and test sets out of the corpus, unless files are named for both.

    Raises:
        DataError: the corpus is too small.
    """
    return {} if corpora.valid and corpora.test else _held_out_setting(corpora, _counted(corpora)[0])


def _held_out_setting(corpora: Corpora, lines: int) -> dict[str, Choice]:
    from seq2seq.config.settings_by_size import Choice

    splits = [split for split in ("valid", "test") if not getattr(corpora, split)]
    if not splits:
        return {}
    what = "validation, and as many for the test" if len(splits) == 2 else {"valid": "validation"}.get(splits[0])
    reason = f"pairs for {what or 'the test'}, never trained on"
    return {"data.holdout": Choice(max(1, min(1000, lines // 20)), reason)}


def _counted(corpora: Corpora, alphabet: Counter[str] | None = None) -> tuple[int, int]:
    """Pairs of the training corpus, and characters of its longer side."""
    from seq2seq.data.corpus import check_sides, count_pairs

    check_sides("train", [corpora.train])
    lines, characters = count_pairs(corpora.train, alphabet)
    file = next(iter(_entry(corpora.train).values()))
    if not lines:
        raise DataError(f"{file} is empty", hint="is it the right file?", code="data.no-lines")
    if lines < 10:
        raise DataError(
            f"{file} has only {counted(lines, 'line')}", hint="a model needs thousands of pairs", code="data.too-few"
        )
    return lines, characters
