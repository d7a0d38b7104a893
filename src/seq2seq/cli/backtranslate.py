"""`seq2seq backtranslate`"""

from __future__ import annotations

import json
import shlex
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seq2seq.cli.input import REPLACE, check_prefix
from seq2seq.cli.load_options import LoadOptions
from seq2seq.cli.options import (
    BeamSize,
    Checkpoint,
    Device,
    Errors,
    Json,
    Precision,
    Quiet,
    Run,
    Shortlist,
    TargetTag,
    Threads,
    Workers,
    require,
)
from seq2seq.console import say, set_quiet
from seq2seq.errors import DataError, UsageError
from seq2seq.sanitize import presentable
from seq2seq.tags import CORPUS_TAG, corpus_tag

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors
    from seq2seq.runs.loaded_run import LoadedRun
    from seq2seq.synthesis.back_translation import Method
    from seq2seq.synthesis.filters import FilterCounts, FilterOptions


def backtranslate(
    run: Run,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Text in the language that RUN reads, a sentence a line.", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="OUT.LANGUAGE twice, OUT.yaml, OUT.receipt.tsv.", metavar="OUT"),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted command, or filter its translations anew.")
    ] = False,
    method: Annotated[
        Literal["beam", "sampling", "noised-beam"],
        typer.Option("--method", help="Search for translations; noised-beam then drops, blanks and moves some words."),
    ] = "beam",
    beam_size: BeamSize = None,
    top_k: Annotated[
        int, typer.Option("--top-k", min=0, help="For sampling: only the k likeliest tokens; 0 is all.")
    ] = 0,
    temperature: Annotated[float, typer.Option("--temperature", min=0.01, help="For sampling.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For sampling and noise.")] = 1,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", max=0, help="Drop translations below this log P per token, such as -2."),
    ] = None,
    drop_worst: Annotated[
        float, typer.Option("--drop-worst", min=0, max=0.99, help="Drop this share, of the lowest scores: 0.1.")
    ] = 0.0,
    max_ratio: Annotated[
        float, typer.Option("--max-ratio", min=1.01, help="Largest ratio of the two sides' tokens.")
    ] = 3.0,
    tag: Annotated[
        str, typer.Option("--tag", help="Put before each synthetic source in training; none for no tag.")
    ] = "BT",
    weight: Annotated[
        float | None,
        typer.Option(
            "--weight", min=0.0001, help="Sampling rate in training. [default: at most as often as genuine pairs]"
        ),
    ] = None,
    target_tag: TargetTag = None,
    errors: Errors = "strict",
    as_json: Json = False,
    checkpoint: Checkpoint = None,
    precision: Precision = None,
    shortlist: Shortlist = False,
    workers: Workers = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Make training pairs from monolingual text.

    A run of the opposite direction translates text of the target language back. To train English to German, give German
    text and a run that translates German to English: the pairs have its translations as sources and your text as
    targets. OUT.yaml is the data of a config for training on them.

    \b
      seq2seq backtranslate runs/de-en mono.de.gz -o synthetic
      seq2seq backtranslate runs/de-en mono.de -o out --method sampling --top-k 10
      seq2seq backtranslate runs/de-en mono.de -o out --resume --drop-worst 0.1
      seq2seq train my.yaml synthetic.yaml
    """
    set_quiet(quiet)
    samples = method == "sampling"
    require("--top-k", "--method sampling", samples or not top_k)
    require("--temperature", "--method sampling", samples or temperature == 1.0)
    require("--shortlist", "--method beam or noised-beam", not samples or not shortlist)
    require("--beam-size", "--method beam or noised-beam", not samples or beam_size is None)
    _check_tag(tag)
    check_prefix(output, "-o")
    from seq2seq.synthesis.back_translation import Method
    from seq2seq.synthesis.filters import FilterOptions

    making = Method(method, beam_size, top_k, temperature, seed)
    loading = LoadOptions(device, threads, checkpoint, precision, workers, shortlist=shortlist)
    loaded = loading.load(run, before_text=True)
    if tag == "none" and loaded.config.data.holdout:
        raise UsageError(
            f"{run} holds out {loaded.config.data.holdout:,} pairs for validation and test (data.holdout), and without "
            "a tag synthetic ones would be among them",
            where="--tag",
            hint="leave out --tag none",
            code="usage.conflict",
        )
    limits = FilterOptions(drop_worst=drop_worst, max_ratio=max_ratio)
    if min_score is not None:
        limits = limits._replace(min_score=min_score)
    counts = _make_pairs(loaded, files, output, making, limits, target_tag, errors, resume=resume)
    _report(loaded, output, counts, None if tag == "none" else tag, weight, as_json=as_json, quiet=quiet)


def _check_tag(tag: str) -> None:
    if tag != "none" and not CORPUS_TAG.fullmatch(corpus_tag(tag)):
        raise UsageError(
            f"--tag {tag} is no tag: a capital letter, then letters, digits, _ and -",
            hint="--tag BT, or --tag none",
            code="usage.value",
        )


def _check_existing(loaded: LoadedRun, output: str, translations: Path, *, resume: bool) -> None:
    """Raise `UsageError` where a file of the output exists that no earlier such command has written."""
    from seq2seq.data.clean_copy import copy_paths

    if resume and translations.exists():
        return
    data = loaded.config.data
    paths = [*copy_paths(output, (data.target_language, data.source_language)), Path(f"{output}.yaml")]
    if found := next((path for path in [translations, *paths] if path.exists()), None):
        again = "--resume filters its translations again, if this run made them; or " * (found == translations)
        raise UsageError(f"{found} exists", hint=f"{again}give another name with -o", code="usage.exists")


def _make_pairs(
    loaded: LoadedRun,
    files: list[str],
    output: str,
    method: Method,
    limits: FilterOptions,
    target_tag: str | None,
    errors: DecodingErrors,
    *,
    resume: bool,
) -> FilterCounts:
    """Translate, filter, and write the aligned files."""
    from seq2seq.data.pipes import spool_pipes
    from seq2seq.synthesis.filters import SAMPLE, check_direction
    from seq2seq.synthesis.originals import Originals, file_lines
    from seq2seq.synthesis.pairs import translate_all, write_pairs

    path = Path(f"{output}.translations.tsv")
    _check_existing(loaded, output, path, resume=resume)
    files = spool_pipes(files)
    data = loaded.config.data
    originals = Originals(loaded, lambda: file_lines(files, errors, REPLACE), tagged=False)
    sample = list(islice(originals.read(), SAMPLE))
    if not sample:
        raise DataError(
            f"nothing to translate in {', '.join(files)}: no line, or each one is blank, too long or held-out text",
            where=files[0],
            hint="is it the right file?",
            code="data.no-lines",
        )
    languages = data.source_language, data.target_language
    check_direction(sample, originals.genuine, languages, loaded.directory.path)
    options = method.options(loaded)
    translate_all(loaded, originals, options, path, method.identity(), target_tag=target_tag, resume=resume)
    return write_pairs(loaded, originals, path, output, limits, backward=method, replace=resume)


def _report(
    loaded: LoadedRun,
    output: str,
    counts: FilterCounts,
    tag: str | None,
    weight: float | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write OUT.yaml, and print counts and config."""
    from seq2seq.atomic_files import write_text
    from seq2seq.data.clean_copy import copy_paths
    from seq2seq.synthesis.mixed_config import balanced_weight, mixed_config

    data = loaded.config.data
    record = loaded.directory.load_data_record()
    sizes = () if record is None else record.corpora
    genuine = [size for size, corpus in zip(sizes, data.train, strict=False) if corpus.tag is None]
    source, target, receipt = map(str, copy_paths(output, (data.target_language, data.source_language)))
    if weight is None:
        weight = balanced_weight(loaded.config, counts.kept, genuine)
    text = mixed_config(loaded.config, (source, target), tag=tag, weight=weight, pairs=counts.kept, genuine=genuine)
    config = f"{output}.yaml"
    write_text(Path(config), text)
    if as_json:
        files = {"source": source, "target": target, "receipt": receipt, "config": config}
        facts = {**counts.as_dict(), "tag": tag, "weight": weight, "genuine": sum(genuine), "files": files}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    if quiet:
        typer.echo(str(counts.kept))
        return
    typer.echo(presentable(f"{counts.table()}\n\n{text}"), nl=False)
    say(
        f"wrote {source}, {target}, {receipt} and {config}\nnext: seq2seq train CONFIG {shlex.quote(config)}, where "
        "CONFIG is that of a model of this direction, such as config.yaml of a run"
    )
