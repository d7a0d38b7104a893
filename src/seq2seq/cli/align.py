"""`seq2seq align`"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from seq2seq.cli.options import Checkpoint, Device, Errors, Json, OutputFile, Quiet, Run, Threads
from seq2seq.cli.outputs import open_output
from seq2seq.cli.streams import input_lines, tagged
from seq2seq.console import Progress, set_quiet
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.data.lines import DecodingErrors
    from seq2seq.experiment import LoadedRun
    from seq2seq.inference.alignment.word_alignment import Alignment, AlignmentOptions, PairAttention, WordAligner

_WINDOW = 1024
_MOST_ON_A_PAGE = 200
_PICTURES = (".svg", ".png", ".html", ".txt")


class _View(NamedTuple):
    """Which of the attention is read or shown."""

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
        typer.Option("--shift", help="Read the step that has a piece as its input, not the one that writes it."),
    ] = False,
    reverse: Annotated[
        Path | None, typer.Option("--reverse", help="A run of the other direction; both alignments are made one.")
    ] = None,
    symmetrise: Annotated[
        str | None,
        typer.Option(
            "--symmetrise",
            help="With --reverse: intersection, grow-diag, grow-diag-final-and, grow-diag-final or union. "
            "[default: grow-diag-final-and]",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", "-p", help="Draw instead: a .svg, .png, .html or .txt file, or - for the terminal."),
    ] = None,
    line: Annotated[
        int | None, typer.Option("--line", min=1, help="Which line to draw; a page (.html) begins there. [default: 1]")
    ] = None,
    subwords: Annotated[bool, typer.Option("--subwords", help="Draw subwords; a page has a switch for them.")] = False,
    target_tag: Annotated[
        str | None,
        typer.Option("--target-tag", help="Language of the targets, where training gave its sources tags: de."),
    ] = None,
    errors: Errors = "strict",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Word alignments from attention: `0-0 1-2` for each pair of lines, words counted from 0; or pictures of it.

    Without --target each line is translated, and its translation and a tab come before the links. Words are what
    spaces divide, so separate punctuation first where it should count by itself.

    \b
      seq2seq align runs/de-en --source a.de --target a.en
      seq2seq align runs/de-en --reverse runs/en-de -s a.de -t a.en --symmetrise intersection
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
    view = _view(layer, head, shift, words=not subwords)
    method = _method(symmetrise)
    text = _Text(source, target, _decoding_errors(errors), target_tag)
    from seq2seq.experiment import load

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads)
    if picture is not None:
        page = picture.suffix.lower() == ".html"
        _draw(picture, _aligner(loaded), _some_pairs(loaded, text, line or 1, _MOST_ON_A_PAGE if page else 1), view)
        return
    aligners = [_aligner(loaded)]
    if reverse is not None:
        aligners.append(_aligner(load(reverse, device=device, threads=threads)))
    at_terminal = source is None and sys.stdin.isatty()
    pairs = _pairs(loaded, text, text.lines(loaded), singly=at_terminal)
    number = 0
    with open_output(output, None) as stream, Progress("aligning", None, "lines") as progress:
        while window := list(islice(pairs, 1 if at_terminal else _WINDOW)):
            found = zip(window, _aligned(aligners, window, view.options, method), strict=True)
            rows = [
                _row(place, pair, links, translated=target is None, as_json=as_json)
                for place, (pair, links) in enumerate(found, start=number + 1)
            ]
            stream.write("".join(row + "\n" for row in rows), (), {})
            number += len(window)
            progress.update(len(window))


class _Text(NamedTuple):
    """What is to be aligned."""

    source: Path | None
    target: Path | None
    errors: DecodingErrors

    tag: str | None
    """Language that the source lines ask for."""

    def lines(self, loaded: LoadedRun) -> Iterable[str]:
        """Source lines."""
        lines = input_lines(self.source, self.errors)
        return lines if self.tag is None else tagged(lines, self.tag, loaded.translator.tokenizers.source)


def _decoding_errors(text: str) -> DecodingErrors:
    match text:
        case "strict" | "replace":
            return text
        case _:
            raise UsageError(
                f"--errors {text} is neither strict nor replace", hint="--errors replace", code="usage.choice"
            )


def _view(layer: str, head: str, shift: bool, *, words: bool) -> _View:
    from seq2seq.inference.alignment.word_alignment import AlignmentOptions

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
                "--line is for pictures; links are of every line", hint="add --picture FILE", code="usage.needs"
            )
        for name, value in (("--layer", layer), ("--head", head)):
            if value == "all":
                raise UsageError(
                    f"{name} all is for pictures; links come from one", hint="add --picture FILE", code="usage.needs"
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


def _method(text: str | None) -> str:
    from seq2seq.inference.alignment.symmetrisation import symmetrise

    method = "grow-diag-final-and" if text is None else text
    symmetrise((), (), method)  # is there such a method?
    return method


def _aligner(loaded: LoadedRun) -> WordAligner:
    from seq2seq.inference.alignment.word_alignment import WordAligner

    translator = loaded.translator
    return WordAligner(translator.model, translator.tokenizers, loaded.config.decoding, translator.device)


def _pairs(loaded: LoadedRun, text: _Text, lines: Iterable[str], *, singly: bool = False) -> Iterator[tuple[str, str]]:
    """Source lines with their translations, read or made by the model; `singly` does not wait for the next line."""
    from seq2seq.data.lines import read_lines

    if text.target is not None:
        yield from _paired(lines, read_lines(text.target, text.errors))
        return
    if singly:
        yield from ((line, loaded.translate([line])[0]) for line in lines)
        return
    waiting: deque[str] = deque()

    def noted() -> Iterator[str]:
        for line in lines:
            waiting.append(line)
            yield line

    for found in loaded.translator.stream(noted()):
        yield waiting.popleft(), found[0].text


def _some_pairs(loaded: LoadedRun, text: _Text, line: int, count: int) -> list[tuple[str, str]]:
    """The pairs from a line on. Other lines are not translated."""
    first, last = line - 1, line - 1 + count
    if text.target is None:
        pairs = list(_pairs(loaded, text, islice(text.lines(loaded), first, last)))
    else:
        pairs = list(islice(_pairs(loaded, text, text.lines(loaded)), first, last))
    if not pairs:
        raise UsageError(f"--line {line} is beyond the end of the text", hint="--line 1", code="usage.picture")
    return pairs


def _paired(sources: Iterable[str], targets: Iterable[str]) -> Iterator[tuple[str, str]]:
    counts = [0, 0]
    for source, target in zip_longest(sources, targets):
        counts[0] += source is not None
        counts[1] += target is not None
        if source is not None and target is not None:
            yield source, target
    if counts[0] != counts[1]:
        raise DataError(
            f"the source has {counts[0]:,} lines, the target {counts[1]:,}",
            hint="the two files must match line by line",
            code="data.line-counts",
        )


def _aligned(
    aligners: list[WordAligner], pairs: list[tuple[str, str]], options: AlignmentOptions, method: str
) -> list[Alignment]:
    """Links of the first aligner, or of it and that of the other direction."""
    from seq2seq.inference.alignment.symmetrisation import symmetrise

    found = aligners[0].align(pairs, options)
    if len(aligners) == 1:
        return found
    turned = aligners[1].align([(target, source) for source, target in pairs], options)
    return [
        tuple(sorted(symmetrise(one, ((i, j) for j, i in other), method)))
        for one, other in zip(found, turned, strict=True)
    ]


def _row(number: int, pair: tuple[str, str], links: Alignment, *, translated: bool, as_json: bool) -> str:
    from seq2seq.inference.alignment.word_alignment import pharaoh

    if as_json:
        row = {"line": number, "source": pair[0], "target": pair[1], "links": links}
        return json.dumps(row, ensure_ascii=False)
    return f"{pair[1]}\t{pharaoh(links)}" if translated else pharaoh(links)


def _draw(picture: Path, aligner: WordAligner, pairs: list[tuple[str, str]], view: _View) -> None:
    from seq2seq.files import write_bytes, write_text
    from seq2seq.inference.alignment.attention_page import html_page
    from seq2seq.inference.alignment.pictures import attention_grid, png_picture, svg_picture, text_picture

    kind = picture.suffix.lower()
    attention: list[PairAttention] = aligner.attention(pairs)
    if kind == ".html":
        write_text(picture, html_page(attention, view.options))
        return
    grid = attention_grid(
        attention[0], view.options, all_layers=view.all_layers, all_heads=view.all_heads, words=view.words
    )
    match kind:
        case ".svg":
            write_text(picture, svg_picture(grid))
        case ".png":
            write_bytes(picture, png_picture(grid))
        case ".txt":
            write_text(picture, text_picture(grid, encoding="utf-8") + "\n")
        case _:
            typer.echo(text_picture(grid))
