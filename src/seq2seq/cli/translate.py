"""`seq2seq translate`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from seq2seq.cli.input import REPLACE, check_output, input_text, unwrapped, with_prefixes
from seq2seq.cli.load_options import LoadOptions
from seq2seq.cli.options import (
    BeamSize,
    Checkpoint,
    Device,
    Engine,
    Ensemble,
    Errors,
    Json,
    Keep,
    LengthPenalty,
    MaxLength,
    MaxLengthRatio,
    MinLengthRatio,
    OutputFile,
    Precision,
    Quiet,
    Rerank,
    RerankWeight,
    Run,
    Shortlist,
    TargetTag,
    Threads,
    Workers,
    exclude,
    require,
)
from seq2seq.cli.output import is_finished
from seq2seq.cli.prompt import Prompt, is_conversation
from seq2seq.cli.translate_options import DecodingOptions, OutputFormat
from seq2seq.console import Progress, counted, say, set_quiet, warn
from seq2seq.errors import UsageError
from seq2seq.resumable_output import Output, open_output
from seq2seq.system import garbage_collection_off

if TYPE_CHECKING:
    from seq2seq.alignment.word_alignment import Alignment
    from seq2seq.data.files import DecodingErrors
    from seq2seq.decoding.text_batches import Line, More
    from seq2seq.decoding.translation import Translation
    from seq2seq.decoding.translator import TranslationOptions
    from seq2seq.documents.formats import Format
    from seq2seq.documents.pieces import Document
    from seq2seq.runs.loaded_run import LoadedRun


def translate(
    run: Run,
    file: Annotated[
        Path | None, typer.Argument(help="Text, a segment a line. [default: stdin]", show_default=False)
    ] = None,
    # Output.
    output: OutputFile = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With -o: continue an interrupted run of the same command; a complete file is kept.",
        ),
    ] = False,
    n_best: Annotated[
        int,
        typer.Option(
            "--n-best", min=1, max=1000, help="Translations of each line, best first; the beam is at least as wide."
        ),
    ] = 1,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores", help="Print the score and a tab before each translation; -inf for none, and for copies."
        ),
    ] = False,
    token_scores: Annotated[
        bool, typer.Option("--token-scores", help="With --json: log P of each piece and of the end mark.")
    ] = False,
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Print ` ||| ` and word links such as 0-0 1-2 after each translation.")
    ] = False,
    as_json: Json = False,
    # Search.
    beam_size: BeamSize = None,
    length_penalty: LengthPenalty = None,
    min_length_ratio: MinLengthRatio = None,
    max_length_ratio: MaxLengthRatio = None,
    max_length: MaxLength = None,
    diversity: Annotated[
        float,
        typer.Option(
            "--diversity", min=0, help="With --n-best: penalty, in nats, for a token that an earlier translation has."
        ),
    ] = 0.0,
    # Sampling.
    sample: Annotated[
        bool, typer.Option("--sample", help="Sample translations instead of searching for the best.")
    ] = False,
    mbr: Annotated[
        int | None,
        typer.Option("--mbr", min=2, help="Draw this many samples; print the one most similar to all."),
    ] = None,
    mbr_utility: Annotated[
        Literal["chrf", "bleu"], typer.Option("--mbr-utility", help="Similarity for --mbr.")
    ] = "chrf",
    temperature: Annotated[float, typer.Option("--temperature", min=0.01, help="For samples: below 1 is safer.")] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top-k", min=0, help="For samples: only the k likeliest tokens; 0 is all.")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", min=0.01, max=1.0, help="For samples: only the likeliest tokens of this mass."),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For samples.")] = 1,
    # Input, and what the translation must hold.
    paragraphs: Annotated[
        bool, typer.Option("--paragraphs", help="Lines are paragraphs: translate them sentence by sentence.")
    ] = False,
    wrapped: Annotated[
        bool, typer.Option("--wrapped", help="Lines up to a blank one are a paragraph, which becomes one line.")
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Column of a table, or key of JSON lines, to translate. [default: the source language's]",
        ),
    ] = None,
    prefix: Annotated[
        Path | None, typer.Option("--prefix", help="File with the beginning of each line's translation.")
    ] = None,
    glossary: Annotated[
        Path | None,
        typer.Option("--glossary", help="File with lines of a source phrase, a tab and its required translation."),
    ] = None,
    replace_unknown: Annotated[
        bool, typer.Option("--replace-unknown", help="Replace unknown words by source words (vocabularies of words).")
    ] = False,
    keep: Keep = None,
    target_tag: TargetTag = None,
    errors: Errors = "strict",
    # Model.
    checkpoint: Checkpoint = None,
    ensemble: Ensemble = None,
    engine: Engine = None,
    shortlist: Shortlist = False,
    precision: Precision = None,
    rerank: Rerank = None,
    rerank_weight: RerankWeight = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Maximum number of lines decoded at once.")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Translate text: one line of output (N with --n-best N) for each line of input, in order; blank lines stay blank.

    \b
      seq2seq translate runs/demo input.en -o output.de
      echo "The old man drinks tea." | seq2seq translate runs/demo
      seq2seq translate runs/names names.txt --sample --n-best 5
      seq2seq translate runs/mine letter.txt --wrapped
      seq2seq translate runs/mine page.html -o seite.html

    Web pages, XLIFF, JSON messages, subtitles, tables and JSON lines are translated in place.

    On a terminal, without a file, it asks for lines; :help lists the commands of that prompt.
    """
    set_quiet(quiet)
    job = _Job(
        run=run,
        file=file,
        prefix=prefix,
        wrapped=wrapped,
        column=column,
        target_tag=target_tag,
        errors=errors,
        output=output,
        resume=resume,
        engine=engine,
        loading=LoadOptions(
            device=device,
            threads=threads,
            checkpoint=checkpoint,
            precision=precision,
            workers=workers,
            ensemble=ensemble or (),
            engine=None if engine == "auto" else engine,
            shortlist=shortlist,
            rerank=rerank,
            rerank_weight=rerank_weight,
            batch_size=batch_size,
        ),
        decoding=DecodingOptions(
            beam_size=beam_size,
            length_penalty=length_penalty,
            n_best=n_best,
            diversity=diversity,
            min_length_ratio=min_length_ratio,
            max_length_ratio=max_length_ratio,
            max_length=max_length,
            sample=sample,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            mbr=mbr,
            mbr_utility=mbr_utility,
            glossary=glossary,
            replace_unknown=replace_unknown,
            paragraphs=paragraphs or wrapped,
            keep=keep,
        ),
        output_format=OutputFormat(
            n_best=n_best, as_json=as_json, scores=scores, token_scores=token_scores, alignments=alignments
        ),
    )
    job.check()
    counted_lines = file
    if job.document_format():
        job, counted_lines = job._replace(decoding=job.decoding._replace(paragraphs=True)), None
    if resume and output is not None and is_finished(output, counted_lines, errors, 1 if as_json else n_best):
        say(f"{output} is complete and kept, whatever its input and options were (leave out --resume to replace it)")
    else:
        job.start()


class _Job(NamedTuple):
    """A text to translate, the options of that, and the output."""

    run: Path
    file: Path | None
    prefix: Path | None
    wrapped: bool
    column: str | None
    target_tag: str | None
    errors: DecodingErrors
    output: Path | None
    resume: bool
    engine: Literal["native", "ctranslate2", "auto"] | None
    loading: LoadOptions
    decoding: DecodingOptions
    output_format: OutputFormat

    def check(self) -> None:
        """Raise `UsageError` for options that exclude each other, and for an output that would overwrite an input."""
        loading, decoding = self.loading, self.decoding
        decoding.check()
        self.output_format.check()
        loading.check(decoding.beam_size)
        if self.wrapped:
            conflicts = [("--resume", self.resume), ("--prefix", self.prefix is not None)]
            exclude("--wrapped", conflicts, "a line of output is no longer one of the input")
        if form := self.document_format():
            of_lines = [("--wrapped", self.wrapped), ("--prefix", self.prefix is not None), *self.output_format.given()]
            if option := next((name for name, given in of_lines if given), None):
                raise UsageError(
                    f"{option} is for lines of text, and {self.file} ({form}) is translated in place",
                    hint=f"leave out {option}",
                    code="usage.conflict",
                )
        if self.column is not None:
            require("--column", "a file that is a table or JSON lines", form in ("csv", "tsv", "jsonl"))
        searches = decoding.special_searches()
        if loading.shortlist:
            exclude("--shortlist", searches, "these have the whole vocabulary")
        if loading.rerank is not None:
            exclude("--rerank", searches, "it reorders what a beam has found")
        if self.engine == "auto":
            exclude("--engine auto", [("--resume", self.resume)], "the rest might come from the other engine")
        if self.engine == "ctranslate2":
            conflicts = [
                ("--ensemble", bool(loading.ensemble)),
                ("--alignments", self.output_format.alignments),
                ("--precision", loading.precision is not None),
                ("--shortlist", loading.shortlist),
                ("--glossary", decoding.glossary is not None),
                *searches,
            ]
            exclude("--engine ctranslate2", conflicts, "the native engine alone supports that")
        if self.resume:
            require("--resume", "-o FILE", self.output is not None and str(self.output) != "-")
        runs = (self.run, *loading.ensemble, loading.rerank)
        check_output(self.output, (self.file, self.prefix, decoding.glossary), runs)

    def document_format(self) -> Format | None:
        """The format of a file that is translated in place; None for text, a segment a line."""
        from seq2seq.documents.formats import document_format

        return None if self.file is None or str(self.file) == "-" else document_format(self.file)

    def start(self) -> None:
        """Translate the text, or what is typed at a prompt."""
        if not (self.file or self.output or self.prefix or self.wrapped) and is_conversation():
            loaded, options = self._load()
            Prompt(loaded, options, self.output_format, self.target_tag).run()
            return
        form, document = self.document_format(), None
        lines, more = ((), None) if form else input_text(self.file, self.errors)
        loaded, options = self._load()
        if form and self.file is not None:
            document = self._open_document(self.file, form, loaded)
            lines = document.texts()
        elif self.engine == "auto":
            loaded = self._with_faster_engine(loaded, options)
        tagged = loaded.target_tags.add(unwrapped(lines) if self.wrapped else lines, self.target_tag, "--target-tag")
        prefixed = with_prefixes(tagged, "stdin" if self.file is None else str(self.file), self.prefix)
        identity = None if self.wrapped or self.engine == "auto" else self._identity(loaded)
        with open_output(self.output, identity, resume=self.resume) as stream:
            _translate(loaded, options, prefixed, more, stream, self.output_format, document)

    def _open_document(self, file: Path, form: Format, loaded: LoadedRun) -> Document:
        from seq2seq.documents.opening import open_document

        data = loaded.config.data
        languages = (data.source_language, self.target_tag or data.target_language)
        return open_document(
            file,
            form,
            languages,
            column=self.column,
            inline_tags=form in ("html", "xliff", "json", "srt", "vtt") and loaded.aligns_words(languages[1]),
            errors=self.errors,
            option=REPLACE,
        )

    def _load(self) -> tuple[LoadedRun, TranslationOptions]:
        with garbage_collection_off():
            loaded = self.loading.load(self.run, before_text=True)
        options = self.decoding.options(loaded)
        search = options.search._replace(with_token_scores=self.output_format.token_scores)
        return loaded, options._replace(search=search)

    def _with_faster_engine(self, loaded: LoadedRun, options: TranslationOptions) -> LoadedRun:
        """The run with CTranslate2 if that has all options and is faster; only a large file is worth the comparison."""
        from seq2seq.export.folder import is_export
        from seq2seq.runs.faster_engine import WORTH_MEASURING, faster_engine

        loading, decoding = self.loading, self.decoding
        native_only = [
            *(loading.ensemble, loading.precision, loading.shortlist, loading.rerank),
            *(given for _, given in decoding.special_searches()),
            *(decoding.glossary, self.output_format.alignments),
        ]
        is_large = self.file is not None and self.file.is_file() and self.file.stat().st_size >= WORTH_MEASURING
        if any(native_only) or not is_large or is_export(self.run):
            return loaded
        lines = loaded.target_tags.add(input_text(self.file, self.errors).lines, self.target_tag, "--target-tag")
        return faster_engine(loaded, partial(loading._replace(engine="ctranslate2").load, self.run), lines, options)

    def _identity(self, loaded: LoadedRun) -> dict[str, Any]:
        """The options that `--resume` requires to be equal."""
        identity = {**loaded.identity, "engine": self.engine or "native", "target_tag": self.target_tag}
        return identity | self.decoding.identity() | self.output_format._asdict()


def _translate(
    loaded: LoadedRun,
    options: TranslationOptions,
    lines: Iterator[Line],
    more: More | None,
    output: Output,
    output_format: OutputFormat,
    document: Document | None = None,
) -> None:
    """Translate the lines chunk by chunk, and write each chunk as soon as it is translated."""
    translator = loaded.translator
    output.skip_translated(lines)
    if document is not None:
        document.skip(output.lines)
    number = output.lines
    cut, short = output.counts.get("cut", 0), output.counts.get("short", 0)
    aligner = loaded.aligner() if output_format.alignments else None
    with Progress("translating", None, "lines") as progress:
        for chunk in translator.stream_chunks(lines, options, start=number, more=more):
            if document is None:
                text = output_format.text(number, chunk, aligner)
            else:
                best = [translations[0] for translations in chunk]
                text = document.written([item.text for item in best], partial(_align, loaded, best))
            short += sum(len(found) < output_format.n_best and bool(found[0].pieces) for found in chunk)
            counts = {"cut": cut + translator.outputs_cut, "short": short}
            output.write(text, [translations[0].source for translations in chunk], counts)
            number += len(chunk)
            progress.update(len(chunk))
    cut += translator.outputs_cut
    if cut:
        warn(f"{counted(cut, 'translation')} reached the length limit (--max-length-ratio, --max-length)")
    if short:
        filler = "blank lines" + " of score -inf" * output_format.scores
        rest = "" if output_format.as_json else f"; {filler} stand for the others"
        warn(f"{short:,} lines have fewer than {output_format.n_best} different translations{rest} (more: --beam-size)")


def _align(loaded: LoadedRun, translations: Sequence[Translation], numbers: Sequence[int]) -> Sequence[Alignment]:
    """The word alignments of some of the translations."""
    return loaded.aligner().align_sentences([translations[number].pairs for number in numbers])
