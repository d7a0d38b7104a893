"""`seq2seq distill`"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from seq2seq.cli.input import REPLACE
from seq2seq.cli.load_options import LoadOptions
from seq2seq.cli.options import (
    BeamSize,
    Budget,
    Checkpoint,
    Device,
    Ensemble,
    Json,
    Precision,
    Quiet,
    Rerank,
    RerankWeight,
    Run,
    Shortlist,
    Threads,
    Workers,
    check_own_folder,
    exclude,
    machine_overrides,
    split_arguments,
)
from seq2seq.cli.results import print_findings
from seq2seq.console import say, set_quiet
from seq2seq.errors import UsageError, UserError

if TYPE_CHECKING:
    from seq2seq.config import Config
    from seq2seq.decoding.translator import TranslationOptions
    from seq2seq.runs.loaded_run import LoadedRun
    from seq2seq.synthesis.distillation import Size
    from seq2seq.synthesis.filters import FilterCounts


class Targets(NamedTuple):
    """Choice among the teacher's translations of a sentence."""

    beam_size: int | None
    near_reference: bool
    mbr: int | None

    def check(self) -> None:
        """Raise `UsageError` for options that exclude each other."""
        if self.mbr is not None:
            conflicts = [("--beam-size", self.beam_size is not None), ("--near-reference", self.near_reference)]
            exclude("--mbr", conflicts, "it chooses among samples")
        if self.near_reference and self.beam_size is not None:
            from seq2seq.decoding.length_limits import require_beam

            require_beam("--near-reference", self.beam_size)

    def options(self, loaded: LoadedRun) -> TranslationOptions:
        """The options of the translator. Raises `UsageError` for a choice among the translations of a beam of 1."""
        from seq2seq.decoding.candidates import Sampling
        from seq2seq.decoding.length_limits import require_beam
        from seq2seq.decoding.mbr import MBROptions
        from seq2seq.decoding.translator import translation_options

        settings = loaded.translator.settings
        if self.mbr is not None:
            return translation_options(settings, sampling=Sampling())._replace(mbr=MBROptions(self.mbr, "chrf", "13a"))
        beam_size = self.beam_size or settings.beam_size
        if self.near_reference:
            require_beam("--near-reference", beam_size)
        return translation_options(settings, beam_size=beam_size, n_best=beam_size if self.near_reference else 1)


def distill(
    run: Run,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Run directory of the student; its corpus is put into OUT.distilled.",
            metavar="OUT",
            show_default=False,
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE...]", help="Settings of the student.", show_default=False),
    ] = None,
    size: Annotated[
        Literal["small", "tiny", "same"],
        typer.Option("--size", help="small: half the teacher's width; tiny: a quarter; same: its own model."),
    ] = "small",
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="Further source text to translate, a sentence a line. Repeatable."),
    ] = None,
    beam_size: BeamSize = None,
    near_reference: Annotated[
        bool,
        typer.Option("--near-reference", help="Of the beam, take what has the best sentence BLEU with the reference."),
    ] = False,
    mbr: Annotated[
        int | None, typer.Option("--mbr", min=2, help="Of this many samples, take the one most similar to all.")
    ] = None,
    genuine: Annotated[
        bool, typer.Option("--genuine", help="Train on the human translations, too, beside the teacher's.")
    ] = False,
    ensemble: Ensemble = None,
    rerank: Rerank = None,
    rerank_weight: RerankWeight = None,
    budget: Budget = None,
    checkpoint: Checkpoint = None,
    precision: Precision = None,
    shortlist: Shortlist = False,
    workers: Workers = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small, fast student of a run.

    It learns the run's own translations of its training text; the end is a table of speed and scores of both. The same
    command again goes on where it was interrupted.

    \b
      seq2seq distill runs/mine -o runs/small
      seq2seq distill runs/mine -o runs/tiny --size tiny --text mono.en.gz
      seq2seq distill runs/a -o runs/c --size same --ensemble runs/b --genuine
    """
    started = time.monotonic()
    set_quiet(quiet)
    check_own_folder(output, "the student wants a folder of its own", "-o runs/small")
    if output.resolve() == run.resolve():
        raise UsageError(f"{output} is the teacher", where="-o", hint="-o runs/small", code="usage.same-file")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file", where="-o", hint="-o runs/small", code="usage.unwritable")
    targets = Targets(beam_size, near_reference, mbr)
    targets.check()
    if rerank is not None:
        conflicts = [("--mbr", mbr is not None), ("--near-reference", near_reference)]
        exclude("--rerank", conflicts, "both choose among the translations of a sentence")
    if shortlist:
        exclude("--shortlist", [("--mbr", mbr is not None)], "samples have the whole vocabulary")
    student = LoadOptions(device, threads, precision=precision, workers=workers)
    teacher = student._replace(
        checkpoint=checkpoint,
        ensemble=ensemble or (),
        engine="native",
        rerank=rerank,
        rerank_weight=rerank_weight,
        shortlist=shortlist,
    )
    teacher.check(beam_size)
    files, settings = split_arguments(arguments)
    if files:
        raise UsageError(f"{files[0]} is not a setting", hint="training.max_steps=4000", code="usage.command-line")
    from seq2seq.atomic_files import disk_errors, make_folder, write_text
    from seq2seq.config.sources import DISTILLED, files_of
    from seq2seq.runs.corpus_files import require_files
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.runs.run_config import check_run_config

    RunDirectory(output)  # refuses a run with links or FIFOs before anything is translated
    loaded = teacher.load(run)
    search = targets.options(loaded)
    require_files([name for source in loaded.config.data.train for name in files_of(source)] + (text or []))
    own = [f"name={output.name}", f"run_directory={json.dumps(str(output))}"]
    own += machine_overrides(device, threads, budget)
    folder = Path(f"{output}{DISTILLED}")
    is_new = not folder.exists()
    with disk_errors(folder):
        make_folder(folder)
    try:
        student_yaml, config = _config(loaded, size, folder, settings, own, genuine=genuine)
        check_run_config(RunDirectory(output), config)
        write_text(folder / "student.yaml", student_yaml)
    except UserError:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    counts = _translate(loaded, folder, targets, search, text or [])
    _train(config, started, quiet=quiet)
    _compare(loaded, student.load(output), counts, as_json=as_json, quiet=quiet)


def _translate(
    loaded: LoadedRun, folder: Path, targets: Targets, search: TranslationOptions, files: list[str]
) -> FilterCounts:
    """Translate the training sources and further text, and write the student's corpus."""
    from seq2seq.data.pipes import spool_pipes, spool_sources
    from seq2seq.synthesis.distillation import nearest_to_reference, training_lines
    from seq2seq.synthesis.filters import FilterOptions
    from seq2seq.synthesis.originals import Original, Originals, file_lines
    from seq2seq.synthesis.pairs import translate_all, write_pairs

    data = loaded.config.data
    config = loaded.config.model_copy(update={"data": spool_sources(data)})
    files = spool_pipes(files)

    def lines() -> Iterator[Original]:
        return chain(training_lines(config), file_lines(files, data.errors, REPLACE))

    originals = Originals(loaded, lines, tagged=True)
    path = folder / "translations.tsv"
    choose = partial(nearest_to_reference, target_language=data.target_language) if targets.near_reference else None
    translate_all(loaded, originals, search, path, targets._asdict(), choose=choose, resume=None)
    counts = write_pairs(loaded, originals, path, str(folder / "train"), FilterOptions(), replace=True)
    say(counts.table())
    return counts


def _config(
    loaded: LoadedRun, size: Size, folder: Path, settings: list[str], own: list[str], *, genuine: bool
) -> tuple[str, Config]:
    """The student's config as YAML, with the settings of the command line, and with those of this training, too."""
    from seq2seq.config import config_to_yaml, load_config
    from seq2seq.config.yaml import read_yaml
    from seq2seq.data.clean_copy import copy_paths
    from seq2seq.synthesis.distillation import student_config

    data = loaded.config.data
    source, target, _ = map(str, copy_paths(str(folder / "train"), (data.source_language, data.target_language)))
    text = student_config(loaded, size, (source, target), folder, genuine=genuine)
    document = read_yaml(text, str(folder / "student.yaml"))
    header, _, _ = text.partition("\n")
    student = config_to_yaml(load_config([document], settings))
    return f"{header}\n{student}", load_config([document], [*own, *settings])


def _train(config: Config, started: float, *, quiet: bool) -> None:
    from seq2seq.reports.report import refresh_report
    from seq2seq.runs.train import train

    result = train(config, refresh=refresh_report, started=started)
    if not quiet:
        print_findings(result.directory)


def _compare(teacher: LoadedRun, student: LoadedRun, counts: FilterCounts, *, as_json: bool, quiet: bool) -> None:
    from seq2seq.console import format_table
    from seq2seq.synthesis.distillation import comparison, measure

    say("measuring both")
    before, after = measure(teacher), measure(student)
    if as_json:
        facts = {"teacher": before._asdict(), "student": after._asdict(), "lines": counts.as_dict()}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    if quiet:
        split = "test" if "test" in after.scores else "valid"
        typer.echo(f"{after.scores.get(split, {}).get('BLEU', 0.0):.2f}")
        return
    typer.echo(format_table(("", "teacher", "student", ""), comparison(before, after)))
    beams = teacher.config.decoding.beam_size, student.config.decoding.beam_size
    number_format = f", {teacher.identity['precision']}" if "precision" in teacher.identity else ""
    if teacher.backward is not None:
        number_format += f", the teacher reranked by {teacher.backward.directory.path}"
    say(
        f"beam {beams[0]} and {beams[1]}{number_format}, one after the other on {teacher.translator.device}; "
        f"{after.signature}\n"
        f"next: seq2seq translate {shlex.quote(str(student.directory.path))} FILE"
    )
