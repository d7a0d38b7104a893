"""`seq2seq align`"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from seq2seq.alignment.symmetrisation import Symmetrisation
from seq2seq.cli.input import PairText, check_output
from seq2seq.cli.options import (
    Checkpoint,
    Device,
    Errors,
    Json,
    OutputFile,
    Quiet,
    Run,
    TargetTag,
    Threads,
    exclude,
    require,
)
from seq2seq.cli.output import write_whole
from seq2seq.console import Progress, set_quiet, warn
from seq2seq.errors import UsageError
from seq2seq.resumable_output import open_output

if TYPE_CHECKING:
    from seq2seq.alignment.word_alignment import Alignment, AlignmentOptions, WordAligner
    from seq2seq.data.files import Pair
    from seq2seq.decoding.workers import Parallelism
    from seq2seq.runs.loaded_run import LoadedRun

_MAX_PAGE_PAIRS = 200
_PICTURES = (".svg", ".png", ".html", ".txt")


class _View(NamedTuple):
    """The attention weights that are read or drawn."""

    options: AlignmentOptions
    all_layers: bool
    all_heads: bool
    words: bool


def align(
    run: Run,
    source: Annotated[
        Path | None, typer.Option("--source", "-s", help="Source text, a segment a line. [default: stdin]")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--target", "-t", help="Its translation. [default: the run's own]")
    ] = None,
    output: OutputFile = None,
    layer: Annotated[str, typer.Option("--layer", help="Decoder layer from 1, mean, or (pictures) all.")] = "mean",
    head: Annotated[str, typer.Option("--head", help="Head from 1, mean, or (pictures) all.")] = "mean",
    shift: Annotated[
        bool,
        typer.Option("--shift", help="Use the step that has a piece as its input, not the one that writes it."),
    ] = False,
    reverse: Annotated[
        Path | None, typer.Option("--reverse", help="A run of the other direction; both alignments are symmetrised.")
    ] = None,
    symmetrise: Annotated[
        Symmetrisation | None,
        typer.Option(
            "--symmetrise",
            metavar="METHOD",
            help="With --reverse: intersection, grow-diag, grow-diag-final-and, grow-diag-final or union. "
            "[default: grow-diag-final-and]",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            "-p",
            help="Draw a picture instead of writing links: a .svg, .png, .html or .txt file, or - for the terminal.",
        ),
    ] = None,
    line: Annotated[
        int | None, typer.Option("--line", min=1, help="Line to draw; an .html page begins there. [default: 1]")
    ] = None,
    subwords: Annotated[bool, typer.Option("--subwords", help="Draw subwords; a page has a switch for them.")] = False,
    target_tag: TargetTag = None,
    errors: Errors = "strict",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Word alignments from attention: `0-0 1-2` for each pair of lines, words counted from 0; or pictures of it.

    Without --target each line is translated, and the translation and a tab are printed before the links. Words are
    separated by spaces: tokenise the text first to align punctuation.

    \b
      seq2seq align runs/de-en --source a.de --target a.en
      seq2seq align runs/de-en --reverse runs/en-de -s a.de -t a.en
      echo "Das ist gut ." | seq2seq align runs/de-en --picture - --layer all
    """
    set_quiet(quiet)
    if target is not None and source is None:
        raise UsageError("--target needs --source", hint="--source FILE --target FILE", code="usage.needs")
    if symmetrise is not None and reverse is None:
        raise UsageError(
            "--symmetrise needs --reverse", hint="--reverse RUN, a run of the other direction", code="usage.needs"
        )
    _check_picture(picture, line, layer, head, reverse)
    if subwords:
        require("--subwords", "--picture FILE", picture is not None)
    if picture is not None:
        links = [("--output", output is not None), ("--json", as_json)]
        exclude("--picture", links, "it is drawn instead of links")
    check_output(output, (source, target), (run, reverse))
    check_output(picture, (source, target), (run, reverse), option="--picture")
    view = _view(layer, head, shift, words=not subwords)
    text = PairText(source, target, errors)
    from seq2seq.runs.load import load

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads)
    if picture is not None:
        page = picture.suffix.lower() == ".html"
        pairs = text.some(loaded, target_tag, line or 1, _MAX_PAGE_PAIRS if page else 1)
        _draw(picture, loaded.aligner(), pairs, view)
        return
    other = None if reverse is None else load(reverse, device=device, threads=threads)
    from seq2seq.decoding.workers import Parallelism

    # A pipe may wait for the links of its first lines, and translating takes all workers.
    are_files = all(file is not None and file.is_file() for file in (source, target))
    parallelism = loaded.translator.parallelism if are_files else Parallelism()
    chunks = text.chunks(loaded, target_tag, parallelism.scored_pairs)
    runs = _Runs(loaded, other, symmetrise or "grow-diag-final-and")
    _align(runs, chunks, view.options, output, parallelism, translated=target is None, as_json=as_json)


class _Runs(NamedTuple):
    """A run, and possibly one of the other direction, that align pairs."""

    loaded: LoadedRun
    reverse: LoadedRun | None
    method: Symmetrisation
    """Symmetrisation of the two alignments."""

    def check(self, pairs: Sequence[Pair]) -> None:
        """Raise `UsageError` if both runs have the same direction; warn if source and target seem to be exchanged."""
        from seq2seq.decoding.forced_decoding import translates_forward

        runs = [self.loaded] if self.reverse is None else [self.loaded, self.reverse]
        if any(run.translator.tokenizers.source.tags for run in runs):
            return  # trained on several languages, possibly in both directions
        forward = [translates_forward(run.translator.scorer, pairs) for run in runs]
        if self.reverse is not None and _same_direction(self.loaded, self.reverse, forward):
            raise UsageError(
                f"{self.reverse.directory.path} translates in the same direction as {self.loaded.directory.path}",
                where="--reverse",
                hint="name a run that was trained with source and target exchanged, or leave --reverse out",
                code="usage.conflict",
            )
        if forward[0] is False:
            warn(
                f"{self.loaded.directory.path} seems to translate the other way, from the text of --target to that of"
                " --source; exchange the two"
            )

    def align(self, pairs: Sequence[Pair], options: AlignmentOptions, start: int) -> list[Alignment]:
        """Links of the first run, symmetrised with those of the other run if there is one; see `WordAligner.align`."""
        from seq2seq.alignment.symmetrisation import symmetrise

        forward = self.loaded.aligner().align(pairs, options, start=start)
        if self.reverse is None:
            return forward
        swapped = [(target, self.untagged(source)) for source, target in pairs]
        backward = self.reverse.aligner().align(swapped, options, start=start)
        return [
            tuple(sorted(symmetrise(one, ((i, j) for j, i in other), self.method)))
            for one, other in zip(forward, backward, strict=True)
        ]

    def untagged(self, source: str) -> str:
        """A source text without its target tag."""
        return self.loaded.target_tags.split(source)[1]


def _same_direction(one: LoadedRun, other: LoadedRun, forward: Sequence[bool | None]) -> bool:
    """Whether both runs translate in the same direction, by their scores, else by the languages in their configs."""
    if None not in forward:
        return forward[0] == forward[1]
    languages = [(run.config.data.source_language, run.config.data.target_language) for run in (one, other)]
    unnamed = ("src", "tgt")
    return one.weights == other.weights or languages[0] == languages[1] != unnamed


def _align(
    runs: _Runs,
    chunks: Iterable[list[Pair]],
    options: AlignmentOptions,
    output: Path | None,
    parallelism: Parallelism,
    *,
    translated: bool,
    as_json: bool,
) -> None:
    from seq2seq.decoding.workers import map_parts

    def numbered() -> Iterator[tuple[int, list[Pair]]]:
        start = 0
        for chunk in chunks:
            if not start:
                runs.check(chunk)
            yield start, chunk
            start += len(chunk)

    def rows_of(part: tuple[int, list[Pair]]) -> list[str]:
        start, chunk = part
        aligned = zip(chunk, runs.align(chunk, options, start), strict=True)
        return [
            _row(line, (runs.untagged(source), target), links, translated=translated, as_json=as_json)
            for line, ((source, target), links) in enumerate(aligned, start=start + 1)
        ]

    with open_output(output, None) as stream, Progress("aligning", None, "lines") as progress:
        for rows in map_parts(rows_of, numbered(), parallelism):
            stream.write("".join(row + "\n" for row in rows), (), {})
            progress.update(len(rows))


def _view(layer: str, head: str, shift: bool, *, words: bool) -> _View:
    from seq2seq.alignment.word_alignment import AlignmentOptions

    options = AlignmentOptions(_number("--layer", layer), _number("--head", head), shift)
    return _View(options, layer == "all", head == "all", words)


def _number(option: str, text: str) -> int | None:
    if text in ("mean", "all"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"{option} {text} is neither a number from 1 nor mean or all", hint=f"{option} 1", code="usage.choice"
        )
    return int(text)


def _check_picture(picture: Path | None, line: int | None, layer: str, head: str, reverse: Path | None) -> None:
    if picture is None:
        if line is not None:
            raise UsageError(
                "--line is for pictures; links are of every line",
                hint="add --picture FILE",
                code="usage.needs",
            )
        for name, value in (("--layer", layer), ("--head", head)):
            if value == "all":
                raise UsageError(
                    f"{name} all is for pictures; links are those of one", hint="add --picture FILE", code="usage.needs"
                )
        return
    if str(picture) != "-" and picture.suffix.lower() not in _PICTURES:
        raise UsageError(
            f"--picture {picture}: no such kind of picture",
            hint=f"one of {', '.join(_PICTURES)}, or -",
            code="usage.picture",
        )
    if reverse is not None:
        raise UsageError("--picture shows one run", hint="leave --reverse out", code="usage.conflict")


def _row(number: int, pair: Pair, links: Alignment, *, translated: bool, as_json: bool) -> str:
    from seq2seq.alignment.word_alignment import pharaoh

    if as_json:
        row = {"line": number, "source": pair[0], "target": pair[1], "links": links}
        return json.dumps(row, ensure_ascii=False)
    return f"{pair[1]}\t{pharaoh(links)}" if translated else pharaoh(links)


def _draw(picture: Path, aligner: WordAligner, pairs: Sequence[Pair], view: _View) -> None:
    from seq2seq.alignment.pictures import attention_grid, html_page, png_picture, svg_picture, text_picture

    kind = picture.suffix.lower()
    attention = aligner.attention(pairs)
    if kind == ".html":
        write_whole(picture, html_page(attention, view.options))
        return
    grid = attention_grid(
        attention[0], view.options, all_layers=view.all_layers, all_heads=view.all_heads, words=view.words
    )
    match kind:
        case ".svg":
            write_whole(picture, svg_picture(grid))
        case ".png":
            write_whole(picture, png_picture(grid))
        case ".txt":
            write_whole(picture, text_picture(grid, encoding="utf-8") + "\n")
        case _:
            typer.echo(text_picture(grid))
