"""`seq2seq translate`"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from seq2seq.cli.options import BeamSize, Checkpoint, Device, Json, LengthPenalty, Quiet, Run, Threads
from seq2seq.console import Progress, set_quiet, warn
from seq2seq.errors import UsageError

if TYPE_CHECKING:
    from seq2seq.data.lines import DecodingErrors
    from seq2seq.data.tokenizer import Tokenizer
    from seq2seq.inference.translator import Translation


def translate(
    run: Run,
    file: Annotated[
        Path | None, typer.Argument(help="Text, a segment a line. [default: stdin]", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write. [default: stdout]")] = None,
    beam_size: BeamSize = None,
    length_penalty: LengthPenalty = None,
    n_best: Annotated[int, typer.Option("--n-best", min=1, help="Translations of each line, best first.")] = 1,
    scores: Annotated[
        bool, typer.Option("--scores", help="Print the score and a tab before each translation.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Lines decoded at once at most.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw translations instead of searching for the best.")
    ] = False,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.01, help="With --sample: below 1 is safer.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top-k", min=0, help="With --sample: only the k likeliest tokens; 0 is all.")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option("--top-p", min=0.01, max=1.0, help="With --sample: only the likeliest tokens of this mass."),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With --sample.")] = 1,
    target_tag: Annotated[
        str | None,
        typer.Option("--target-tag", help="Language to translate into, where training gave its sources tags: de."),
    ] = None,
    errors: Annotated[str, typer.Option("--errors", help="Bytes that are not UTF-8: strict or replace.")] = "strict",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Translate line for line: one line out for every line in (N with --n-best N), in order, blank for blank.

    \b
      seq2seq translate runs/demo input.en -o output.de
      echo "The old man drinks tea." | seq2seq translate runs/demo
      seq2seq translate runs/names names.txt --sample --n-best 5
    """
    set_quiet(quiet)
    if errors not in ("strict", "replace"):
        raise UsageError(f"--errors {errors} is neither strict nor replace", hint="--errors replace")
    if not sample and (temperature != 1.0 or top_k or top_p != 1.0):
        raise UsageError("--temperature, --top-k and --top-p belong to --sample", hint="add --sample")
    lines = _input_lines(file, "replace" if errors == "replace" else "strict")
    from seq2seq.experiment import load
    from seq2seq.inference.search import Sampling

    loaded = load(run, device=device, checkpoint=checkpoint, threads=threads)
    if target_tag is not None:
        lines = _tagged(lines, target_tag, loaded.translator.tokenizers.source)
    changes: dict[str, object] = {}
    if beam_size is not None:
        changes["beam_size"] = beam_size
    if length_penalty is not None:
        changes["length_penalty"] = length_penalty
    if batch_size is not None:
        changes["batch_sentences"] = batch_size
    settings = loaded.config.decoding.model_copy(update=changes)
    if n_best > settings.beam_size and not sample:
        settings = settings.model_copy(update={"beam_size": n_best})
    sampling = Sampling(temperature, top_k, top_p, seed) if sample else None

    def translated(lines: Iterable[str]) -> Iterator[list[Translation]]:
        return loaded.translator.stream(lines, settings=settings, n_best=n_best, sampling=sampling)

    # A person at a terminal wants an answer to each line; files go through in large windows.
    at_terminal = file is None and sys.stdin.isatty()
    results = chain.from_iterable(translated([line]) for line in lines) if at_terminal else translated(lines)
    with _output(output) as stream, Progress("translating", None, "lines") as progress:
        for number, translations in enumerate(results, start=1):
            _write(stream, number, translations, n_best=n_best, scores=scores, as_json=as_json)
            progress.update()
    if loaded.translator.outputs_cut:
        warn(f"{loaded.translator.outputs_cut:,} translations reached the length limit (decoding.max_length_ratio)")


def _input_lines(file: Path | None, errors: DecodingErrors) -> Iterable[str]:
    from seq2seq.data.lines import decode_lines, read_lines

    if file is not None and str(file) != "-":
        return read_lines(file, errors)
    if sys.stdin.isatty():
        return _prompt()
    return decode_lines(sys.stdin.buffer, "stdin", errors)


def _tagged(lines: Iterable[str], tag: str, tokenizer: Tokenizer) -> Iterable[str]:
    """The lines with a target tag before each, as in training."""
    from seq2seq.data.corpus import add_tag, tag_symbol

    symbol = tag_symbol(tag)
    if symbol not in (known := tokenizer.tags):
        names = ", ".join(name.removeprefix("<2").removesuffix(">") for name in known)
        raise UsageError(
            f"the run knows no target tag {tag}",
            where="--target-tag",
            hint=f"its tags: {names}" if known else "it was trained without target_tag: leave the option out",
        )
    return (add_tag(line, symbol) for line in lines)


def _prompt() -> Iterator[str]:
    """Lines typed at a terminal, until the end of input."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears whole at the end."""
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    temporary = path.with_name(f".partial-{path.name}")
    try:
        stream = temporary.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="choose another file with -o") from None
    try:
        with stream:
            yield stream
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(
    stream: TextIO, number: int, translations: list[Translation], *, n_best: int, scores: bool, as_json: bool
) -> None:
    if as_json:
        found = [
            {"text": item.text, "score": item.score, "log_probability": item.log_probability} for item in translations
        ]
        stream.write(json.dumps({"line": number, "translations": found}, ensure_ascii=False) + "\n")
    else:
        # Always n_best lines a line, so that line i of the input stays at lines (i - 1) n_best + 1 and on.
        padded = [*translations, *[None] * (n_best - len(translations))]
        for item in padded:
            text = item.text if item else ""
            stream.write(f"{item.score if item else 0.0:.4f}\t{text}\n" if scores else f"{text}\n")
    if stream is sys.stdout:
        stream.flush()
