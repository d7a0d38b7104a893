"""`seq2seq data`"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.input import check_output, check_prefix
from seq2seq.cli.new_config import named_corpora
from seq2seq.cli.options import (
    HELP,
    ConfigArguments,
    HtmlFile,
    Json,
    PairsFile,
    Quiet,
    SourceFile,
    TargetFile,
    TestFiles,
    ValidFiles,
    exclude_json,
    split_arguments,
)
from seq2seq.cli.output import write_whole
from seq2seq.console import format_table, say, set_quiet
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.config.sources import Source

app = typer.Typer(
    help="Download, check and prepare corpora.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None
)


@app.command(short_help="Download a parallel corpus.")
def download(
    corpus: Annotated[
        str, typer.Argument(help="Dataset id of the Hugging Face hub, URL, or mtdata:ID.", show_default=False)
    ],
    source: Annotated[str | None, typer.Option("--source", "-s", help="Source column of a dataset, e.g. en.")] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Target column of a dataset, e.g. de.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the files; of a URL also a file.")] = "data",
    config: Annotated[str | None, typer.Option("--config", help="Configuration of the dataset, e.g. de-en.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="Split; may be repeated. [default: train]")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, tag or branch to pin.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Hash that the file of a URL must have.")] = None,
    quiet: Quiet = False,
) -> None:
    """Download a parallel corpus, with a record of its origin beside it.

    A dataset of the hub and a corpus of mtdata become two text files with one sentence a line; a URL becomes the file.

    \b
      seq2seq data download bentrevett/multi30k -s en -t de --split train
      seq2seq data download https://host/corpus.de.gz -o data/ --sha256 HASH
      seq2seq data download mtdata:Statmt-news_commentary-16-deu-eng
    """
    set_quiet(quiet)
    from seq2seq.data.download import MTDATA, download_hub, download_mtdata, download_url

    is_url = "://" in corpus
    of_dataset = {"-s": source, "-t": target, "--config": config, "--split": split, "--revision": revision}
    given = [name for name, value in of_dataset.items() if value is not None]
    if given and (is_url or corpus.startswith(MTDATA)):
        what = f"{given[0]} belongs to a dataset of the hub, not to {corpus}"
        raise UsageError(what, hint=f"leave {' and '.join(given)} out", code="usage.conflict")
    if sha256 is not None and not is_url:
        raise UsageError("--sha256 belongs to a URL", hint="leave --sha256 out", code="usage.conflict")
    if is_url:
        typer.echo(str(download_url(corpus, output, sha256)))
        return
    if corpus.startswith(MTDATA):
        for path in download_mtdata(corpus.removeprefix(MTDATA), Path(output)):
            typer.echo(str(path))
        return
    if not corpus or not source or not target:
        name = "CORPUS" if not corpus else "--target" if source else "--source"
        hint = "seq2seq data download ID -s en -t de"
        raise UsageError(f"{name} is missing or empty", hint=hint, code="usage.value")
    if source == target:
        hint = "--source and --target name the columns of two languages"
        raise UsageError(f"source and target are the same column, {source}", hint=hint, code="usage.same-file")
    from seq2seq.config.sources import HubSource

    for name in split or ["train"]:
        hub_source = HubSource(hub=corpus, config=config, split=name, revision=revision, source=source, target=target)
        for path in download_hub(hub_source, Path(output)):
            typer.echo(str(path))


@app.command(short_help="Clean, tokenise and store the corpora of a config.")
def prepare(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[CONFIG...] [KEY=VALUE...]", help="YAML files, then settings.", show_default=False),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Clean, tokenise and store the corpora of a config, as training would; a table counts the dropped pairs.

    \b
      seq2seq data prepare my.yaml
    """
    set_quiet(quiet)
    from seq2seq.config import load_config
    from seq2seq.data.cache import cache_folder
    from seq2seq.data.pipes import spool_sources
    from seq2seq.data.prepare import prepare as prepare_data

    config = load_config(*split_arguments(arguments))
    data = spool_sources(config.data)
    prepared = prepare_data(data, config.tokenizer, cache=cache_folder(), tell_counts=False)
    if as_json:
        typer.echo(json.dumps(prepared.record, ensure_ascii=False))
        return
    typer.echo(format_table(["training pairs", "count"], prepared.report.rows()))
    say(
        f"validation {len(prepared.valid_pairs):,} pairs, test {len(prepared.test_pairs):,} pairs, "
        f"vocabulary {prepared.tokenizers.source.size:,} / {prepared.tokenizers.target.size:,}"
    )


@app.command(short_help="Find faults in a parallel corpus.")
def check(
    arguments: ConfigArguments = None,
    source: SourceFile = None,
    target: TargetFile = None,
    pairs: PairsFile = None,
    valid: ValidFiles = None,
    test: TestFiles = None,
    fix: Annotated[
        str | None,
        typer.Option("--fix", help="Write a cleaned copy, OUT.LANGUAGE, and OUT.receipt.tsv.", metavar="OUT"),
    ] = None,
    as_json: Json = False,
    html: HtmlFile = None,
    quiet: Quiet = False,
) -> None:
    """Find faults in a parallel corpus: misaligned, swapped, foreign, copied or damaged pairs, test pairs in training.

    Exit code 3 if one of the faults is an error.

    \b
      seq2seq data check --source corpus.en --target corpus.de
      seq2seq data check --pairs corpus.tsv --test test.tsv --fix clean
      seq2seq data check my.yaml --json
      seq2seq data check my.yaml --html check.html
    """
    set_quiet(quiet)
    if fix is not None:
        check_prefix(fix, "--fix")
    exclude_json(html, as_json)
    from seq2seq.checks.corpus import CorpusCheck
    from seq2seq.config.sources import files_of
    from seq2seq.data.clean_copy import clean_copy, copy_paths
    from seq2seq.reports.corpus_page import corpus_page
    from seq2seq.reports.page import to_html, to_text

    train, held_out, languages = _corpora_to_check(arguments, source, target, pairs, valid, test)
    check_output(html, [Path(name) for corpus in (*train, *held_out) for name in files_of(corpus)], option="--html")
    with nullcontext() if fix is None else clean_copy(fix, languages) as copy:
        checker = CorpusCheck(languages, held_out, copy)
        if not checker.identifies_languages:
            say("py3langid is not installed: a third language is found by its script alone")
        reports = [checker.check(corpus) for corpus in train]
    if html is not None:
        write_whole(html, to_html(corpus_page(reports)))
    if str(html) == "-":
        pass
    elif as_json:
        typer.echo(json.dumps([report.as_dict() for report in reports], ensure_ascii=False))
    else:
        typer.echo(to_text(corpus_page(reports)))
    if fix is not None:
        say(f"wrote {', '.join(map(str, copy_paths(fix, languages)))}")
    elif hints := [hint for report in reports if report.wants_conversion for hint in report.conversions]:
        say("next: " + "\n      ".join(hints))
    elif any(report.failed for report in reports):
        say("next: the same command with --fix OUT writes a cleaned copy, and a receipt of every change")
    if any(report.failed for report in reports):
        raise typer.Exit(DataError.exit_code)


def _corpora_to_check(
    arguments: list[str] | None,
    source: str | None,
    target: str | None,
    pairs: str | None,
    valid: list[str] | None,
    test: list[str] | None,
) -> tuple[list[Source], list[Source], tuple[str, str]]:
    """Training corpora, validation and test corpora, and languages, of options or a config."""
    named = [option for option, given in (("--pairs", pairs), ("--source", source), ("--target", target)) if given]
    if named and arguments:
        what = f"{named[0]} is for a check without a config, and {arguments[0]} is given"
        raise UsageError(what, hint=f"leave {named[0]} or {arguments[0]} out", code="usage.conflict")
    if corpora := named_corpora(source, target, pairs, valid, test):
        return [corpora.train], [*corpora.valid, *corpora.test], corpora.languages
    if not arguments:
        hint = "give a config, --pairs FILE, or --source FILE --target FILE"
        raise UsageError("nothing to check", hint=hint, code="usage.nothing-to-do")
    from seq2seq.config import load_config
    from seq2seq.data.pipes import spool_sources

    data = spool_sources(load_config(*split_arguments(arguments)).data)
    return list(data.train), [*data.valid, *data.test], (data.source_language, data.target_language)
