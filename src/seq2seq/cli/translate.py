"""`seq2seq translate`"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seq2seq.cli.input import check_output, input_text, unwrapped, with_prefixes
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
    parse_kinds,
    require,
)
from seq2seq.cli.output import Output, is_finished, open_output
from seq2seq.cli.prompt import Prompt, is_conversation
from seq2seq.cli.translate_options import DecodingOptions, OutputFormat
from seq2seq.console import Progress, counted, say, set_quiet, warn
from seq2seq.system import garbage_collection_off

if TYPE_CHECKING:
    from seq2seq.decoding.text_batches import Line, More
    from seq2seq.decoding.translator import TranslationOptions
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

    On a terminal, without a file, it asks for lines; :help lists the commands of that prompt.
    """
    set_quiet(quiet)
    decoding = DecodingOptions(
        beam_size,
        length_penalty,
        n_best,
        diversity,
        min_length_ratio,
        max_length_ratio,
        max_length,
        sample,
        temperature,
        top_k,
        top_p,
        seed,
        mbr,
        mbr_utility,
        glossary,
        replace_unknown,
        paragraphs or wrapped,
        parse_kinds(keep),
    )
    output_format = OutputFormat(n_best, as_json, scores, token_scores, alignments)
    decoding.check()
    output_format.check()
    loading = LoadOptions(
        device,
        threads,
        checkpoint,
        precision,
        workers,
        ensemble or (),
        None if engine == "auto" else engine,
        shortlist,
        rerank,
        rerank_weight,
    )
    loading.check(beam_size)
    conflicts = [("--resume", resume), ("--prefix", prefix is not None)]
    exclude("--wrapped", conflicts if wrapped else [], "a line of output is no longer one of the input")
    searches = [("--sample", sample), ("--mbr", mbr is not None), ("--diversity", diversity > 0)]
    exclude("--shortlist", searches if shortlist else [], "these have the whole vocabulary")
    exclude("--rerank", searches if rerank is not None else [], "it reorders what a beam has found")
    exclude("--engine auto", [("--resume", resume and engine == "auto")], "the rest might come from the other engine")
    if resume:
        require("--resume", "-o FILE", output is not None and str(output) != "-")
    check_output(output, (file, prefix, glossary))
    if resume and output is not None and is_finished(output, file, errors, 1 if as_json else n_best):
        say(f"{output} is complete and kept, whatever its options were (leave out --resume to replace it)")
        return
    if engine == "ctranslate2":
        conflicts = [
            ("--ensemble", bool(ensemble)),
            ("--alignments", alignments),
            ("--precision", precision is not None),
            ("--shortlist", shortlist),
        ]
        exclude("--engine ctranslate2", conflicts, "the native engine alone supports that")
    talks = file is None and output is None and prefix is None and not wrapped and is_conversation()
    text = input_text(file, errors)
    with garbage_collection_off():
        loaded = loading.load(run)
    if batch_size is not None:
        loaded.translator.settings = loaded.translator.settings.model_copy(update={"batch_sentences": batch_size})
    options = decoding.options(loaded)
    options = options._replace(search=options.search._replace(with_token_scores=token_scores))
    # The native engine alone supports these.
    special = ensemble or alignments or precision or sample or mbr or diversity or glossary or shortlist or rerank
    if engine == "auto" and not special and file is not None and file.is_file():
        from seq2seq.export.folder import is_export
        from seq2seq.runs.faster_engine import WORTH_MEASURING, faster_engine

        if file.stat().st_size >= WORTH_MEASURING and not is_export(run):
            begin = loaded.target_tags.add(input_text(file, errors).lines, target_tag, "--target-tag")
            loaded = faster_engine(loaded, partial(loading._replace(engine="ctranslate2").load, run), begin, options)
    if talks:
        Prompt(loaded, options, output_format, target_tag).run()
        return
    given = unwrapped(text.lines) if wrapped else text.lines
    tagged = loaded.target_tags.add(given, target_tag, "--target-tag")
    lines = with_prefixes(tagged, "stdin" if file is None else str(file), prefix)
    identity = {**loaded.identity, "engine": engine or "native", "target_tag": target_tag}
    if shortlist:
        identity["shortlist"] = "yes"
    identity |= decoding.identity() | output_format._asdict()
    with open_output(output, None if wrapped or engine == "auto" else identity, resume=resume) as stream:
        _translate(loaded, options, lines, text.more, stream, output_format)


def _translate(
    loaded: LoadedRun,
    options: TranslationOptions,
    lines: Iterator[Line],
    more: More | None,
    output: Output,
    output_format: OutputFormat,
) -> None:
    """Translate the lines chunk by chunk, and write each chunk as soon as it is translated."""
    translator = loaded.translator
    output.skip_translated(lines)
    number = output.lines
    cut, short = output.counts.get("cut", 0), output.counts.get("short", 0)
    aligner = loaded.aligner() if output_format.alignments else None
    with Progress("translating", None, "lines") as progress:
        for chunk in translator.stream_chunks(lines, options, start=number, more=more):
            text = output_format.text(number, chunk, aligner)
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
