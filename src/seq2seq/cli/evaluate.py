"""`seq2seq evaluate`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from seq2seq.cli.input import check_output, check_stdin, input_text, same_file
from seq2seq.cli.load_options import LoadOptions
from seq2seq.cli.options import (
    BeamSize,
    Checkpoint,
    Device,
    Ensemble,
    Json,
    LengthPenalty,
    Precision,
    Rerank,
    RerankWeight,
    Shortlist,
    TargetTag,
    Threads,
    exclude,
)
from seq2seq.cli.output import write_whole
from seq2seq.cli.results import difference_as_json, print_findings, print_metrics, print_parts
from seq2seq.console import counted, say, set_quiet, warn
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.config.settings import DecodingSettings
    from seq2seq.evaluation.metrics import MetricResult
    from seq2seq.evaluation.significance import MetricTest
    from seq2seq.runs.loaded_run import LoadedRun

RunOption = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN", help="Run directory; not needed with --hypotheses.", show_default=False),
]


class _Evaluation(NamedTuple):
    metrics: list[MetricResult]
    by_corpus: dict[str, list[MetricResult]]
    """Metrics by corpus of the run's own text, if it has several."""
    by_language: dict[str, list[MetricResult]]
    """Metrics by target tag, if the text has several."""
    hypotheses: list[str]
    references: list[str]
    target_language: str
    baseline: list[str]
    """Translations by the baseline; empty without one."""


def evaluate(
    run: RunOption = None,
    split: Annotated[
        Literal["test", "valid"] | None, typer.Option("--split", help="Set of the run's own text. [default: test]")
    ] = None,
    source: Annotated[Path | None, typer.Option("--source", "-s", help="Another source file.")] = None,
    references: Annotated[
        list[Path] | None,
        typer.Option("--references", "-r", help="Its references, raw; several files: -r A B, or -r A -r B."),
    ] = None,
    hypotheses: Annotated[Path | None, typer.Option("--hypotheses", help="Score these lines; needs no model.")] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", help="Target language, e.g. zh. [default: by the script of the text]"),
    ] = None,
    target_tag: TargetTag = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", help="Test the difference from another run, or from a file of its translations."),
    ] = None,
    ensemble: Ensemble = None,
    shortlist: Shortlist = False,
    precision: Precision = None,
    rerank: Rerank = None,
    rerank_weight: RerankWeight = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the translations here.")] = None,
    beam_size: BeamSize = None,
    length_penalty: LengthPenalty = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="BLEU alone, and no messages.")] = False,
) -> None:
    """BLEU (cased and lowercased), chrF and TER on untouched references, each with its sacrebleu signature.

    \b
      seq2seq evaluate runs/demo
      seq2seq evaluate runs/demo --source news.en --references news.de
      seq2seq evaluate runs/demo --baseline runs/other
      seq2seq evaluate runs/demo --precision int8 --baseline runs/demo
      seq2seq evaluate runs/first --ensemble runs/second --baseline runs/first
      seq2seq evaluate --hypotheses output.de --references news.de
      seq2seq evaluate --hypotheses output.de --references news.de other.de
    """
    set_quiet(quiet)
    from seq2seq.evaluation.metrics import corpus_metrics

    loading = LoadOptions(
        device,
        threads,
        checkpoint,
        precision,
        ensemble=ensemble or (),
        shortlist=shortlist,
        rerank=rerank,
        rerank_weight=rerank_weight,
    )
    loading.check(beam_size)
    if language is not None:
        _check_language(language)
    folder, files = _run_and_references(run or [], references or [])
    check_stdin((hypotheses, source, *files, baseline))
    if baseline is not None:
        exclude("--baseline", [("several references", len(files) > 1)], "differences are tested with one reference")
        exclude("--baseline", [("--quiet", quiet and not as_json)], "that prints one number; --json has them all")
    if hypotheses is not None:
        if not files:
            raise UsageError("--hypotheses needs --references", hint="--references FILE", code="usage.needs")
        conflicts = [
            ("a run", folder is not None),
            ("--source", source is not None),
            ("--output", output is not None),
            ("--target-tag", target_tag is not None),
            ("--ensemble", bool(ensemble)),
            ("--shortlist", shortlist),
            ("--precision", precision is not None),
            ("--rerank", rerank is not None),
            ("--beam-size", beam_size is not None),
            ("--length-penalty", length_penalty is not None),
            ("--checkpoint", checkpoint is not None),
            ("--device", device != "auto"),
            ("--split", split is not None),
        ]
        exclude("--hypotheses", conflicts, "these lines are scored without a model")
        if any(same_file(hypotheses, file) for file in files):
            warn(f"{hypotheses} is compared with itself")
        lines, targets = _lines(hypotheses), [_lines(file) for file in files]
        metrics = corpus_metrics(lines, *targets, target_language=language or "")
        others = [] if baseline is None else _baseline_lines(baseline, len(targets[0]))
        done = _Evaluation(metrics, {}, {}, lines, targets[0], language or "", others)
    else:
        if folder is None:
            raise UsageError(
                "nothing to evaluate",
                hint="give a run directory, or --hypotheses and --references",
                code="usage.nothing-to-do",
            )
        if split is not None:
            texts = [("--source", source is not None), ("--references", bool(files))]
            exclude("--split", texts, "it names a set of the run's own text")
        done = _evaluate_run(
            folder,
            split=split or "test",
            source=source,
            references=files,
            target_tag=target_tag,
            baseline=baseline,
            output=output,
            changes={"beam_size": beam_size, "length_penalty": length_penalty},
            loading=loading,
            language=language,
        )
    _print(done, str(baseline), as_json=as_json, quiet=quiet)


def _print(done: _Evaluation, baseline: str, *, as_json: bool, quiet: bool) -> None:
    tests = _tests(done)
    if as_json:
        differences = {test.metric: difference_as_json(test) for test in tests}
        whole = [metric._asdict() | differences.get(metric.name, {}) for metric in done.metrics]
        parts = [
            metric._asdict() | {key: name}
            for key, by in (("corpus", done.by_corpus), ("target_tag", done.by_language))
            for name, found in by.items()
            for metric in found
        ]
        typer.echo(json.dumps(whole + parts, ensure_ascii=False))
        return
    if quiet:
        typer.echo(f"{done.metrics[0].value:.2f}")
        return
    print_metrics(done.metrics)
    print_parts("corpus", done.by_corpus)
    print_parts("target tag", done.by_language)
    if tests:
        from seq2seq.evaluation.significance import describe_difference

        for test in tests:
            typer.echo(f"\n{describe_difference(test.metric, test.scores[1], 'this', test.scores[0], baseline)}")


def _tests(done: _Evaluation) -> list[MetricTest]:
    if not done.baseline:
        return []
    from seq2seq.evaluation.significance import paired_tests

    systems = {"baseline": done.baseline, "this": done.hypotheses}
    return paired_tests(systems, done.references, target_language=done.target_language)


def _baseline_lines(baseline: Path, count: int) -> list[str]:
    """Translations of the baseline, read from a file."""
    if baseline.is_dir():
        raise UsageError(
            f"{baseline} is a run, and lines that are scored without a model have no source that it could translate",
            where="--baseline",
            hint="give a file with its translations",
            code="usage.conflict",
        )
    lines = _lines(baseline)
    if len(lines) != count:
        raise DataError(
            f"{baseline} has {counted(len(lines), 'line')}, and there are {counted(count, 'reference')}",
            hint="the baseline must translate the same lines",
            code="data.line-counts",
        )
    return lines


def _check_language(code: str) -> None:
    from seq2seq.evaluation.metrics import unknown_language
    from seq2seq.languages import suggested_code

    if (fault := unknown_language(code)) is not None:
        near = suggested_code(code)
        hint = f"-l {near}" if near else "leave it out: the script of the text decides"
        raise UsageError(fault, where="--language", hint=hint, code="usage.choice")


def _run_and_references(arguments: list[Path], references: list[Path]) -> tuple[Path | None, list[Path]]:
    """The run directory, and all references: in `-r A B` the second file arrives as an argument."""
    more = [path for path in arguments if references and path.is_file()]
    runs = [path for path in arguments if path not in more]
    if len(runs) > 1:
        raise UsageError(
            f"{runs[0]} and {runs[1]}: one run is evaluated at a time",
            hint="a command for each run",
            code="usage.choice",
        )
    return next(iter(runs), None), [*references, *more]


def _evaluate_run(
    run: Path,
    *,
    split: str,
    source: Path | None,
    references: list[Path],
    target_tag: str | None,
    baseline: Path | None,
    output: Path | None,
    changes: dict[str, float | int | None],
    loading: LoadOptions,
    language: str | None,
) -> _Evaluation:
    from seq2seq.decoding.translator import translation_options
    from seq2seq.evaluation.metrics import corpus_metrics
    from seq2seq.reports.report import Translations
    from seq2seq.runs.evaluate import metrics_by_corpus, metrics_by_target_tag

    check_output(output, (source, *references, baseline), (run, *loading.ensemble, loading.rerank, baseline))
    loaded = loading.load(run)
    first = next(iter(references), None)
    pairs = _pairs(loaded, split, source, first, target_tag)
    others = [[target for _, target in _pairs(loaded, split, source, path, target_tag)] for path in references[1:]]
    # Report mistakes in the baseline before the work begins.
    baseline_run = None
    if baseline is not None and baseline.is_dir():
        baseline_run = LoadOptions(loading.device, loading.threads).load(baseline)
    lines = [] if baseline is None or baseline_run is not None else _baseline_lines(baseline, len(pairs))
    decoding = loaded.config.decoding.model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
    _announce(run, loaded, loading, decoding, len(pairs))
    stream = loaded.translator.stream((source for source, _ in pairs), translation_options(decoding))
    translated = [translations[0].text for translations in stream]
    if output is not None:
        write_whole(output, "".join(line + "\n" for line in translated))
    sources, wanted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not loading.ensemble:  # findings are about a single run
        given: list[tuple[str, object]] = [("--split", "valid" if split == "valid" else None), ("--source", source)]
        given += [("--references", path) for path in references]
        given += [
            ("--target-tag", target_tag),
            ("--checkpoint", loading.checkpoint),
            ("--beam-size", changes["beam_size"]),
        ]
        options = [text for option, value in given if value is not None for text in (option, str(value))]
        print_findings(run, Translations(split, sources, wanted, translated, decoding.length_penalty), options)
    target_language = language or target_tag or loaded.config.data.target_language
    metrics = corpus_metrics(translated, wanted, *others, target_language=target_language)
    corpora = _corpora(loaded, split, target_tag) if source is None else []
    by_corpus = metrics_by_corpus(corpora, pairs, translated, target_language)
    by_language = metrics_by_target_tag(loaded, pairs, translated, target_language)
    if baseline_run is not None:
        lines = baseline_run.translate(sources)
    return _Evaluation(metrics, by_corpus, by_language, translated, wanted, target_language, lines)


def _announce(run: Path, loaded: LoadedRun, loading: LoadOptions, decoding: DecodingSettings, sentences: int) -> None:
    """Print on stderr what is evaluated: model, number of sentences, and all that determines the translations."""
    members = ", ".join(map(str, (run, *loading.ensemble)))
    facts = [f"{sentences:,} sentences", f"beam {decoding.beam_size}"]
    facts += ["shortlist"] if loading.shortlist else []
    facts += [loaded.identity["precision"]] if "precision" in loaded.identity else []
    facts += [f"reranked by {loading.rerank}"] if loading.rerank is not None else []
    weight = loaded.identity.get("rerank_weight")
    backward = "" if weight is None else f" + {weight:g} log P(source) / length"
    say(
        f"{f'ensemble of {members}' if loading.ensemble else f'{loaded.checkpoint} of {run}'}: {', '.join(facts)}, "
        f"score = log P / length^{decoding.length_penalty:g}{backward}"
    )


def _pairs(
    loaded: LoadedRun, split: str, source: Path | None, references: Path | None, target_tag: str | None
) -> list[tuple[str, str]]:
    """Source and reference lines of two files, with the target tag added, or those of a split that have the tag."""
    tags, option = loaded.target_tags, "--target-tag"
    if (source is None) != (references is None):
        raise UsageError(
            "--source and --references belong together", hint="give both, or --split test", code="usage.needs"
        )
    if source is None or references is None:
        if not (pairs := loaded.directory.load_pairs(split)):
            raise DataError(f"the run has no {split} set", hint="--source FILE --references FILE", code="data.no-split")
        if target_tag is None:
            return pairs
        symbol = tags.symbol(target_tag, option)
        if not (chosen := [pair for pair in pairs if tags.language(pair[0]) == target_tag]):
            there = ", ".join(sorted(filter(None, {tags.language(pair[0]) for pair in pairs}))) or "none"
            what = f"the {split} set has no text with {symbol}"
            raise DataError(what, where=option, hint=f"its tags: {there}", code="data.no-lines")
        return chosen
    from seq2seq.data.files import paired

    sources = tags.add(_lines(source), target_tag, option)
    return list(paired(sources, _lines(references), (str(source), str(references))))


def _corpora(loaded: LoadedRun, split: str, target_tag: str | None) -> list[str]:
    """Name of the corpus of each pair of a split, or of those with a target tag."""
    corpora = loaded.directory.load_corpora(split)
    if target_tag is None or not corpora:
        return corpora
    languages = (loaded.target_tags.language(source) for source, _ in loaded.directory.load_pairs(split))
    return [name for name, language in zip(corpora, languages, strict=True) if language == target_tag]


def _lines(path: Path) -> list[str]:
    return list(input_text(path, "strict").lines)
